"""What a training run carries from step to step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array


class TrainState(NamedTuple):
    """Steps done, parameters, their moving average and the optimiser's state."""

    step: Array
    params: Any
    ema: Any
    optimizer: optax.OptState


def init(params: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step; the average starts at the parameters."""
    ema = jax.tree.map(jnp.copy, params)  # a copy, since the step donates its state's buffers
    return TrainState(jnp.zeros((), jnp.int32), params, ema, optimizer.init(params))
