"""Whether a run is well: its loss by noise level, its skipped steps, its slow ones.

A step whose loss or gradient isn't finite is skipped inside the compiled step (`step`). What is here
reads its record, on the host.
"""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

# Losses are told apart by their log signal-to-noise ratio, log(alpha² / sigma²), between these.
EDGES = (-6.0, -2.0, 2.0, 6.0)
BINS = ('below_-6', '-6_to_-2', '-2_to_2', '2_to_6', 'above_6')


class Unhealthy(Exception):
    """So many steps in a row were skipped that the run can't go on from where it stands.

    They began with the step `first`, and left the parameters as they are.
    """

    def __init__(self, first: int, last: int, params: Any):
        super().__init__(f'steps {first} to {last} gave no finite loss or gradient')
        self.first, self.params = first, params


def by_noise(losses: Array, logsnr: Array) -> dict[str, Array]:
    """Each bin's part of the mean loss, and its share of the examples, [bins] each.

    Means of both over parts and devices are those of the whole batch; their ratio is the bin's loss.
    What has no noise level, NaN, is in no bin.
    """
    found = jnp.digitize(logsnr, jnp.asarray(EDGES, logsnr.dtype))
    inside = (found == jnp.arange(len(BINS))[:, None]) & ~jnp.isnan(logsnr)
    return {
        'loss_sum': jnp.where(inside, losses, 0).mean(1),
        'share': inside.mean(1, dtype=losses.dtype),
    }


def summary(records: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """What is logged of the steps since the last record: means over those that weren't skipped."""
    taken = [r for r in records if not r['in_row']]
    numbers = {
        name: float(np.mean([r[name] for r in taken])) if taken else float('nan')
        for name in ('loss', 'grad_norm')
    }
    share, loss_sum = (np.sum([r[name] for r in taken], 0) for name in ('share', 'loss_sum'))
    for name, part, total in zip(BINS, np.atleast_1d(share), np.atleast_1d(loss_sum)):
        if part:  # no example of this noise level came by: no number
            numbers[f'loss_logsnr_{name}'] = float(total / part)
    return numbers | {'skipped_steps': len(records) - len(taken)}


def first_of_streak(records: list[dict[str, np.ndarray]], last: int, limit: int) -> int | None:
    """The first of `limit` steps that were skipped in a row, if any; `last` is the last record's."""
    for step, record in enumerate(records, last + 1 - len(records)):
        if record['in_row'] >= limit:
            return step + 1 - int(record['in_row'])
    return None


def explain(
    loss: Callable, params: Any, batch: dict[str, np.ndarray], key: Array, examples: list[int]
) -> str:
    """Which examples of a global batch give no finite loss or gradient, and at what noise level.

    Each is computed alone, so this is slow; it is for the end of a run that went wrong.

    Args: as those of `loss` in `step`; `examples` are the rows' numbers in the data set, [b].
    """

    def alone(params, row):
        def value(params):
            losses, logsnr = loss(params, jax.tree.map(lambda x: x[None], row), key)
            return losses[0], logsnr[0]

        (value, logsnr), grads = jax.value_and_grad(value, has_aux=True)(params)
        return value, logsnr, optax.tree.norm(grads)

    each = jax.jit(lambda params, batch: jax.lax.map(lambda row: alone(params, row), batch))
    found = each(params, batch)
    values, levels, norms = (np.asarray(x) for x in found)
    bad = np.flatnonzero(~np.isfinite(values) | ~np.isfinite(norms))
    if not len(bad):
        top = int(np.argmax(norms))
        return (
            f'each example alone is finite, the largest gradient, of norm {norms[top]:.3g}, that of '
            f'example {examples[top]} at log SNR {levels[top]:.2f}'
        )
    named = ', '.join(
        f'example {examples[i]} at log SNR {levels[i]:.2f} (loss {values[i]:.3g}, gradient '
        f'{norms[i]:.3g})'
        for i in bad[:5]
    )
    return named + (f' and {len(bad) - 5} more of {len(values)}' if len(bad) > 5 else '')


class Watch:
    """Finds steps that take ten times the usual time.

    Times are those between the ends of steps, as the host sees them, so that a wait for data counts.
    The usual one is that which one in ten of the last 50 takes longer than: where data comes in
    bursts most take no time.
    """

    def __init__(self):
        self._times, self._last = [], None
        self.slow = 0

    def restart(self) -> None:
        """What came since the last step was no step: a record, a picture, a checkpoint."""
        self._last = time.perf_counter()

    def tick(self) -> tuple[float, float] | None:
        """A step ended; (seconds it took, seconds usual) where it was ten times slower than usual."""
        now, last = time.perf_counter(), self._last
        self._last = now
        if last is None:
            return None
        usual = statistics.quantiles(self._times, n=10)[-1] if len(self._times) >= 10 else math.inf
        self._times = [*self._times[-49:], now - last]
        if now - last < 10 * usual:
            return None
        self.slow += 1
        return now - last, usual
