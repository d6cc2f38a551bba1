"""The one loop that runs a sampler."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxdiff.diffusion.denoiser import Denoiser
from jaxdiff.diffusion.samplers.base import Sampler, State


def run(
    keys: Array,
    denoise: Denoiser,
    sampler: Sampler,
    x_1: Array,
    times: Array,
    record: Callable[[State], Any] | None = None,
) -> tuple[State, Any]:
    """Walks from `x_1` at times[0] to times[-1]; one `lax.scan`, so one XLA program under jit.

    Args:
      keys: [b], one per sample; step i uses each key folded with i, so that a sample does not
        depend on the batch that it is drawn in.
      denoise: (x_t, t) -> belief about x0.
      x_1: [b, ...], a draw of the process's prior.
      times: [steps + 1], descending, from `jaxdiff.diffusion.grid`; no steps leave x_1 as it is.
      record: what to keep of the state after each step, for instance `lambda state: state.x`.

    Returns:
      the last state (its `.x` are the samples, its `.nfe` the denoiser's evaluations) and the
      records, stacked over steps (None without `record`).
    """
    times = jnp.asarray(times)
    if jnp.issubdtype(x_1.dtype, jnp.floating):  # at least float32, whatever the denoiser works in
        dtype = jnp.promote_types(x_1.dtype, jnp.float32)
        x_1, times, denoise = x_1.astype(dtype), times.astype(dtype), _as(dtype, denoise)

    def step(state, inputs):
        i, t, s = inputs
        state = sampler.step(jax.vmap(jax.random.fold_in, (0, None))(keys, i), state, t, s, denoise)
        return state, None if record is None else record(state)

    steps = (jnp.arange(len(times) - 1), times[:-1], times[1:])
    return jax.lax.scan(step, sampler.init(x_1, denoise, times), steps)


def sample(keys: Array, denoise: Denoiser, sampler: Sampler, x_1: Array, times: Array) -> Array:
    """The samples alone: see `run`."""
    return run(keys, denoise, sampler, x_1, times)[0].x


def _as(dtype, denoise):
    return lambda x_t, t: jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), denoise(x_t, t))
