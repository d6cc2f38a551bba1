"""How long an asynchronous save of a checkpoint stalls the training loop, in one run.

    python experiments/save_time.py --config digits --workdir gs://bucket/try

A real run's step, data and checkpoints, with a save every few steps: timed are the copy of the
state off the devices, the call of the save after it, and the first steps after that against the
usual step of the same run. Each step is waited for, so that none hides behind another. On GPUs the
call itself copies once more, since Orbax moves arrays through pinned memory of its own.

The aim: once the copy is off the device, a save costs the loop less than 50 ms or 10 % of a step,
whichever is larger. Where devices and the writing share processor cores, as they do on a CPU, the
steps after a save are slower while it is written; the quiet steps' figure tells how much of that is
the machine's own unrest.
"""

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from etils import epath
from tqdm import tqdm

from jaxdiff import config as configs, devices

FIRST = 3  # steps after a save that are counted as its own


class Save(NamedTuple):
    """Seconds of one save, and of the steps around it."""

    copy: float  # the state from the devices to the host
    call: float  # starting to write it
    first: list[float]  # the steps after it, `FIRST` of them
    written: float  # from the call until the checkpoint stands
    quiet: list[float]  # as many steps as asked for, with nothing being written


def main() -> None:
    """Prints a table in milliseconds, and whether the aim is reached."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--config', default='digits')
    parser.add_argument(
        '--workdir', default='', help='where to save; a temporary folder if not given'
    )
    parser.add_argument('--saves', type=int, default=10)
    parser.add_argument('--steps', type=int, default=12, help='quiet steps before each save')
    args = parser.parse_args()
    if args.saves < 1 or args.steps < FIRST:
        parser.error(f'--saves must be at least 1 and --steps at least {FIRST}')
    config = configs.load(args.config)
    devices.use_cores(config.train.batch_size, config.train.accumulate)
    with contextlib.ExitStack() as stack:
        folder = args.workdir or stack.enter_context(tempfile.TemporaryDirectory())
        if (epath.Path(folder) / 'checkpoints').exists():
            parser.error(f'--workdir {folder} has checkpoints already: give an empty folder')
        size, saves = measure(config, epath.Path(folder), args.saves, args.steps)
    report(f'{args.config}, {size / 1e6:.1f} MB a checkpoint', saves)


def measure(config, workdir: epath.Path, saves: int, steps: int) -> tuple[int, list[Save]]:
    """The bytes of a state, and what each of its saves took."""
    import jax

    from jaxdiff import build, data
    from jaxdiff.build.step import train_state, train_step
    from jaxdiff.training import checkpoint, parallel

    build.check_devices(config, jax.device_count())
    dataset = build.dataset(config)
    model = build.model(config, dataset.shape, dataset.levels, len(dataset.class_names))
    key = jax.random.key(config.seed)
    driver = build.driver(config, train_step(config, model, key, jax.devices()), jax.devices())
    batches = data.stream(data.batches(dataset, config.train.batch_size, config.seed))
    batches = data.prefetch(batches, driver.put_batch)
    start = train_state(config, model, key)
    start = jax.device_put(start, parallel.shardings(driver.layout(start)))
    state = [driver.put_state(start)]

    def step():
        state[0], metrics = driver.step(state[0], next(batches))
        jax.block_until_ready(metrics)

    def copy():
        copied = driver.get(state[0])
        jax.device_get(copied)
        return copied

    step()  # compiles
    writer = checkpoint.Writer(workdir, config.train.keep)
    found = []
    with contextlib.closing(writer), contextlib.closing(batches):
        # The first save sets up folders, threads and the copy's program; it isn't counted.
        for number in tqdm(range(saves + 1), desc='saves', dynamic_ncols=True):
            quiet = [seconds(step)[0] for _ in range(steps)]
            copying, copied = seconds(copy)
            began = time.perf_counter()
            calling, _ = seconds(lambda: checkpoint.save_state(writer, copied, 0.0, {}))
            first = [seconds(step)[0] for _ in range(FIRST)]
            while writer.saving():
                step()
            written = time.perf_counter() - began
            writer.check(wait=True)
            if number:
                found.append(Save(copying, calling, first, written, quiet))
    return sum(x.nbytes for x in jax.tree.leaves(copied)), found


def seconds(f: Callable) -> tuple[float, object]:
    """How long f takes, and what it returns."""
    began = time.perf_counter()
    result = f()
    return time.perf_counter() - began, result


def report(title: str, saves: list[Save]) -> None:
    """The table: each figure's median and worst over the saves."""
    usual = np.median([s.quiet for s in saves])
    after = np.sum([s.first for s in saves], axis=1) - FIRST * usual
    quiet = np.sum([s.quiet[-FIRST:] for s in saves], axis=1) - FIRST * usual
    call = np.array([s.call for s in saves])
    limit = max(0.05, 0.1 * usual)
    rows = {
        'a usual step': np.ravel([s.quiet for s in saves]),
        'copy off the devices': [s.copy for s in saves],
        'call of the save': call,
        f'first {FIRST} steps after it, above usual': after,
        f'{FIRST} quiet steps, above usual': quiet,
        'stall: call and first steps': call + after,
        'until the checkpoint stands': [s.written for s in saves],
    }
    print(f'{title}, {len(saves)} saves; milliseconds\n{"":38}{"median":>9}{"worst":>9}')
    for name, values in rows.items():
        print(f'{name:38}{1e3 * np.median(values):9.1f}{1e3 * np.max(values):9.1f}')
    stall = np.median(call + after)
    print(
        f'limit {1e3 * limit:.1f} ms (50 ms or 10 % of a step): the median stall is '
        f'{"within" if stall < limit else "ABOVE"} it, {stall / limit:.2f} of it '
        f'({stall / usual:.2f} steps); the call alone {np.median(call) / limit:.2f}, '
        f'at worst {call.max() / limit:.2f}'
    )


if __name__ == '__main__':
    main()
