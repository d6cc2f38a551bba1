"""What a training run carries from step to step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array


class Health(NamedTuple):
    """Steps that were skipped because a number wasn't finite, and what was done about them."""

    skipped: Array  # steps skipped in all
    in_row: Array  # of them, those since the last step that was taken
    rollbacks: Array  # returns to an earlier checkpoint, each to another order of the data


class TrainState(NamedTuple):
    """Steps done, parameters, their moving averages, the optimiser's state and the run's health."""

    step: Array
    params: Any
    ema: Any
    profiles: tuple[Any, ...]  # averages by power functions, see `posthoc`
    optimizer: optax.OptState
    health: Health


def init(params: Any, optimizer: optax.GradientTransformation, profiles: int = 0) -> TrainState:
    """The state before the first step; the averages start at the parameters."""

    def copy():  # since the step donates its state's buffers
        return jax.tree.map(jnp.copy, params)

    zero = jnp.zeros((), jnp.int32)
    averages = tuple(copy() for _ in range(profiles))
    health = Health(zero, jnp.copy(zero), jnp.copy(zero))
    return TrainState(jnp.copy(zero), params, copy(), averages, optimizer.init(params), health)
