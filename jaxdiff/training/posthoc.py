"""Averages of the parameters whose width is chosen after the training.

A run tracks a few averages with power-function profiles and keeps snapshots of them; any other
width is then a linear combination of the snapshots. After t updates the profile, the weight that
an average gives to the parameters of the time u, is

    p(u) = (gamma + 1) / t · (u / t)^gamma    for 0 <= u <= t, else 0,                       (1)

the same shape at every t. Its width is its standard deviation as a share of t, that of a Beta
distribution:

    width² = (gamma + 1) / ((gamma + 2)² (gamma + 3)).                                       (2)

Karras et al. 2024, Analyzing and Improving the Training Dynamics of Diffusion Models (EDM2),
section 3 and appendix C.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

_WIDEST = 12**-0.5  # the plain mean of all steps: gamma = 0


def gamma(width: float) -> float:
    """The exponent of the profile of relative standard deviation `width`: (2) solved for gamma.

    With u = gamma + 2 and r = 1 / width² it is the cubic u³ + u² − r u + r = 0, whose three roots
    are real for every r >= 12; the largest, in Viète's trigonometric form, is the one with
    gamma > 0. Width 0.10 has gamma 6.94, and 0.05 has 16.97.

    Raises: ValueError where the width isn't above 0 and below 12^-0.5.
    """
    if not 0 < width < _WIDEST:
        raise ValueError(
            f'the relative width of an average must be above 0 and below {_WIDEST:.4f} (the mean '
            f'of all steps alike), got {width}: 0.05 to 0.15 is usual'
        )
    r = width**-2
    p, q = -r - 1 / 3, 2 / 27 + 4 * r / 3  # (u + 1/3)³ + p (u + 1/3) + q = 0
    angle = math.acos(3 * q / (2 * p) * math.sqrt(-3 / p)) / 3
    return 2 * math.sqrt(-p / 3) * math.cos(angle) - 1 / 3 - 2


def update(average: Any, params: Any, step: Array, gamma: float) -> Any:
    """average ← β · average + (1 − β) · params, β = (1 − 1/t)^(gamma + 1) (EDM2 equation 127).

    Args:
      step: how many updates there were before; t = step + 1. The first gives the parameters.

    Returns:
      the average after t updates, in which the i-th parameters have the weight that (1) gives to
      the time between i − 1 and i: (i/t)^(gamma + 1) − ((i − 1)/t)^(gamma + 1).
    """
    t = jnp.asarray(step + 1, float)
    share = -jnp.expm1((gamma + 1) * jnp.log1p(-1 / t))  # 1 − β, which float32 can't tell late on
    return jax.tree.map(
        lambda a, p: jnp.where(step == 0, p, a + share.astype(a.dtype) * (p - a)), average, params
    )


def weights(
    steps: Sequence[int], gammas: Sequence[float], target_step: int, target_gamma: float
) -> np.ndarray:
    """How much of each snapshot makes the average nearest to a profile (EDM2 algorithm 3).

    Least squares over the profiles (1), by their inner products in closed form, with the condition
    that the weights sum to 1: what doesn't move in training isn't moved by few snapshots either.

    Args:
      steps: how many updates each snapshot has seen, [n].
      gammas: the exponents of their profiles, [n].
      target_step: the time at which the wanted profile ends; no snapshot may be later.
      target_gamma: its exponent.

    Returns:
      the weights in float64, [n]. `residual` tells how good they are.

    Raises: ValueError without snapshots, with two alike, or with one before the first update or
      after `target_step`.
    """
    if not len(steps):
        raise ValueError('no snapshot of an average to combine: train with ema.profiles set')
    if not 0 < min(steps) <= max(steps) <= target_step:
        raise ValueError(
            f'snapshots must be of steps from 1 to {target_step}, where the wanted average ends, '
            f'got {min(steps)} to {max(steps)}: leave out the others'
        )
    if len(set(zip(steps, gammas, strict=True))) < len(steps):
        raise ValueError('two snapshots of one step and profile: give each once')
    products = _products(steps, gammas, steps, gammas)
    wanted = _products(steps, gammas, [target_step], [target_gamma])[:, 0]
    free, uniform = np.linalg.solve(products, np.stack([wanted, np.ones(len(steps))], axis=1)).T
    return free + (1 - free.sum()) / uniform.sum() * uniform  # Lagrange's condition on the sum


def residual(
    weights: np.ndarray,
    steps: Sequence[int],
    gammas: Sequence[float],
    target_step: int,
    target_gamma: float,
) -> float:
    """The distance of the combined profile from the wanted one, as a share of the latter's norm.

    It falls with the square of the number of snapshots, until rounding at about 1e-8. For parameters
    that walk at random, 0.04 goes with an error of 1 to 2 % of the way from the average to the last
    parameters, and 0.01 with 0.3 %.
    """
    target = [target_step], [target_gamma]
    own = weights @ _products(steps, gammas, steps, gammas) @ weights
    cross = weights @ _products(steps, gammas, *target)[:, 0]
    norm = _products(*target, *target).item()
    return math.sqrt(max(0.0, own - 2 * cross + norm) / norm)


def combine(snapshots: Iterable[Any], weights: Sequence[float]) -> Any:
    """Σ weight · snapshot, as NumPy arrays of the snapshots' dtypes.

    The sum is kept in float64 on the host, since weights of both signs add the rounding of many
    terms; with a lazy iterator no more than it and one snapshot are in memory.

    Raises: ValueError where the numbers of snapshots and weights differ.
    """
    totals = dtypes = structure = None
    for (leaves, structure), weight in zip(map(jax.tree.flatten, snapshots), weights, strict=True):
        totals = totals or [np.zeros(x.shape) for x in leaves]
        dtypes = [x.dtype for x in leaves]
        for total, leaf in zip(totals, leaves, strict=True):
            total += weight * np.asarray(leaf, np.float64)
        leaves.clear()  # before the next snapshot is read
    return structure.unflatten(t.astype(d) for t, d in zip(totals, dtypes, strict=True))


def _products(steps, gammas, other_steps, other_gammas):
    """The integral over all times of the product of each profile with each other one (1)."""
    t, g = np.float64(steps)[:, None], np.float64(gammas)[:, None]
    s, h = np.float64(other_steps)[None], np.float64(other_gammas)[None]
    early, late = np.minimum(t, s), np.maximum(t, s)
    power = np.where(t < s, h, g)  # of the one that goes on after the other has ended
    return (g + 1) * (h + 1) / (g + h + 1) * (early / late) ** power / late
