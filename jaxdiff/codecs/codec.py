"""What every codec offers: the way from data to diffusion space and back."""

from collections.abc import Callable
from typing import NamedTuple

from jax import Array


class Codec(NamedTuple):
    """`encode(keys [b], x [b, ...]) -> z` and `decode(z) -> x`; keys serve codecs that draw."""

    encode: Callable[[Array, Array], Array]
    decode: Callable[[Array], Array]
