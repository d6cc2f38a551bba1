"""Per-example training losses.

The denoising loss is the squared error of the network's own prediction, times a weight:

    L(x0, t, eps) = w(t) · mean (y(x_t, t) − a x0 − b eps)²,                               (10)

the mean taken over the components of an example. A weighting is a function (prediction, coef) -> w;
those that papers define for another prediction are carried over by equation (5). Two of them are
integrals over λ = logsnr, and the same for every schedule; for times uniform in t they are

    likelihood   w = −½ dλ/dt               on the squared error in eps,                 (11)
    sigmoid      w = −½ dλ/dt / (1 + e^(λ − b))               likewise.                  (12)

Where these two, or an error measured in another prediction, divide by zero (by sigma = 0, or by the
determinant of equation (4) where the network says nothing about x0) that single moment counts for
nothing: its weight is 0.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxdiff.diffusion import prediction as predictions
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


def measured_in(prediction: Prediction) -> Weighting:
    """The squared error in another prediction, whichever the network makes: equation (5)."""
    return lambda p, c: _divide(determinant(prediction, c) ** 2, determinant(p, c) ** 2)


def score_matching() -> Weighting:
    """sigma² on the squared error in the score, as NCSN weighs its ladder of noise levels.

    The score is −eps / sigma, so this is the squared error in eps. `times.ladder` draws the levels.

    References: Song and Ermon 2019, arXiv:1907.05600, eqs. 5 and 6 and section 4.2.
    """
    return measured_in(predictions.eps)


def edm(sigma_data: float = 0.5) -> Weighting:
    """EDM's (s² + sd²) / (s sd)² on the squared error in x0, with s = sigma / alpha.

    That is the squared error in `prediction.edm(sigma_data)`; `times.log_normal` draws the noise.

    References: Karras et al. 2022, arXiv:2206.00364, table 1 and section 5.
    """
    return measured_in(predictions.edm(sigma_data))


def likelihood() -> Weighting:
    """Equation (11): −½ dsnr/dt on the squared error in x0.

    With t uniform on [t_min, 1) the mean of (10) times (1 − t_min) and the number of components (it
    is a mean over them) is the diffusion term of the continuous-time bound in nats, however the
    schedule runs between its ends; `variational.continuous` does that sum.

    References: Kingma et al. 2021, arXiv:2107.00630, eq. 17; Song et al. 2021, arXiv:2101.09258,
    theorem 1.
    """

    def weighting(prediction, c):  # −½ dλ/dt = d of velocity / (alpha sigma), and d of eps is alpha
        numerator = c.alpha * determinant(predictions.velocity, c)
        return _divide(numerator, c.sigma * determinant(prediction, c) ** 2)

    return weighting


def sigmoid(b: float = 0.0) -> Weighting:
    """Equation (12), SiD2's: the likelihood's weight, faded out where logsnr exceeds b.

    In x0 it is −½ dλ/dt e^b sigmoid(λ − b). A larger b counts more of the fine detail, and in the
    limit it is `likelihood`; the paper lowers b for larger images.

    References: Kingma and Gao 2023, arXiv:2303.00848 (its k is our b); Hoogeboom et al. 2024,
    arXiv:2410.19324, eq. 4.
    """
    full = likelihood()
    return lambda p, c: full(p, c) * c.sigma**2 / (c.sigma**2 + jnp.exp(-b) * c.alpha**2)


def _ratio(numerator, denominator):
    tiny = jnp.finfo(numerator.dtype).tiny
    return (numerator + tiny) / (denominator + tiny)


def _divide(numerator, denominator):
    """The quotient, 0 where it has no value."""
    defined = (denominator > 0) & jnp.isfinite(denominator) & jnp.isfinite(numerator)
    return jnp.where(defined, numerator / jnp.where(defined, denominator, 1), 0)
