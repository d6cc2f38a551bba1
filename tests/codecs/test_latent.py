import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.codecs import latent

MOMENTS = jnp.array([0.5, -1.0, 2.0, np.log(0.25), 0.0, np.log(4.0)])  # of three components


def test_draws_have_the_moments():
    of = latent.gaussian(jnp.broadcast_to(MOMENTS, (20_000, 6)))
    z = np.asarray(latent.draw(jax.random.split(jax.random.key(0), 20_000), of))
    np.testing.assert_allclose(z.mean(0), MOMENTS[:3], atol=4 * 2 / 20_000**0.5)
    np.testing.assert_allclose(z.std(0), [0.5, 1, 2], rtol=0.03)


def test_kl_is_the_mean_of_the_log_ratio():
    """By draws of z: E[log q(z) − log p(z)]; and 0 for N(0, I)."""
    of = latent.gaussian(jnp.broadcast_to(MOMENTS, (40_000, 6)))
    z = latent.draw(jax.random.split(jax.random.key(1), 40_000), of)
    log_q = jax.scipy.stats.norm.logpdf(z, of.mean, jnp.exp(of.log_variance / 2)).sum(-1)
    ratios = np.asarray(log_q - jax.scipy.stats.norm.logpdf(z).sum(-1))
    error = 4 * ratios.std() / 200
    np.testing.assert_allclose(latent.kl(of)[0], ratios.mean(), atol=error)
    assert latent.kl(latent.gaussian(jnp.zeros((2, 3, 6)))).tolist() == [0, 0]


def test_codes_are_the_nearest():
    draws = np.random.default_rng(0)
    y, codebook = draws.normal(size=(4, 3, 3, 2)), draws.normal(size=(9, 2))
    found = latent.quantize(jnp.asarray(y), jnp.asarray(codebook))
    distances = np.linalg.norm(y[..., None, :] - codebook, axis=-1)
    np.testing.assert_array_equal(found.codes, distances.argmin(-1))
    np.testing.assert_allclose(found.z, codebook[found.codes], atol=1e-6)
    squared = (distances.min(-1) ** 2).mean((1, 2)) / 2
    np.testing.assert_allclose(found.commitment, squared, rtol=1e-5)
    np.testing.assert_allclose(found.codebook, squared, rtol=1e-5)


def test_the_gradient_passes_as_of_a_copy_and_each_loss_moves_one_side():
    y, codebook = jnp.array([[[0.2, 0.1]]]), jnp.array([[0.0, 0.0], [5.0, 5.0]])
    through = jax.grad(lambda y: jnp.sum(3 * latent.quantize(y, codebook).z))(y)
    np.testing.assert_array_equal(through, jnp.full_like(y, 3))

    def slopes(name):
        return jax.grad(lambda y, e: getattr(latent.quantize(y, e), name).sum(), (0, 1))(
            y, codebook
        )

    of_y, of_e = slopes('commitment')
    assert np.abs(of_y).max() > 0 and not np.any(of_e)
    of_y, of_e = slopes('codebook')
    assert not np.any(of_y) and np.abs(of_e[0]).max() > 0 and not np.any(of_e[1])


def test_codes_that_nothing_uses_come_back():
    """Of eight codes far from all latents but one, all but a few are soon in use."""
    y = jax.random.normal(jax.random.key(0), (8, 16, 2))
    codebook = jnp.full((8, 2), 50.0).at[0].set(0.0) + jnp.arange(16.0).reshape(8, 2)
    assert len(set(np.asarray(latent.quantize(y, codebook).codes).flat)) == 1

    def loss(codebook, key):
        found = latent.quantize(y, codebook)
        return found.codebook.mean() + latent.restart(key, y, found.codes, codebook)

    step = jax.jit(lambda e, key: e - 2.0 * jax.grad(loss)(e, key))
    for key in jax.random.split(jax.random.key(1), 200):
        codebook = step(codebook, key)
    found = latent.quantize(y, codebook)
    assert len(set(np.asarray(found.codes).flat)) >= 7
    assert found.commitment.mean() < 0.3  # of a variance of 1 a component
    used = latent.restart(jax.random.key(0), y[:, :8], jnp.arange(8), codebook)
    assert used == 0
