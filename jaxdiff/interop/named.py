"""A module's parameters from arrays by other people's names."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np


def image(side: int) -> tuple:
    """One image, what a network of images is called with."""
    return (jax.ShapeDtypeStruct((1, side, side, 3), np.float32),)


def take(
    net: nn.Module,
    given: tuple,
    arrays: Mapping[str, np.ndarray],
    name: Callable[[list[str]], str],
    turn: Callable[[str, np.ndarray], np.ndarray],
    model: str,
) -> Any:
    """The variables {'params': …} of a network, as float32 in NumPy.

    Args:
      given: what it is called with, by shape and dtype.
      arrays: more than the network has may be there.
      name: the way down the parameters, such as ['conv', 'kernel'] -> the array's name.
      turn: (name, array) -> the array as Flax has it.
      model: in words.

    Raises: ValueError where an array is missing or of another shape.
    """
    wanted = jax.eval_shape(net.init, jax.random.key(0), *given)
    leaves, tree = jax.tree_util.tree_flatten_with_path(wanted)
    names = [name([key.key for key in path][1:]) for path, _ in leaves]
    if missing := [one for one in names if one not in arrays]:
        raise ValueError(
            f'it lacks {len(missing)} of the {len(names)} arrays of {model}, such as {missing[0]!r}'
        )
    found = []
    for one, (_, leaf) in zip(names, leaves):
        array = turn(one, arrays[one])
        if array.shape != leaf.shape:
            raise ValueError(
                f'{one!r} has the shape {arrays[one].shape}, turned as Flax has it {array.shape}, '
                f'which in {model} is {leaf.shape}'
            )
        found.append(np.ascontiguousarray(array, np.float32))
    return tree.unflatten(found)
