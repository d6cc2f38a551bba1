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
