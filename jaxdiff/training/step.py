"""The training step: one pure function, the same on one device or many.

Every random draw of an example is keyed by (seed, step, its index in the global batch), so the step
gives the same numbers, up to the order of sums, however the batch is spread over devices,
processes and parts.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxdiff.training import ema, health, posthoc
from jaxdiff.training.state import Health, TrainState

# (params, batch, key of the step) -> loss and log signal-to-noise ratio of each example, [b] each
Loss = Callable[[Any, dict[str, Array], Array], tuple[Array, Array]]


def train_step(
    state: TrainState,
    batch: dict[str, Array],
    *,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    key: Array,
    ema_decay: float = 0.999,
    ema_warmup: bool = True,
    gammas: Sequence[float] = (),
    accumulate: int = 1,
    unroll: bool = False,
    axis_name: str | None = None,
    whole: Callable[[Any], Any] = lambda params: params,
) -> tuple[TrainState, dict[str, Array]]:
    """One optimiser step on the mean loss over the global batch.

    Where the loss or the gradient isn't finite, the parameters and the optimiser stand still.

    Args:
      batch: this device's rows, with 'index' [b] their indices in the global batch; 'frozen' is
        what the loss computes with and nothing changes, whole. The loss is told the 'step' as well.
      key: the run's training key; the step's own is folded from it.
      gammas: exponents of the state's power-function averages, see `posthoc`.
      accumulate: parts that the rows are computed in, one after the other; b must be a multiple.
      unroll: the parts without a loop: in one XLA:CPU computes the gradients of convolutions some 20
        times slower.
      axis_name: the mapped axis to average over (pmap); None where XLA sees the whole batch.
      whole: brings sharded parameters together to compute with them (mesh).

    Returns:
      the next state, and 'loss', 'grad_norm' (before clipping), 'in_row' (steps skipped in a row)
      and, by noise level, 'loss_sum' and 'share' [bins], see `health.by_noise`.
    """
    key = step_key(key, state.step, state.health.rollbacks)

    told = {'step': state.step} | {k: batch[k] for k in ('frozen',) if k in batch}
    batch = {k: v for k, v in batch.items() if k not in told}

    def mean_loss(params, part):
        losses, logsnr = loss(params, part | told, key)
        return jnp.mean(losses), health.by_noise(losses, logsnr)

    value_and_grad = jax.value_and_grad(mean_loss, has_aux=True)
    params = whole(state.params)
    (value, bins), grads = _mean_over_parts(
        lambda part: value_and_grad(params, part), batch, accumulate, unroll
    )
    if axis_name is not None:
        value, bins, grads = jax.lax.pmean((value, bins, grads), axis_name)

    norm = optax.tree.norm(grads)
    good = jnp.isfinite(value) & jnp.isfinite(norm)
    updates, optimizer_state = optimizer.update(grads, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    average = ema.update(state.ema, params, state.step, ema_decay, ema_warmup)
    params, average, optimizer_state = jax.tree.map(
        lambda new, old: jnp.where(good, new, old),
        (params, average, optimizer_state),
        (state.params, state.ema, state.optimizer),
    )
    profiles = tuple(  # a profile is one of all steps: a skipped one counts as standing still
        posthoc.update(profile, params, state.step, gamma)
        for profile, gamma in zip(state.profiles, gammas, strict=True)
    )
    skipped = jnp.where(good, 0, 1)
    in_row = skipped * (state.health.in_row + 1)
    now = Health(state.health.skipped + skipped, in_row, state.health.rollbacks)
    metrics = {'loss': value, 'grad_norm': norm, 'in_row': in_row} | bins
    return TrainState(state.step + 1, params, average, profiles, optimizer_state, now), metrics


def step_key(key: Array, step: Array | int, rollbacks: Array | int) -> Array:
    """The key of the step after `step` steps; another one after each rollback."""
    return jax.random.fold_in(jax.random.fold_in(key, step), rollbacks)


def _mean_over_parts(f, batch, parts, unroll):
    """The mean of f over equal parts of the batch, one computed after the other.

    A part takes every `parts`-th row, so that where the rows are sharded each part is so too.
    """
    split = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]), batch)

    def add(total, i):
        return jax.tree.map(jnp.add, total, f(jax.tree.map(lambda x: x[:, i], split))), None

    first = f(jax.tree.map(lambda x: x[:, 0], split))
    if unroll:
        total = functools.reduce(lambda total, i: add(total, i)[0], range(1, parts), first)
    else:
        total = jax.lax.scan(add, first, jnp.arange(1, parts))[0] if parts > 1 else first
    return jax.tree.map(lambda x: x / parts, total)
