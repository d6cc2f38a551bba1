"""What every codec offers: the way from data to diffusion space and back."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array


class Codec(NamedTuple):
    """Data x [b, ...] -> `prepare` -> what a batch holds -> `encode` -> z -> `decode` -> data.

    `prepare(weights, x)` is done once for each example, `encode(keys [b], prepared)` anew each time
    that it is met; keys serve codecs that draw. `decode(weights, z)` gives data again. `weights` are
    an argument of programs, and never constants in them.
    """

    prepare: Callable[[Any, Array], Array]
    encode: Callable[[Array, Array], Array]
    decode: Callable[[Any, Array], Array]
    shape: tuple[int, ...] | None = None  # of z of one example; None: as of x
    weights: Any = ()
