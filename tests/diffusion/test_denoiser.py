import gaussian_data
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion import denoiser, prediction, schedule

COSINE = schedule.cosine()


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('p', [prediction.x0, prediction.eps, prediction.v], ids=lambda p: p.name)
def test_every_prediction_of_one_function_is_one_denoiser(p):
    exact = gaussian_data.denoiser(COSINE)
    x_t, t = jax.random.normal(jax.random.key(0), (4, 3)), jnp.array([0.1, 0.3, 0.6, 0.95])

    def net(x, level):  # outputs p, knowing the time from the embedding alone
        at = level[:, None] / 1000
        c = schedule.coefficients(COSINE, level / 1000, x)
        x0 = exact(x, at)
        return prediction.target(p, c, x0, (x - c.alpha * x0) / c.sigma)

    found = denoiser.from_network(net, p, COSINE)(x_t, t)
    np.testing.assert_allclose(found, exact(x_t, t[:, None]), atol=1e-9)


def test_the_input_has_unit_variance_whatever_the_datas_scale():
    sigma_data, seen = 0.25, []
    predict = denoiser.ask(lambda x, level: seen.append(x) or x, COSINE, sigma_data=sigma_data)
    x0, eps = jax.random.normal(jax.random.key(0), (2, 100_000))
    for t in (0.1, 0.5, 0.9):
        alpha, sigma = COSINE(t)
        predict(alpha * sigma_data * x0 + sigma * eps, t)
        assert seen[-1].std() == pytest.approx(1, rel=0.01)


def test_embeddings_span_0_to_1000():
    t = jnp.array([0.0, 0.5, 1.0])
    np.testing.assert_allclose(denoiser.time_embedding(COSINE, t), [0, 500, 1000])
    np.testing.assert_allclose(denoiser.logsnr_embedding(COSINE, t), [1000, 500, 0], atol=1e-3)


def test_clip():
    denoise = denoiser.clip(lambda x, t: 3 * x)
    np.testing.assert_allclose(denoise(jnp.array([-1.0, 0.1, 2.0]), 0.5), [-1, 0.3, 1])


def test_dynamic_thresholding_clips_at_the_examples_own_percentile():
    x0 = jnp.stack([jnp.linspace(-4, 4, 201), jnp.linspace(-0.5, 0.5, 201)])
    found = denoiser.dynamic_threshold(lambda x, t: x0, 75)(x0, 0.5)
    # |x0| of the first is uniform on [0, 4]: its 75th percentile is 3; the second is left alone.
    np.testing.assert_allclose(found[0], jnp.clip(x0[0] / 3, -1, 1), atol=1e-6)
    np.testing.assert_array_equal(found[1], x0[1])
    with pytest.raises(ValueError, match='percentile must lie'):
        denoiser.dynamic_threshold(lambda x, t: x, 0)


def test_a_network_with_a_learned_variance():
    net = lambda x, level: jnp.concatenate([0.5 * x, jnp.full_like(x, 0.2)], -1)
    x, t = jnp.ones((2, 3)), jnp.array([0.3, 0.6])
    denoise = denoiser.from_network(net, prediction.x0, COSINE, learned_variance=True)
    belief = denoise(x, t)
    np.testing.assert_allclose(belief.x0, 0.5 * x, rtol=1e-6)
    np.testing.assert_allclose(belief.nu, 0.6, rtol=1e-6)
    np.testing.assert_array_equal(denoiser.mean_only(denoise)(x, t), belief.x0)
    clipped = denoiser.clip(denoise, high=0.25)(x, t)
    np.testing.assert_allclose(clipped.x0, 0.25)
    np.testing.assert_array_equal(clipped.nu, belief.nu)
