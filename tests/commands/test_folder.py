import errno
import fcntl

import pytest
from etils import epath

from jaxdiff.commands.folder import alone


def test_one_run_at_a_time(tmp_path):
    folder = epath.Path(tmp_path) / 'run'
    with alone(folder):
        with pytest.raises(OSError, match='another run is at work in .*run .process'):
            with alone(folder):
                raise AssertionError('two runs')
    with alone(folder):
        assert 'process' in (folder / '.lock').read_text()


def test_without_locks_it_warns_and_goes_on(tmp_path, monkeypatch, capsys):
    """As on some network file systems."""

    def flock(file, how):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(fcntl, 'flock', flock)
    with alone(epath.Path(tmp_path)):
        assert 'knows no locks: let no other run write there' in capsys.readouterr().err


def test_other_errors_of_locking_are_told(tmp_path, monkeypatch):
    def flock(file, how):
        raise OSError(errno.EIO, 'Input/output error')

    monkeypatch.setattr(fcntl, 'flock', flock)
    with pytest.raises(OSError, match='Input/output'):
        with alone(epath.Path(tmp_path)):
            pass
