import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.evaluation.images import psnr, ssim


def images(seed=0, shape=(2, 16, 20, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def test_psnr_of_a_known_error():
    """A difference of 1 everywhere: 20 log10 255 decibels; of 10 in one of four pixels, 10 log10 4 above 28.13."""
    x = jnp.full((1, 2, 2, 1), 100, jnp.uint8)
    assert psnr(x, x + 1)[0] == pytest.approx(48.1308, abs=1e-3)
    one = x.at[0, 0, 0].add(10)
    assert psnr(x, one)[0] == pytest.approx(20 * np.log10(25.5) + 10 * np.log10(4), abs=1e-3)
    alike = 20 * np.log10(255) + 10 * np.log10(4)  # as if one of four values were off by one
    assert psnr(x, x)[0] == pytest.approx(alike, abs=1e-3)
    assert psnr(x, x.at[0, 0, 0].add(1))[0] == pytest.approx(alike, abs=1e-3)


def test_ssim_of_equal_images_is_one_and_of_unrelated_ones_is_small():
    x = images()
    np.testing.assert_allclose(ssim(x, x), 1, atol=1e-5)
    assert np.abs(ssim(x, images(1))).max() < 0.2
    np.testing.assert_allclose(ssim(x, images(1)), ssim(images(1), x), rtol=1e-5)


def test_ssim_of_flat_images_is_that_of_their_means():
    """Without variance only the means' term is left."""
    x, y = (jnp.full((1, 12, 12, 1), value, jnp.uint8) for value in (50, 100))
    c = (0.01 * 255) ** 2
    assert ssim(x, y)[0] == pytest.approx((2 * 50 * 100 + c) / (50**2 + 100**2 + c), abs=1e-5)


def test_ssim_is_the_formula_under_the_window_at_each_position():
    """Written out over windows in NumPy, one after the other."""
    x, y = images(2, (1, 13, 12, 2)), images(3, (1, 13, 12, 2))
    i = np.arange(11) - 5
    window = np.exp(-(i[:, None] ** 2 + i[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    found = []
    for top, left, channel in np.ndindex(3, 2, 2):
        a, b = (v[0, top : top + 11, left : left + 11, channel].astype(float) for v in (x, y))
        m_a, m_b = (window * a).sum(), (window * b).sum()
        v_a, v_b = (window * (a - m_a) ** 2).sum(), (window * (b - m_b) ** 2).sum()
        cov = (window * (a - m_a) * (b - m_b)).sum()
        c1, c2 = 2.55**2, 7.65**2
        found.append(
            (2 * m_a * m_b + c1) * (2 * cov + c2) / ((m_a**2 + m_b**2 + c1) * (v_a + v_b + c2))
        )
    assert ssim(x, y)[0] == pytest.approx(np.mean(found), abs=1e-4)


def test_images_smaller_than_the_window_are_refused():
    with pytest.raises(ValueError, match='11 x 11 at least, got .8, 8.'):
        ssim(images(shape=(1, 8, 8, 1)), images(shape=(1, 8, 8, 1)))
