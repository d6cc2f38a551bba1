"""Times of a chain drawn in proportion to the size of the loss there.

From the last n losses at each of T times the next times are drawn by

    p(t) ∝ sqrt(mean of squared losses at t),     weight = 1 / (p(t) T),                 (16)

which leaves the weighted loss's mean that of uniform times, with less variance. Until every time has
n losses the times are uniform.

References: Nichol and Dhariwal 2021, arXiv:2102.09672, section 3.3, eq. 18.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array


class History(NamedTuple):
    """The last n losses at each of T times, [T, n], and how many there ever were, [T]."""

    losses: Array
    counts: Array


def init(steps: int, length: int = 10) -> History:
    """An empty history of `length` losses at each of the times 1 / steps, …, 1.

    Raises: ValueError where either is less than 1.
    """
    if steps < 1 or length < 1:
        raise ValueError(f'steps and length must be 1 or more, got {steps=}, {length=}')
    return History(jnp.zeros((steps, length)), jnp.zeros(steps, jnp.int32))


def update(history: History, t: Array, losses: Array) -> History:
    """The history with the losses [b] at times t [b] of its grid, the oldest forgotten.

    The losses are those of the times' own, before `draw`'s weight. The state is the same on all
    devices if each adds all of the batch: under pmap first

        t, losses = jax.lax.all_gather((t, losses), axis_name, tiled=True)
    """
    steps, length = history.losses.shape
    i = jnp.round(t * steps).astype(int) - 1
    order = jnp.argsort(i, stable=True)
    i, losses, place = i[order], losses[order], jnp.arange(len(i))
    rank = place - jnp.searchsorted(i, i, side='left')  # among those of the same time
    behind = jnp.searchsorted(i, i, side='right') - 1 - place
    row = jnp.where(behind < length, i, steps)  # what the same batch pushes out is dropped
    slot = (history.counts[i] + rank) % length
    kept = history.losses.at[row, slot].set(losses.astype(history.losses.dtype), mode='drop')
    return History(kept, history.counts.at[i].add(1))


def probabilities(history: History, uniform: float = 1e-3) -> Array:
    """Equation (16), [T]; a share `uniform` of the draws stays uniform, so that none is zero."""
    steps, length = history.losses.shape
    size = jnp.sqrt(jnp.mean(history.losses**2, axis=1))
    total = jnp.sum(size)
    known = jnp.all(history.counts >= length) & (total > 0)
    p = jnp.where(known, size / jnp.where(known, total, 1), 1 / steps)
    return (1 - uniform) * p + uniform / steps


def draw(u: Array, history: History, uniform: float = 1e-3) -> tuple[Array, Array]:
    """Times [b] of the grid for numbers u [b] in [0, 1), and what to multiply their losses by."""
    p = probabilities(history, uniform)
    steps = len(p)
    below = jnp.cumsum(p)
    i = jnp.minimum(jnp.searchsorted(below, u * below[-1], side='right'), steps - 1)
    return (i + 1) / steps, 1 / (p[i] * steps)
