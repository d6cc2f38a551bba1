"""What is decided before jax is imported."""

import os
import pathlib

import processes
import pytest

from jaxdiff import devices


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home of its own for the user's caches, and nothing said of jax's."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    for name in ('JAX_COMPILATION_CACHE_DIR', 'JAX_COMPILATION_CACHE_MAX_SIZE'):
        monkeypatch.setenv(name, '')  # so that it is put back
        monkeypatch.delenv(name)
    return tmp_path / 'cache'


def test_compiled_programs_are_kept_in_the_users_cache(home):
    devices.keep_programs()
    folder = pathlib.Path(os.environ['JAX_COMPILATION_CACHE_DIR'])
    assert folder.is_dir() and folder.parent == home / 'jaxdiff'
    assert int(os.environ['JAX_COMPILATION_CACHE_MAX_SIZE']) == 4 * 2**30


def test_processors_that_differ_keep_programs_apart(home, monkeypatch):
    folders = []
    for machine in ('x86_64', 'aarch64'):
        monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR', raising=False)
        monkeypatch.setattr(devices.platform, 'machine', lambda machine=machine: machine)
        devices.keep_programs()
        folders.append(os.environ['JAX_COMPILATION_CACHE_DIR'])
    assert len(set(folders)) == 2


@pytest.mark.parametrize('given', ['', '/somewhere/else'])
def test_the_users_own_choice_stands(home, monkeypatch, given):
    monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', given)
    devices.keep_programs()
    assert os.environ['JAX_COMPILATION_CACHE_DIR'] == given and not home.exists()


def test_a_home_that_cannot_be_written_to_keeps_nothing(home):
    home.write_text('a file')
    devices.keep_programs()
    assert 'JAX_COMPILATION_CACHE_DIR' not in os.environ


@pytest.mark.parametrize(
    'asked, given, count, threads',
    [
        (dict(batch_size=64), {}, 4, 4),
        (dict(batch_size=16), {}, 2, 4),  # eight examples each
        (dict(batch_size=7), {}, 1, 4),
        (dict(batch_size=64, parts=4), {}, 4, 4),
        (dict(count=8), {}, 8, 16),
        (dict(), {'XLA_FLAGS': '--xla_force_host_platform_device_count=6'}, 6, 12),
        (dict(), {'NPROC': '10'}, 4, 10),
    ],
)
def test_cores_are_devices_with_threads_enough(asked, given, count, threads, monkeypatch):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: range(4), raising=False)
    for name in ('XLA_FLAGS', 'NPROC'):
        monkeypatch.setenv(name, given.get(name, ''))
    devices.use_cores(**asked)
    assert os.environ['XLA_FLAGS'] == f'--xla_force_host_platform_device_count={count}'
    assert os.environ['NPROC'] == str(threads)


PROGRAM = """
from jaxdiff import devices
devices.keep_programs()
import jax
from jax._src import monitoring
heard = []
monitoring.register_event_listener(lambda name, **_: heard.append(name))
print(jax.jit(lambda x: jax.numpy.sin(x) @ x.T)(jax.numpy.ones((8, 8))).sum())
print(heard.count('/jax/compilation_cache/cache_hits'), heard.count('/jax/compilation_cache/cache_misses'))
"""


def test_a_second_process_compiles_nothing_and_finds_the_same(home):
    always = {'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}
    told = []
    for _ in range(2):
        code, out, err = processes.finish(program=('-c', PROGRAM), environment=always)
        assert code == 0, err
        found, counts = out.split('\n')[:2]
        told.append((found, *map(int, counts.split())))
    (first, hits, misses), (second, later_hits, later_misses) = told
    assert first == second
    assert hits == 0 and misses > 0 and (later_hits, later_misses) == (misses, 0)


AGAIN = """
import os, sys
print('began')
from jaxdiff import devices
devices.ALLOCATORS = {}
devices.keep_memory()
print(*map(os.environ.get, ('GLIBC_TUNABLES', 'LD_PRELOAD', 'TOLD')), os.getpid(), *sys.argv)
"""


def again(allocators=(), **environment):
    """What a process that keeps its memory prints, and its number."""
    told = AGAIN.replace('{}', repr(dict(allocators)))
    given = {'PYTHONUNBUFFERED': '1'} | environment
    process = processes.start('a', 'b c', program=('-c', told), environment=given)
    code, out, err = processes.end(process)
    assert code == 0, err
    return out.splitlines(), process.pid


@pytest.fixture
def plain(monkeypatch):
    """An environment that says nothing of the allocator."""
    for name in ('GLIBC_TUNABLES', 'LD_PRELOAD', devices._AGAIN):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.skipif(not devices.glibc(), reason='another C library')
def test_a_command_starts_again_once_as_itself_to_keep_its_memory(plain):
    (*began, told), pid = again()
    assert began == ['began', 'began']
    tunables, *rest = told.split(' ', 1)
    assert rest == [f'None None {pid} -c a b c']
    assert dict(t.split('=') for t in tunables.split(':')) == {
        f'glibc.malloc.{name}': str(value) for name, value in devices.TUNABLES.items()
    }


@pytest.mark.skipif(not devices.glibc(), reason='another C library')
@pytest.mark.parametrize('environment, told', [({}, 'ours'), ({'TOLD': 'theirs'}, 'theirs')])
def test_an_allocator_that_is_installed_takes_the_place_of_glibcs(plain, environment, told):
    """The C library's mathematics stands for one: it is there, and does no harm."""
    allocators = {'libnowhere.so.1': {}, 'libm.so.6': {'TOLD': 'ours'}}
    (*_, last), pid = again(allocators, **environment)
    path, *rest = last.removeprefix('None ').split(' ', 1)
    assert os.path.isabs(path) and path.endswith('/libm.so.6')
    assert rest == [f'{told} {pid} -c a b c']


@pytest.mark.parametrize('name', ['GLIBC_TUNABLES', 'LD_PRELOAD'])
def test_an_allocator_that_the_user_chose_stands(plain, name):
    lines, _ = again(**{name: ''})
    assert len(lines) == 2 and lines[1].startswith('None' if name == 'LD_PRELOAD' else ' ')


def test_another_c_library_is_left_as_it_is(plain, monkeypatch):
    monkeypatch.setattr(os, 'confstr', lambda name: None)
    monkeypatch.setattr(os, 'execve', lambda *_: pytest.fail('started again'))
    devices.keep_memory()
    assert 'GLIBC_TUNABLES' not in os.environ


@pytest.mark.skipif(not devices.glibc(), reason='another C library')
def test_a_command_that_cannot_start_again_goes_on_as_it_is(plain, monkeypatch, tmp_path):
    monkeypatch.setattr('sys.executable', str(tmp_path / 'removed'))
    devices.keep_memory()
    assert not {'GLIBC_TUNABLES', devices._AGAIN} & os.environ.keys()


@pytest.mark.skipif(not devices.glibc(), reason='another C library')
def test_it_starts_again_once_even_where_the_tunables_are_taken_away(plain):
    lines, _ = again(**{devices._AGAIN: '1'})
    assert len(lines) == 2 and lines[1].startswith('None')
