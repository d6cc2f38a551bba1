"""The loop around the step: data in, records, checkpoints and pictures out."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
from tqdm import tqdm

from jaxdiff import distributed
from jaxdiff.data import prefetch
from jaxdiff.training import health
from jaxdiff.training.parallel import Driver
from jaxdiff.training.state import TrainState
from jaxdiff.training.throughput import Meter

# Steps that are under way or queued while the host prepares the next: devices never wait for it,
# and it never runs so far ahead that a stop or a slow step would be noticed late. On CPUs none: there
# the devices' collective operations share few threads, and those of two steps could block each other.
AHEAD = 2


def ahead() -> int:
    """The steps that may be under way or queued besides the newest."""
    return 0 if jax.default_backend() == 'cpu' else AHEAD


def run(
    state: TrainState,
    stream: Iterator[dict],
    driver: Driver,
    meter: Meter,
    *,
    steps: int,
    log_every: int,
    checkpoint_every: int,
    sample_every: int,
    snapshot_every: int,
    bad_steps: int,
    log: Callable[..., None],
    save: Callable[[TrainState, float], None],
    sample: Callable[[int, Any], None],
    snapshot: Callable[[int, Any], None],
    stop: Callable[[], bool],
) -> TrainState:
    """Trains from `state` to `steps`, or to where `stop` says so, and returns the last state.

    A record is due every `log_every` steps, with each checkpoint, picture and snapshot, and at the
    end. Its loss and gradient norm are means since the record before, so that records depend on the
    intervals alone and not on where a run was killed.

    Args:
      stream: host batches, the first one that of the state's next step.
      log: called as log(step, loss=..., grad_norm=..., ...).
      save: called as save(state, loss) every `checkpoint_every` steps, unless that step was skipped,
        and at the last.
      sample: called as sample(step, averaged parameters) every `sample_every` steps but the last.
      snapshot: called as snapshot(step, profiles) every `snapshot_every` steps, before `save`, and at
        `steps`; 0: never.
      stop: asked before the first step and after each.

    Raises: Unhealthy where `bad_steps` steps in a row were skipped; nothing of them is saved.
    """
    start, most = int(state.step), ahead()
    if stop():
        return state
    batches = prefetch(stream, driver.put_batch)
    state, pending, watch = driver.put_state(state), [], health.Watch()
    bar = tqdm(
        initial=start,
        total=steps,
        unit='step',
        dynamic_ncols=True,
        mininterval=0.5,
        disable=not distributed.primary(),
    )

    def wait(step, metrics):
        jax.block_until_ready(metrics)
        if (found := watch.tick()) and distributed.primary():
            told = 'step {} took {:.2f} s, usual are {:.2f} s'.format(step, *found)
            tqdm.write(told, file=sys.stderr)

    def due(every, step):
        return every and step % every == 0

    meter.restart()
    try:
        for step in range(start + 1, steps + 1):
            batch = meter.wait(lambda: next(batches))
            state, metrics = driver.step(state, batch)
            pending.append(metrics)
            if len(pending) > most:
                wait(step - most, pending[-1 - most])
            bar.update()
            last = stop() or step == steps
            save_due = last or due(checkpoint_every, step)
            sample_due = due(sample_every, step) and not last
            snapshot_due = snapshot_every and (step == steps or due(snapshot_every, step))
            if save_due or sample_due or snapshot_due or due(log_every, step):
                queued = pending[max(0, len(pending) - most) :]
                for i, metrics in enumerate(queued):
                    wait(step + 1 + i - len(queued), metrics)
                records = jax.device_get([driver.get(m) for m in pending])
                pending = []
                if (first := health.first_of_streak(records, step, bad_steps)) is not None:
                    raise health.Unhealthy(first, step, driver.get(state.params))
                numbers = health.summary(records) | {'slow_steps': watch.slow} | meter.read()
                log(step, **numbers)
                bar.set_postfix(
                    loss=f'{numbers["loss"]:.4f}', wait=f'{numbers["data_wait_share"]:.0%}'
                )
                if records[-1]['in_row'] and not last:
                    save_due = snapshot_due = False  # nothing moved, and the way may be left
                if snapshot_due:
                    snapshot(step, driver.get(state.profiles))
                if save_due:
                    save(driver.get(state), numbers['loss'])
                if sample_due:
                    sample(step, driver.get(state.ema))
                watch.restart()
                meter.restart()
            if last:
                break
    finally:
        bar.close()
        batches.close()
    return driver.get(state)
