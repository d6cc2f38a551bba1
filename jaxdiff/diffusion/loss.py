"""Per-example training losses.

The denoising loss is the squared error of the network's own prediction, times a weight:

    L(x0, t, eps) = w(t) · mean (y(x_t, t) − a x0 − b eps)²,                               (10)

the mean taken over the components of an example. A weighting is a function (prediction, coef) -> w;
those that papers define for another prediction are carried over by equation (5).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxdiff.diffusion.gaussian import gaussian
from jaxdiff.diffusion.prediction import Prediction, determinant, target
from jaxdiff.diffusion.schedule import Coef, Schedule, coefficients

Weighting = Callable[[Prediction, Coef], Array]


def denoising(
    keys: Array,
    predict: Callable[[Array, Array], Array],
    x0: Array,
    t: Array,
    schedule: Schedule,
    prediction: Prediction,
    weighting: Weighting | None = None,
) -> Array:
    """Equation (10), [b], for data [b, ...], times [b] and one key per example [b].

    `predict(x_t, t)` is the network as `denoiser.ask` wraps it; no `weighting` means w = 1.
    """
    x_t, eps = jax.vmap(gaussian(schedule).corrupt)(keys, x0, t)
    coef = coefficients(schedule, t, x0)
    error = predict(x_t, t) - target(prediction, coef, x0, eps)
    weight = 1.0 if weighting is None else weighting(prediction, coef)
    return jnp.mean(weight * error**2, axis=tuple(range(1, x0.ndim)))


def min_snr(gamma: float = 5.0) -> Weighting:
    """min(snr, gamma) on the squared error in x0 (Hang et al. 2023, arXiv:2303.09556, eq. 4).

    With snr = alpha²/sigma² and equation (5) that is min(alpha², gamma sigma²) / d². Where both
    vanish (eps at alpha = 0, x0 at sigma = 0) the weight is 1.
    """
    return lambda p, c: _ratio(jnp.minimum(c.alpha**2, gamma * c.sigma**2), determinant(p, c) ** 2)


def p2(gamma: float = 1.0, k: float = 1.0) -> Weighting:
    """1 / (k + snr)^gamma on the squared error in eps (Choi et al. 2022, arXiv:2204.00227, eq. 8).

    In any prediction: (sigma² / (k sigma² + alpha²))^gamma · alpha² / d².
    """

    def weighting(prediction, c):
        discount = (c.sigma**2 / (k * c.sigma**2 + c.alpha**2)) ** gamma
        return discount * _ratio(c.alpha**2, determinant(prediction, c) ** 2)

    return weighting


def _ratio(numerator, denominator):
    tiny = jnp.finfo(numerator.dtype).tiny
    return (numerator + tiny) / (denominator + tiny)
