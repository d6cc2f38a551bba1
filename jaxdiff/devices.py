"""The devices that this process will see, and what they compile; decided before jax is imported."""

import hashlib
import os
import platform
import re
import sys

# The first that is installed, in these folders, takes glibc's place.
FOLDERS = (
    f'{sys.prefix}/lib',
    '/usr/local/lib',
    f'/usr/lib/{platform.machine()}-linux-gnu',
    '/usr/lib64',
    '/usr/lib',
)
ALLOCATORS = {
    'libtcmalloc_minimal.so.4': {},
    'libtcmalloc.so.4': {},
    'libjemalloc.so.2': {'MALLOC_CONF': 'dirty_decay_ms:-1,muzzy_decay_ms:-1'},  # keeps all
}
TUNABLES = {  # of glibc's malloc
    'arena_max': 1,  # one heap: a buffer is often freed by another thread than takes the next one
    'mmap_max': 0,  # large buffers from the heap too, so that they are kept
    'trim_threshold': 2**34,  # bytes free at the heap's end before the kernel gets them back
    'top_pad': 2**26,  # bytes by which the heap grows
}
_AGAIN = 'JAXDIFF_STARTED_AGAIN'


def use_cores(batch_size: int | None = None, parts: int = 1, count: int | None = None) -> None:
    """On a CPU, makes `count` devices of the cores, by environment variables.

    XLA hardly spreads convolutions with few channels over cores, so a batch split over one device a
    core is faster. Without `count`: as many as there are cores, fewer where `batch_size` is given and
    isn't a multiple of devices × `parts` or leaves a device fewer than 8 examples. A number that the
    user's own XLA_FLAGS gives stands. NPROC, the threads of XLA's pool, is one for each of these cores
    (with two, a U-Net's step takes 1.1 times as long), two for each device where these are more, and
    more where the user's own says so.

    Must run before jax is imported; accelerators are left as they are. Whoever calls this waits for
    each program in which devices exchange data before starting the next: those of two programs can
    hold all threads and wait for each other for ever.
    """
    flags = os.environ.get('XLA_FLAGS', '')
    option = '--xla_force_host_platform_device_count='
    given = re.search(option + r'(\d+)', flags)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    cores = cores or 1
    if count is None and given:
        count = int(given[1])
    elif count is None:
        count = max(n for n in range(1, cores + 1) if n == 1 or _fits(batch_size, n, max(1, parts)))
    kept = ' '.join(f for f in flags.split() if not f.startswith(option))
    os.environ['XLA_FLAGS'] = f'{kept} {option}{count}'.strip()
    least = cores if count <= cores else 2 * count
    os.environ['NPROC'] = str(max(least, int(os.environ.get('NPROC') or 1)))


def compile_in_haste() -> None:
    """Lets XLA optimise nothing, for programs that take longer to compile than to run.

    By an environment variable, before jax is imported; what the user's own XLA_FLAGS say of it stands.
    """
    flags = '--xla_backend_optimization_level=0', os.environ.get('XLA_FLAGS', '')
    os.environ['XLA_FLAGS'] = ' '.join(flags).strip()


def keep_programs() -> None:
    """Keeps compiled programs for the next process, 4 GiB of them, by environment variables.

    In ~/.cache/jaxdiff (XDG_CACHE_HOME), in a folder for each kind of processor: XLA compiles for the
    one that it runs on, and jax does not ask where a program that it finds was compiled. The user's own
    JAX_COMPILATION_CACHE_DIR stands; empty, it turns this off.

    Must run before jax is imported.
    """
    if 'JAX_COMPILATION_CACHE_DIR' in os.environ:
        return
    home = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    folder = os.path.join(home, 'jaxdiff', f'programs-{_processor()}')
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:  # a home that can't be written to
        return
    if os.access(folder, os.W_OK):
        os.environ['JAX_COMPILATION_CACHE_DIR'] = folder
        os.environ.setdefault('JAX_COMPILATION_CACHE_MAX_SIZE', str(4 * 2**30))


def keep_memory() -> None:
    """Starts this process again with an allocator that keeps what is freed: tcmalloc, jemalloc or glibc's.

    As it comes, glibc's malloc returns every large buffer to the kernel, and a step's buffers are
    zeroed and mapped anew at each step, or lie idle in the heaps of other threads. In one heap that is
    kept, a U-Net's step takes 0.47 s on two cores, of which the heap's lock is a part; with tcmalloc or
    jemalloc it takes 0.41 s. An allocator is chosen when a process starts. The user's own
    GLIBC_TUNABLES (empty, to turn this off) or LD_PRELOAD, of another allocator, stands; other systems
    than Linux with glibc are left as they are.

    Must be the first thing that a process does.
    """
    if {'GLIBC_TUNABLES', 'LD_PRELOAD', _AGAIN} & os.environ.keys() or not glibc():
        return
    places = ((name, os.path.join(folder, name)) for name in ALLOCATORS for folder in FOLDERS)
    name, path = next((found for found in places if os.path.exists(found[1])), (None, None))
    if path:
        told = {'LD_PRELOAD': path} | ALLOCATORS[name]
    else:
        tunables = (f'glibc.malloc.{name}={value}' for name, value in TUNABLES.items())
        told = {'GLIBC_TUNABLES': ':'.join(tunables)}
    # The mark stays where the loader takes these away, as of a python with capabilities.
    environment = told | os.environ | {_AGAIN: '1'}
    try:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
    except OSError:  # forbidden, or no such file: it goes on as it is
        return


def glibc() -> bool:
    """Whether this system's C library is GNU's."""
    try:
        return os.confstr('CS_GNU_LIBC_VERSION').startswith('glibc')
    except (AttributeError, OSError, ValueError):
        return False


def _processor():
    """A digest of what the processor can do, and of the cores."""
    try:
        with open('/proc/cpuinfo') as file:
            told = next(line for line in file if line.startswith(('flags', 'Features')))
    except (OSError, StopIteration):
        told = platform.processor()
    told = f'{platform.machine()} {os.cpu_count()} {told}'  # XLA spreads a program over the cores
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def use_host() -> None:
    """Keeps jax to the CPU, from which libtpu compiles for TPUs that aren't there.

    Must run before jax is imported. Without the rest libtpu looks for a TPU's host, lets one process
    at a time compile, and writes logs.
    """
    os.environ['JAX_PLATFORMS'] = 'cpu'
    os.environ |= {
        'TPU_SKIP_MDS_QUERY': '1',
        'TPU_ACCELERATOR_TYPE': 'v5litepod-4',  # any: only asked for
        'TPU_WORKER_HOSTNAMES': 'localhost',
        'TPU_WORKER_ID': '0',
        'TPU_LOG_DIR': 'disabled',
        'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
    }


def _fits(batch_size, devices, parts):
    return batch_size is None or (batch_size % (devices * parts) == 0 and batch_size >= 8 * devices)
