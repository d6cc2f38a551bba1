import functools

import gaussian_data
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

from jaxdiff.diffusion import gaussian, loss, prediction, schedule, variational

STEPS = 20
MAKE = schedule.from_betas(np.linspace(0.005, 0.35, STEPS))
MEAN, STD = gaussian_data.MEAN, gaussian_data.STD


def data(n=500, dims=40):
    keys = jax.random.split(jax.random.key(0), n)
    return keys, MEAN + STD * jax.random.normal(jax.random.key(1), (n, dims), float)


def exact(p, make=MAKE):
    denoise = gaussian_data.denoiser(make)

    def predict(x_t, t):
        c = schedule.coefficients(make, t, x_t)
        x0 = denoise(x_t, t[:, None])
        return prediction.target(p, c, x0, (x_t - c.alpha * x0) / c.sigma)

    return predict


def with_nu(predict, nu):
    return lambda x, t: jnp.concatenate([predict(x, t), jnp.full_like(x, 2 * nu - 1)], -1)


def best_nu(t, s):
    """The reverse step's true variance for the Gaussian data, and where it lies, in closed form.

    Var[x_s | x_t] = posterior variance + (weight of x0 in its mean)² Var[x0 | x_t].
    """
    alpha, sigma = MAKE(t)
    left = STD**2 * sigma**2 / (alpha**2 * STD**2 + sigma**2)
    (m1, small), (m0, _) = (gaussian.posterior_moments(MAKE, 0.0, x0, t, s) for x0 in (1.0, 0.0))
    large = gaussian.transition_moments(MAKE, 0.0, s, t)[1]
    true = small + (m1 - m0) ** 2 * left
    return float(jnp.log(true / small) / jnp.log(large / small))


@pytest.mark.usefixtures('x64')
def test_the_hybrid_loss_is_least_at_the_true_reverse_variance():
    """Newton's step from the closed form to the sample's least is noise: less than 4 errors.

    The least is at e^r = 1 + g V, V being the mean of n squared errors: so r = 2 nu log(sigma_t /
    sigma_s) is off by a relative sqrt(2 / n) of g V / (1 + g V) at most.
    """
    keys, x0 = data(200)
    predict, p = exact(prediction.eps), prediction.eps

    def mean(nu, t):
        net = with_nu(predict, nu)
        times = jnp.full(len(x0), t)
        return variational.hybrid(keys, net, x0, times, MAKE, p, STEPS, 1.0).mean()

    @jax.jit
    def around(nu, t):
        slope, curvature = jax.jvp(lambda nu: jax.grad(mean)(nu, t), (nu,), (1.0,))
        return slope, curvature, mean(nu, t), mean(nu - 0.2, t), mean(nu + 0.2, t)

    for k in (2, 5, 12, 20):
        t, s = k / STEPS, (k - 1) / STEPS
        nu = best_nu(t, s)
        assert 0 < nu < 1
        slope, curvature, least, *others = around(nu, t)
        (_, sigma_t), (_, sigma_s) = MAKE(t), MAKE(s)
        error = (2 / x0.size) ** 0.5 / float(2 * jnp.log(sigma_t / sigma_s))
        assert curvature > 0 and abs(slope / curvature) < 4 * error, (nu, slope / curvature, error)
        assert least < min(others)


@pytest.mark.usefixtures('x64')
def test_the_bound_trains_the_variance_alone():
    """The gradient of the mean is the simple loss's, to the last bit; the variance's isn't zero."""
    keys, x0 = data(20, 6)
    t = jnp.asarray([1, 2, 7, 20] * 5) / STEPS
    w = jax.random.normal(jax.random.key(3), (2, 6, 6))

    def predict(w, x, t):
        return jnp.concatenate([x @ w[0], jnp.tanh(x @ w[1])], -1)

    def hybrid(w, **kwargs):
        ask = lambda x, t: predict(w, x, t)
        return variational.hybrid(keys, ask, x0, t, MAKE, prediction.v, STEPS, **kwargs).mean()

    def simple(w):
        ask = lambda x, t: predict(w, x, t)[..., :6]
        return loss.denoising(keys, ask, x0, t, MAKE, prediction.v, loss.min_snr()).mean()

    found, expected = jax.jit(
        lambda w: (
            jax.grad(hybrid)(w, weight=10.0, weighting=loss.min_snr(), levels=17),
            jax.grad(simple)(w),
        )
    )(w)
    np.testing.assert_array_equal(found[0], expected[0])
    assert np.all(np.isfinite(found)) and np.abs(found[1]).min() > 0


@pytest.mark.usefixtures('x64')
def test_the_hybrid_loss_is_simple_plus_the_chains_bound_in_bits():
    """weight T KL / log 2 per component, the KL of two normal densities in its textbook form."""
    keys, x0 = data(8, 5)
    k, nu, weight = jnp.asarray([2, 3, 5, 8, 12, 15, 19, 20]), 0.3, 1e-3
    t, s = k / STEPS, (k - 1) / STEPS

    @functools.partial(jax.jit, static_argnums=0)
    def both(p):
        wrong = lambda x, t: exact(p)(x, t) + 0.1
        found = variational.hybrid(keys, with_nu(wrong, nu), x0, t, MAKE, p, STEPS)
        simple = loss.denoising(keys, wrong, x0, t, MAKE, p)
        x_t, _ = jax.vmap(gaussian.gaussian(MAKE).corrupt)(keys, x0, t)
        c = schedule.coefficients(MAKE, t, x0)
        belief, _ = prediction.to_x0_eps(p, c, x_t, wrong(x_t, t))
        mean_q, small = gaussian.posterior_moments(MAKE, x_t, x0, t, s)
        mean_p, _ = gaussian.posterior_moments(MAKE, x_t, belief, t, s)
        large = gaussian.transition_moments(MAKE, x_t, s, t)[1]
        var_p = large**nu * small ** (1 - nu)
        kl = (jnp.log(var_p / small) + (small + (mean_q - mean_p) ** 2) / var_p - 1) / 2
        return found, simple + weight * STEPS * kl.mean(1) / np.log(2)

    for p in (prediction.x0, prediction.eps, prediction.v):
        np.testing.assert_allclose(*both(p), rtol=1e-9)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('levels', [None, 17])
