"""State dicts read without PyTorch, and files that are something else or ask for more."""

import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from torch_files import older, zipped

from jaxdiff.interop import torch_file

ARRAYS = {
    'a.weight': np.arange(6, dtype=np.float32).reshape(2, 3),
    'count': np.array(7, np.int64),
}


@pytest.mark.parametrize('write', [zipped, older])
def test_a_state_dict_of_either_format(write, tmp_path):
    write(tmp_path / 'a.pth', ARRAYS)
    found = torch_file.load(tmp_path / 'a.pth')
    assert list(found) == list(ARRAYS)
    for name, x in ARRAYS.items():
        assert found[name].dtype == x.dtype and found[name].flags.writeable
        np.testing.assert_array_equal(found[name], x)


class Calls:
    """What a pickle may do to who reads it: call anything."""

    def __init__(self, function, *arguments):
        self.asked = function, arguments

    def __reduce__(self):
        return self.asked


@pytest.mark.parametrize('write', [zipped, older])
@pytest.mark.parametrize(
    'function, arguments',
    [(os.mkdir, ('made',)), (eval, ('1',)), (getattr, (OrderedDict, 'fromkeys'))],
)
def test_a_pickle_that_asks_for_more_is_refused(write, function, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write('a.pth', ARRAYS, also={'x': Calls(function, *arguments)})
    message = rf'a.pth is not a state dict .* asks for \w+\.{function.__name__}, .* is refused'
    with pytest.raises(ValueError, match=message) as error:
        torch_file.load('a.pth')
    assert '\n' not in str(error.value) and not os.path.exists('made')


@pytest.mark.parametrize(
    'changed, message',
    [
        (dict(also={'epoch': 3}), "'epoch' is no array but int"),
        (dict(also={'net': {'a': 1}}), "'net' is no array but dict"),
        (dict(shape=(2, 4)), r'of shape \(2, 4\), is more than the 6 numbers'),
        (dict(strides=(4, 1)), r'of shape \(2, 3\), is more than the 6 numbers'),
        (dict(strides=(-1, 1)), r'the strides \(-1, 1\)'),
        (dict(shape=(10**12,), strides=(0,)), 'is more than the 6 numbers'),
        (dict(kind='QInt8Storage'), 'asks for torch.QInt8Storage'),
        (dict(cut=4), 'a has 20 bytes, and must have 24'),
    ],
)
@pytest.mark.parametrize('write', [zipped, older])
def test_what_is_no_state_dict_of_arrays_is_told_in_a_line(write, changed, message, tmp_path):
    write(tmp_path / 'a.pth', {'a': ARRAYS['a.weight']}, **changed)
    with pytest.raises(
        ValueError, match=f'a.pth is not a state dict of PyTorch: .*({message})'
    ) as e:
        torch_file.load(tmp_path / 'a.pth')
    assert '\n' not in str(e.value)


def test_other_files_are_told_in_a_line(tmp_path):
    (tmp_path / 'text').write_text('weights\nwere here\n')
    (tmp_path / 'empty').write_bytes(b'')
    (tmp_path / 'number').write_bytes(pickle.dumps(3))
    with zipfile.ZipFile(tmp_path / 'archive', 'w') as archive:
        archive.writestr('top/readme', 'text')
    with zipfile.ZipFile(tmp_path / 'program', 'w') as archive:
        archive.writestr('top/data.pkl', b'')
        archive.writestr('top/constants.pkl', b'')
    messages = {
        'text': '',
        'empty': '',
        'number': 'does not begin as one',
        'archive': 'without data.pkl',
        'program': 'TorchScript',
    }
    for name, message in messages.items():
        with pytest.raises(ValueError, match=f'{name} is not a state dict .*{message}') as error:
            torch_file.load(tmp_path / name)
        assert '\n' not in str(error.value)
    with pytest.raises(FileNotFoundError):
        torch_file.load(tmp_path / 'nowhere')
