"""Parameters as a safetensors file: named arrays and some text, without code to run.

A parameter's name is its way down the tree, `params/down_0_block_0/conv_0/kernel`. Layouts are
Flax's: a dense kernel is [in, out], that of a convolution [h, w, in, out].

Format: https://huggingface.co/docs/safetensors
"""

from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy
from etils import epath
from jax import Array


def flatten(params: Any) -> dict[str, Array]:
    """{'params/conv_in/kernel': array, …} of nested dicts and named tuples of arrays.

    Raises: ValueError where a name has a '/', or a part of the tree has no names (a list).
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {_name(path): leaf for path, leaf in leaves}


def nest(arrays: dict[str, Any], like: Any = None) -> Any:
    """The tree that `flatten` took apart, as nested dicts; with `like` as that tree is built.

    Raises: ValueError where the names, or the shapes, are not those of `like`.
    """
    if like is None:
        tree = {}
        for name, array in arrays.items():
            *above, last = name.split('/')
            place = tree
            for part in above:
                place = place.setdefault(part, {})
            place[last] = array
        return tree
    wanted = flatten(like)
    if differing := sorted(wanted.keys() ^ arrays.keys()):
        raise ValueError(
            f'the parameters are not those of this model: {len(differing)} names are in one of '
            f'them only, such as {differing[0]!r}'
        )
    for name, leaf in wanted.items():
        if arrays[name].shape != leaf.shape:
            raise ValueError(
                f'the parameters are not those of this model: {name!r} has the shape '
                f'{arrays[name].shape}, and must have {leaf.shape}'
            )
    return jax.tree.unflatten(jax.tree.structure(like), [arrays[name] for name in wanted])


def save(path: str | epath.Path, params: Any, metadata: dict[str, str] | None = None) -> None:
    """Writes parameters and text to a file, which is replaced where it exists."""
    # The format's writer takes an array's memory as it lies, whatever its strides say.
    arrays = {name: np.asarray(x, order='C') for name, x in flatten(params).items()}
    epath.Path(path).write_bytes(safetensors.numpy.save(arrays, metadata))


def load(path: str | epath.Path, like: Any = None) -> tuple[Any, dict[str, str]]:
    """Parameters as NumPy arrays, see `nest`, and the text beside them, of a file on this machine."""
    with safetensors.safe_open(path, 'numpy') as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}
        return nest(arrays, like), file.metadata() or {}


def _name(path):
    parts = [getattr(key, 'key', getattr(key, 'name', None)) for key in path]
    if not parts or any(not isinstance(part, str) or '/' in part for part in parts):
        raise ValueError(
            'parameters need names without "/", in dicts or named tuples, '
            f'got {jax.tree_util.keystr(path)!r}'
        )
    return '/'.join(parts)