def test_the_first_step_is_a_decoder(levels):
    """−log2 p(x0) with the variance between beta_1 and the next step's posterior's."""
    keys, x0 = data(6, 5)
    if levels:
        x0 = jnp.round(jnp.clip(x0, -1, 1) * 8) / 8
        x0 = x0.at[0, 0].set(-1).at[0, 1].set(1)
    t, nu = jnp.full(6, 1 / STEPS), 0.4
    predict = exact(prediction.v)
    beta, next_beta = 0.005, 0.005 + 0.345 / 19
    small = beta * next_beta / (1 - (1 - beta) * (1 - next_beta))  # Ho et al. 2020, eq. 7
    std = (beta**nu * small ** (1 - nu)) ** 0.5

    @jax.jit
    def both():
        net = with_nu(predict, nu)
        found = variational.hybrid(keys, net, x0, t, MAKE, prediction.v, STEPS, 1.0, levels=levels)
        simple = loss.denoising(keys, predict, x0, t, MAKE, prediction.v)
        x_1, _ = jax.vmap(gaussian.gaussian(MAKE).corrupt)(keys, x0, t)
        mean = gaussian_data.denoiser(MAKE)(x_1, 1 / STEPS)
        if levels is None:
            logp = norm.logpdf(x0, mean, std)
        else:
            upper = jnp.where(x0 == 1, 1, norm.cdf(x0 + 1 / 16, mean, std))
            lower = jnp.where(x0 == -1, 0, norm.cdf(x0 - 1 / 16, mean, std))
            logp = jnp.log(upper - lower)
        return found - simple, -STEPS * logp.mean(1) / np.log(2)

    np.testing.assert_allclose(*both(), rtol=1e-6)


def test_the_hybrid_loss_is_finite_on_the_papers_chain():
    """In single precision, at every step of 1000, eps at alpha = 5e-5 and all of nu's range."""
    make, steps = schedule.cosine(offset=0.008), 1000
    keys, x0 = data(steps, 3)
    x0 = jnp.round(jnp.clip(x0, -1, 1) * 127.5 + 127.5) / 127.5 - 1
    t = (jnp.arange(steps) + 1) / steps

    def mean(nu):
        ask = with_nu(lambda x, t: 0.9 * x, nu)
        losses = variational.hybrid(keys, ask, x0, t, make, prediction.eps, steps, levels=256)
        return losses.mean(), losses

    slope_and_losses = jax.jit(jax.grad(mean, has_aux=True))
    for nu in (-0.1, 0.0, 0.5, 1.0, 1.1):
        slope, losses = slope_and_losses(nu)
        assert np.all(np.isfinite(losses)) and np.isfinite(slope)


def test_a_chain_of_one_step_is_refused():
    keys, x0 = data(2, 2)
    with pytest.raises(ValueError, match='2 steps or more'):
        variational.hybrid(keys, lambda x, t: x, x0, jnp.ones(2), MAKE, prediction.v, 1)


@pytest.mark.parametrize('make', [schedule.cosine(), schedule.ve(0.05, 40.0)], ids=['cos', 've'])
def test_the_continuous_bound_of_the_exact_network(make):
    """For N(m, S²), with γ = −logsnr from γ_0 to γ_1 and the exact network, per component:

    prior ½ e^(−γ_1) E x0², diffusion ½ [γ − log(S² + e^γ)], reconstruction ½ (1 + log 2π + γ_0).
    """
    keys, x0 = data(4000, 4)
    t_min = float(schedule.time_of_logsnr(make, 5.0))
    t = t_min + (1 - t_min) * (jnp.arange(len(x0)) + 0.5) / len(x0)
    found = jax.jit(
        lambda t: variational.continuous(
            keys, exact(prediction.v, make), x0, t, make, prediction.v, t_min=t_min
        )
    )(t)
    last = -float(schedule.logsnr(make, jnp.asarray(1.0)))
    primitive = lambda g: -0.5 * np.log1p(STD**2 * np.exp(-g))
    expected = (
        np.exp(-last) * (MEAN**2 + STD**2) / 2,
        primitive(last) - primitive(-5.0),
        (1 + np.log(2 * np.pi) - 5.0) / 2,
    )
    for part, value in zip(found, expected, strict=True):
        assert part.shape == (len(x0),)
        error = 4 * part.std() / len(x0) ** 0.5 + 1e-6
        assert abs(part.mean() - x0[0].size * value) < error
    entropy = x0[0].size * (0.5 * np.log(2 * np.pi * np.e * STD**2))
    assert x0[0].size * sum(expected) > entropy  # a bound
