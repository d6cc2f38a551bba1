"""What a sampler is: a pair of pure functions, like optax's (init, update)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class State(NamedTuple):
    """Where a sampler stands: x [b, ...], evaluations of the denoiser so far, what it remembers."""

    x: Array
    nfe: Array
    memory: Any = ()


class Sampler(NamedTuple):
    """`init(x_1, denoise, times) -> State` and `step(keys, state, t, s, denoise) -> State`.

    A step goes from t to s < t, draws with one key per sample [b], and asks `denoise` itself, as
    often as it needs.
    """

    init: Callable[..., State]
    step: Callable[..., State]


def start(x_1: Array, denoise: Any, times: Array) -> State:
    """The first state of a sampler that remembers nothing."""
    return State(x_1, jnp.zeros((), jnp.int32))


def normal(keys: Array, x: Array) -> Array:
    """Standard normal noise of the shape and dtype of x [b, ...], each example from its own key."""
    return jax.vmap(lambda key: jax.random.normal(key, x.shape[1:], x.dtype))(keys)
