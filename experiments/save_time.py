"""How long an asynchronous save of a checkpoint stalls the training loop, in one run.

    python experiments/save_time.py --config digits --workdir gs://bucket/try

A real run's step, data and checkpoints, with a save every few steps: timed are the copy of the
state off the devices, the call of the save after it, and a group of steps after that against the
same run's groups with nothing being written. The steps are queued as the training loop queues them.
On GPUs the call itself copies once more, since Orbax moves arrays through pinned memory of its own.

The aim: once the copy is off the device, a save costs the loop less than 50 ms or 10 % of a step,
whichever is larger. Devices that are CPU cores get all of them but the last, which is left to the
loop and the writing, as accelerators leave the host's. With `--shared` both share all cores, as they
do in a run on a CPU, and so the steps miss the cycles that the writing takes. The quiet groups'
figures tell how much is the machine's own unrest.
"""

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from etils import epath
from tqdm import tqdm

from jaxdiff import config as configs, devices


class Save(NamedTuple):
    """Seconds of one save, and of groups of steps."""

    copy: float  # the state from the devices to the host
    call: float  # starting to write it
    steps: float  # the group of steps after it
    written: float  # from the call until the checkpoint stands
    quiet: list[float]  # groups with nothing being written


def main() -> None:
    """Prints a table in milliseconds, and whether the aim is reached."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--config', default='digits')
    parser.add_argument(
        '--workdir', default='', help='where to save; a temporary folder if not given'
    )
    parser.add_argument('--saves', type=int, default=10)
    parser.add_argument('--steps', type=int, default=12, help='of a group')
    parser.add_argument(
        '--shared', action='store_true', help='let CPU devices and the writing share all cores'
    )
    args = parser.parse_args()
    if args.saves < 1 or args.steps < 1:
        parser.error('--saves and --steps must be at least 1')
    config = configs.load(args.config)
    start_jax(config, args.shared)
    with contextlib.ExitStack() as stack:
        folder = args.workdir or stack.enter_context(tempfile.TemporaryDirectory())
        if (epath.Path(folder) / 'checkpoints').exists():
            parser.error(f'--workdir {folder} has checkpoints already: give an empty folder')
        size, saves = measure(config, epath.Path(folder), args.saves, args.steps)
    report(f'{args.config}, {size / 1e6:.1f} MB a checkpoint', saves, args.steps)


def start_jax(config, shared: bool) -> None:
    """Starts JAX on cores of its own, where they are the devices and not `shared`."""
    cores = sorted(os.sched_getaffinity(0))
    if not shared and len(cores) > 1:
        os.sched_setaffinity(0, cores[:-1])  # where XLA's threads, which start now, stay
    devices.use_cores(config.train.batch_size, config.train.accumulate)
    import jax

    on_cores = jax.default_backend() == 'cpu' and not shared
    os.sched_setaffinity(0, cores[-1:] if on_cores else cores)


def measure(config, workdir: epath.Path, saves: int, steps: int) -> tuple[int, list[Save]]:
    """The bytes of a state, and what each of its saves took."""
    import jax

    from jaxdiff import build, data
    from jaxdiff.build.step import train_state, train_step
    from jaxdiff.training import checkpoint, loop, parallel

    build.check_devices(config, jax.device_count())
    dataset = build.dataset(config)
    model = build.model(config, dataset.shape, dataset.levels, len(dataset.class_names))
    key = jax.random.key(config.seed)
    driver = build.driver(config, train_step(config, model, key, jax.devices()), jax.devices())
    batches = data.stream(data.batches(dataset, config.train.batch_size, config.seed))
    batches = data.prefetch(batches, driver.put_batch)
    start = train_state(config, model, key)
    start = jax.device_put(start, parallel.shardings(driver.layout(start)))
    state = driver.put_state(start)

    def group():
        nonlocal state
        queued = []
        for _ in range(steps):
            state, metrics = driver.step(state, next(batches))
            queued.append(metrics)
            if len(queued) > loop.ahead():
                jax.block_until_ready(queued.pop(0))
        jax.block_until_ready(queued)

    def copy():
        copied = driver.get(state)
        jax.device_get(copied)
        return copied

    group()  # compiles
    writer = checkpoint.Writer(workdir, config.train.keep)
    found = []
    with contextlib.closing(writer), contextlib.closing(batches):
        # The first save sets up folders, threads and the copy's program; it isn't counted.
        for number in tqdm(range(saves + 1), desc='saves', dynamic_ncols=True):
            quiet = [seconds(group)[0] for _ in range(2)]
            copying, copied = seconds(copy)
            began = time.perf_counter()
            calling, _ = seconds(lambda: checkpoint.save_state(writer, copied, 0.0, {}))
            stepping, _ = seconds(group)
            writer.check(wait=True)
            if number:
                written = time.perf_counter() - began
                found.append(Save(copying, calling, stepping, written, quiet))
    return sum(x.nbytes for x in jax.tree.leaves(copied)), found


def seconds(f: Callable) -> tuple[float, object]:
    """How long f takes, and what it returns."""
    began = time.perf_counter()
    result = f()
    return time.perf_counter() - began, result


def report(title: str, saves: list[Save], steps: int) -> None:
    """The table: each figure's median and worst over the saves."""
    usual = np.median([s.quiet for s in saves])
    call = np.array([s.call for s in saves])
    after = np.array([s.steps for s in saves]) - usual
    limit = max(0.05, 0.1 * usual / steps)
    rows = {
        'a usual step': np.ravel([s.quiet for s in saves]) / steps,
        'copy off the devices': [s.copy for s in saves],
        'call of the save': call,
        f'{steps} steps after it, above usual': after,
        f'{steps} quiet steps, above usual': np.ravel([s.quiet for s in saves]) - usual,
        'stall: call and steps': call + after,
        'until the checkpoint stands': [s.written for s in saves],
    }
    print(f'{title}, {len(saves)} saves; milliseconds\n{"":38}{"median":>9}{"worst":>9}')
    for name, values in rows.items():
        print(f'{name:38}{1e3 * np.median(values):9.1f}{1e3 * np.max(values):9.1f}')
    stall = np.median(call + after)
    print(
        f'limit {1e3 * limit:.1f} ms (50 ms or 10 % of a step): the median stall is '
        f'{"within" if stall < limit else "ABOVE"} it, {stall / limit:.2f} of it '
        f'({stall * steps / usual:.2f} steps); the call alone {np.median(call) / limit:.2f}, '
        f'at worst {call.max() / limit:.2f}'
    )


if __name__ == '__main__':
    main()
