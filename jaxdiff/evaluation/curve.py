"""One number of a run over its steps: where it is there, smoothed, and beside another run's.

Records are those of a run's `metrics.jsonl`, {'step': …, 'loss': …, …} each.
"""

from typing import NamedTuple

import numpy as np

BY_NOISE = 'loss_logsnr_'  # with which the names of losses by noise level begin


class Curve(NamedTuple):
    """Values over steps, both [n]."""

    steps: np.ndarray
    values: np.ndarray


def of(records: list[dict], name: str) -> Curve:
    """The values called `name`, where they are there and finite."""
    points = [(r['step'], r[name]) for r in records if np.isfinite(r.get(name, np.nan))]
    steps, values = np.array(points).reshape(-1, 2).T
    return Curve(steps.astype(int), values)


def smooth(curve: Curve) -> Curve:
    """Its running mean over a twentieth of it, at the last step of each."""
    window = max(1, len(curve.values) // 20)
    if window == 1:
        return curve
    means = np.convolve(curve.values, np.ones(window) / window, 'valid')
    return Curve(curve.steps[window - 1 :], means)


def together(a: Curve, b: Curve) -> tuple[Curve, Curve]:
    """Both at the steps that they have in common, smoothed over the same of them."""
    _, ours, theirs = np.intersect1d(a.steps, b.steps, return_indices=True)
    return tuple(smooth(Curve(*(x[i] for x in c))) for c, i in ((a, ours), (b, theirs)))


def summary(records: list[dict]) -> dict[str, float]:
    """What a run's records say of it as a whole; {} without records.

    `loss` is the last of the smoothed loss and `lowest` its least, at the steps beside them. The
    time is that of the steps, their compiling included, without what stands between them:
    checkpoints, pictures.
    """
    if not records:
        return {}
    found = {'step': records[-1]['step']}
    losses = smooth(of(records, 'loss'))
    if len(losses.values):
        best = int(np.argmin(losses.values))
        found |= {'loss': float(losses.values[-1]), 'loss_step': int(losses.steps[-1])}
        found |= {'lowest': float(losses.values[best]), 'lowest_step': int(losses.steps[best])}
    timed = [(0, {'step': 0}), *enumerate(records)]
    timed = [(r, r['step'] - before['step']) for (_, before), (_, r) in zip(timed, timed[1:])]
    timed = [(r, n / r['steps_per_second']) for r, n in timed if r.get('steps_per_second')]
    if timed:
        seconds = sum(time for _, time in timed)
        waited = sum(r.get('data_wait_share', 0) * time for r, time in timed)
        rates = [r['steps_per_second'] for r, _ in timed]
        found |= {'steps_per_second': float(np.median(rates)), 'seconds': seconds}
        found |= {'data_wait_share': waited / seconds if seconds else 0.0}
    found['skipped_steps'] = sum(r.get('skipped_steps', 0) for r in records)
    return found | {'rollbacks': max(r.get('rollbacks', 0) for r in records)}
