"""The loop around the step: data in, records, checkpoints and pictures out."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from jaxdiff.data import prefetch
from jaxdiff.training.parallel import Driver
from jaxdiff.training.state import TrainState
from jaxdiff.training.throughput import Meter


def run(
    state: TrainState,
    stream: Iterator[dict],
    driver: Driver,
    meter: Meter,
    *,
    steps: int,
    log_every: int,
    checkpoint_every: int,
    log: Callable[..., None],
    save: Callable[[TrainState, float], None],
    sample_every: int,
    sample: Callable[[int, Any], None],
) -> TrainState:
    """Trains from `state` to `steps`, and returns the last state.

    The devices are waited for only when a record is due: every `log_every` steps, with each
    checkpoint and picture, and at the end. Its loss and gradient norm are means since the record
    before, so that records depend on the intervals alone and not on where a run was interrupted.

    Args:
      stream: host batches, the first one that of the state's next step.
      log: called as log(step, loss=..., grad_norm=..., ...).
      save: called as save(state, loss) with a copy of the state on one device.
      sample: called as sample(step, averaged parameters) every `sample_every` steps but the last.
    """
    start = int(state.step)
    batches = prefetch(stream, driver.put_batch)
    state, pending = driver.put_state(state), []
    bar = tqdm(initial=start, total=steps, unit='step', dynamic_ncols=True, mininterval=0.5)
    meter.restart()
    try:
        for step in range(start + 1, steps + 1):
            batch = meter.wait(lambda: next(batches))
            state, metrics = driver.step(state, batch)
            pending.append(metrics)
            bar.update()
            checkpoint_due = step == steps or step % checkpoint_every == 0
            sample_due = sample_every and step != steps and step % sample_every == 0
            if checkpoint_due or sample_due or step % log_every == 0:
                means = _means(jax.device_get([driver.get(m) for m in pending]))
                numbers = means | meter.read()
                pending = []
                log(step, **numbers)
                bar.set_postfix(
                    loss=f'{numbers["loss"]:.4f}', wait=f'{numbers["data_wait_share"]:.0%}'
                )
                if checkpoint_due:
                    save(driver.get(state), numbers['loss'])
                if sample_due:
                    sample(step, driver.get(state.ema))
                meter.restart()
    finally:
        bar.close()
        batches.close()
    return driver.get(state)


def _means(records):
    return {name: float(np.mean([r[name] for r in records])) for name in records[0]}
