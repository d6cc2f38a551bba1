"""The training step: one pure function, the same on one device or many.

Every random draw of an example is keyed by (seed, step, its index in the global batch), so the step
gives the same numbers, up to the order of sums, however the batch is spread over devices,
processes and parts.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxdiff.training import ema
from jaxdiff.training.state import TrainState

# (params, batch, key of the step) -> loss of each example [b]
Loss = Callable[[Any, dict[str, Array], Array], Array]


def train_step(
    state: TrainState,
    batch: dict[str, Array],
    *,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    key: Array,
    ema_decay: float = 0.999,
    ema_warmup: bool = True,
    accumulate: int = 1,
    axis_name: str | None = None,
) -> tuple[TrainState, dict[str, Array]]:
    """One optimiser step on the mean loss over the global batch.

    Args:
      batch: this device's rows, with 'index' [b] their indices in the global batch.
      key: the run's training key; the step's own is folded from it.
      accumulate: parts that the rows are computed in, one after the other; b must be a multiple.
      axis_name: the mapped axis to average over (pmap); None where XLA sees the whole batch.

    Returns:
      the next state, and the scalars 'loss' and 'grad_norm' (before clipping).
    """
    key = jax.random.fold_in(key, state.step)

    def mean_loss(params, part):
        return jnp.mean(loss(params, part, key))

    value_and_grad = jax.value_and_grad(mean_loss)
    value, grads = _mean_over_parts(
        lambda part: value_and_grad(state.params, part), batch, accumulate
    )
    if axis_name is not None:
        value, grads = jax.lax.pmean((value, grads), axis_name)

    updates, optimizer_state = optimizer.update(grads, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    average = ema.update(state.ema, params, state.step, ema_decay, ema_warmup)
    metrics = {'loss': value, 'grad_norm': optax.tree.norm(grads)}
    return TrainState(state.step + 1, params, average, optimizer_state), metrics


def _mean_over_parts(f, batch, parts):
    """The mean of f over equal parts of the batch, one computed after the other."""
    split = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)

    def add(total, i):
        return jax.tree.map(jnp.add, total, f(jax.tree.map(lambda x: x[i], split))), None

    first = f(jax.tree.map(lambda x: x[0], split))
    if jax.default_backend() == 'cpu':
        # Inside a loop XLA:CPU computes the gradients of convolutions some 20 times slower.
        total = functools.reduce(lambda total, i: add(total, i)[0], range(1, parts), first)
    else:
        total, _ = jax.lax.scan(add, first, jnp.arange(1, parts))
    return jax.tree.map(lambda x: x / parts, total)
