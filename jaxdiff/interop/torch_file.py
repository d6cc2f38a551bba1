"""What PyTorch's `torch.save` wrote of a state dict, read without PyTorch and without running it.

Such a file is a pickle that names raw arrays, and those arrays: members of a zip archive since
PyTorch 1.6, before that one after the other behind the pickle. A pickle can call whatever it names;
here it may name what a state dict needs and nothing else.

References:
  https://docs.pytorch.org/docs/stable/notes/serialization.html
  https://github.com/pytorch/pytorch, `torch/serialization.py`: both formats.
"""

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax.numpy as jnp
import numpy as np

_DTYPES = {
    'DoubleStorage': np.float64,
    'FloatStorage': np.float32,
    'HalfStorage': np.float16,
    'BFloat16Storage': jnp.bfloat16,
    'LongStorage': np.int64,
    'IntStorage': np.int32,
    'ShortStorage': np.int16,
    'CharStorage': np.int8,
    'ByteStorage': np.uint8,
    'BoolStorage': np.bool_,
}
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of the older format


class _Storage(NamedTuple):
    """A raw array that a pickle names."""

    key: str
    dtype: np.dtype
    count: int


class _Tensor(NamedTuple):
    """A part of a raw array, not yet looked up."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements


def load(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a state dict by their names.

    Raises: FileNotFoundError; ValueError where the file isn't one, is damaged, or its pickle names
      anything but arrays, in one line.
    """
    with Path(path).open('rb') as file:
        try:
            return (_zip if zipfile.is_zipfile(file) else _older)(file)
        except OSError:
            raise
        except Exception as error:  # bytes that are something else may end in any
            raise ValueError(f'{path} is not a state dict of PyTorch: {_line(error)}') from error


def _zip(file):
    with zipfile.ZipFile(file) as archive:
        pickled = next((n for n in archive.namelist() if n.split('/')[1:] == ['data.pkl']), None)
        if pickled is None:
            raise ValueError('it is an archive without data.pkl')
        top = pickled.removesuffix('data.pkl')
        if top + 'constants.pkl' in archive.namelist():
            raise ValueError('it is a TorchScript program; its state_dict() must be saved instead')
        if top + 'byteorder' in archive.namelist() and archive.read(top + 'byteorder') != b'little':
            raise ValueError('its numbers are big-endian')
        tensors = _tensors(_Unpickler(io.BytesIO(archive.read(pickled))).load())
        raw = {key: archive.read(f'{top}data/{key}') for key in _keys(tensors)}
        return _arrays(tensors, raw)


def _older(file):
    file.seek(0)
    if _plain(file) != _MAGIC or _plain(file) != _PROTOCOL:
        raise ValueError('it does not begin as one')
    if not _plain(file)['little_endian']:
        raise ValueError('its numbers are big-endian')
    tensors = _tensors(_Unpickler(file).load())
    storages, raw = _keys(tensors), {}
    for key in _plain(file):
        count = int.from_bytes(file.read(8), 'little')
        if key not in storages or count != storages[key].count:
            raise ValueError('its arrays are not those that its pickle names')
        raw[key] = file.read(count * storages[key].dtype.itemsize)
    return _arrays(tensors, raw)


class _Unpickler(pickle.Unpickler):
    """Admits arrays in dicts, the arrays as parts of raw ones that are read later."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ('collections', 'OrderedDict'):
            return OrderedDict
        if (module, name) == ('torch._utils', '_rebuild_tensor_v2'):
            # A new one each time: a pickle can set attributes of what it is given.
            return lambda storage, offset, shape, strides, *_: _Tensor(
                storage, offset, shape, strides
            )
        if module == 'torch' and name in _DTYPES:
            return name
        raise ValueError(
            f'it asks for {module}.{name}, which a state dict of arrays needs not, and is refused'
        )

    def persistent_load(self, pid: Any) -> _Storage:
        match pid:
            case ('storage', kind, str(key), str(), int(count), *rest):
                if kind in _DTYPES and rest in ([], [None]):
                    return _Storage(key, np.dtype(_DTYPES[kind]), count)
        raise ValueError(f'it names an array in a way that is not known: {pid!r}')


def _plain(file: BinaryIO) -> Any:
    """The next pickle of a file, of numbers and strings only."""

    class Plain(pickle.Unpickler):
        def find_class(self, module, name):
            raise ValueError(f'it asks for {module}.{name} before any array, and is refused')

    return Plain(file).load()


def _tensors(found):
    """The state dict that was read, with nothing else in it."""
    if not isinstance(found, dict) or not found:
        raise ValueError(f'it holds no dict of arrays but {type(found).__name__}')
    for name, tensor in found.items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise ValueError(f'{name!r} is no array but {type(tensor).__name__}')
    return found


def _keys(tensors):
    return {tensor.storage.key: tensor.storage for tensor in tensors.values()}


def _arrays(tensors, raw):
    return {name: _array(name, tensor, raw[tensor.storage.key]) for name, tensor in tensors.items()}


def _array(name, tensor, raw):
    (_, dtype, count), offset, shape, strides = tensor
    if len(raw) != count * dtype.itemsize:
        raise ValueError(f'{name} has {len(raw)} bytes, and must have {count * dtype.itemsize}')
    sizes = (offset, *shape, *strides)
    if len(shape) != len(strides) or not all(type(n) is int and n >= 0 for n in sizes):
        raise ValueError(f'{name} has the shape {shape} and the strides {strides}')
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides))
    if math.prod(shape) > count or (math.prod(shape) and last >= count):
        raise ValueError(f'{name}, of shape {shape}, is more than the {count} numbers of its array')
    flat = np.frombuffer(raw, dtype)[offset:]
    steps = [stride * dtype.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(flat, shape, steps).copy()


def _line(error):
    return ' '.join(str(error).split()) or type(error).__name__
