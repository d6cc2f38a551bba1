"""What every forward process, Gaussian or discrete, offers to losses and samplers."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array


class Process(NamedTuple):
    """A process that turns data into noise, as four pure functions of one array and a scalar time.

    They draw for the whole of an array from one key; `jax.vmap` over keys, arrays and times gives
    each example of a batch its own.
    """

    prior: Callable[..., Array]  # (key, shape) -> x_1, at its true scale
    corrupt: Callable[[Array, Array, Array], tuple[Array, Array]]  # (key, x0, t) -> x_t, its noise
    transition: Callable[[Array, Array, Array, Array], Array]  # (key, x_s, s, t) -> x_t, s < t
    posterior: Callable[[Array, Array, Any, Array, Array], Array]  # (key, x_t, belief, t, s) -> x_s
