"""State dicts as PyTorch writes them, made without it."""

import collections
import io
import pickle
import sys
import types
import zipfile

import numpy as np

KINDS = {'float32': 'FloatStorage', 'float64': 'DoubleStorage', 'int64': 'LongStorage'}


class _Raw:
    """Stands for an array's storage; the pickle names it, the bytes lie elsewhere."""

    def __init__(self, key, kind, array):
        self.pid = 'storage', kind, str(key), 'cpu', array.size
        self.bytes = array.tobytes()


class _Tensor:
    def __init__(self, raw, shape, strides):
        self.parts = raw, 0, shape, strides, False, collections.OrderedDict()

    def __reduce__(self):
        return sys.modules['torch._utils']._rebuild_tensor_v2, self.parts


class _Pickler(pickle.Pickler):
    def __init__(self, file, older):
        super().__init__(file, protocol=2)
        self.older = older

    def persistent_id(self, found):
        if isinstance(found, _Raw):
            return (*found.pid, None) if self.older else found.pid
        return None


def zipped(path, arrays, **changed):
    """As since PyTorch 1.6; `changed` is as of `_state`."""
    pickled, raws = _state(arrays, older=False, **changed)
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('archive/data.pkl', pickled)
        archive.writestr('archive/byteorder', 'little')
        for raw in raws:
            archive.writestr(f'archive/data/{raw.pid[2]}', raw.bytes)
        archive.writestr('archive/version', '3\n')


def older(path, arrays, **changed):
    """As before PyTorch 1.6; `changed` is as of `_state`."""
    pickled, raws = _state(arrays, older=True, **changed)
    told = {'protocol_version': 1001, 'little_endian': True, 'type_sizes': {'int': 4}}
    head = [0x1950A86A20F9469CFC6C, 1001, told]
    data = b''.join(raw.pid[4].to_bytes(8, 'little') + raw.bytes for raw in raws)
    keys = [raw.pid[2] for raw in raws]
    with open(path, 'wb') as file:
        file.write(b''.join(pickle.dumps(part, protocol=2) for part in head))
        file.write(pickled + pickle.dumps(keys, protocol=2) + data)


def _state(arrays, older, also=(), shape=None, strides=None, kind=None, cut=0):
    """The pickle and the raw arrays.

    Args:
      also: more that the dict holds.
      shape, strides, kind: said of each array, instead of the true ones.
      cut: bytes that each raw array lacks.
    """
    torch, utils = types.ModuleType('torch'), types.ModuleType('torch._utils')
    raws, state, before = [], collections.OrderedDict(), dict(sys.modules)

    def _rebuild_tensor_v2(*parts):
        raise AssertionError('only its name is written')

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = utils.__name__, '_rebuild_tensor_v2'  # fmt: skip
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    for key, (name, array) in enumerate(arrays.items()):
        storage = kind or KINDS[array.dtype.name]
        made = vars(torch).setdefault(storage, type(storage, (), {'__module__': 'torch'}))
        raws.append(_Raw(key, made, array))
        raws[-1].bytes = raws[-1].bytes[: len(raws[-1].bytes) - cut]
        steps = tuple(n // array.itemsize for n in np.ascontiguousarray(array).strides)
        state[name] = _Tensor(raws[-1], shape or array.shape, strides or steps[: array.ndim])
    state.update(also)
    file = io.BytesIO()
    try:
        sys.modules |= {'torch': torch, 'torch._utils': utils}
        _Pickler(file, older).dump(state)
    finally:
        for name in ('torch', 'torch._utils'):
            sys.modules.pop(name)
            if name in before:
                sys.modules[name] = before[name]
    return file.getvalue(), raws
