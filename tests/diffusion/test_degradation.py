import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion import degradation

SHAPE = (16, 16, 3)
X = jax.random.uniform(jax.random.key(0), (200, *SHAPE), minval=-1.0)
KEYS = jax.random.split(jax.random.key(1), 200)
MADE = {
    'super_resolution': lambda noise: degradation.super_resolution(SHAPE, 4, noise),
    'deblur': lambda noise: degradation.deblurring(SHAPE, 1.5, noise),
    'colorize': lambda noise: degradation.colorization(SHAPE, noise),
    'inpaint': degradation.inpainting,
    'denoise': degradation.denoising,
}


@pytest.mark.parametrize('name', MADE)
def test_what_is_measured_is_the_operators_image_and_noise_of_its_deviation(name):
    made = MADE[name](0.3)
    measured = jax.jit(made.measure)(KEYS, X)
    apart = np.asarray(measured.y - made.operator(measured).apply(X))
    if measured.known is not None:
        assert np.all(apart[np.broadcast_to(measured.known, X.shape) == 0] == 0)
        apart = apart[np.broadcast_to(measured.known, X.shape) > 0]
    assert apart.std() == pytest.approx(0.3, rel=0.02) and abs(apart.mean()) < 0.01
    shown = made.picture(measured)
    assert shown.shape[:3] == X.shape[:3] and shown.shape[3] == {'colorize': 1, 'inpaint': 4}.get(
        name, 3
    )
    one = made.measure(KEYS[7:8], X[7:8])  # whatever its neighbours
    np.testing.assert_allclose(one.y[0], measured.y[7], atol=1e-5)


def test_a_box_is_hidden_or_all_but_one():
    known = np.asarray(degradation.inpainting().measure(KEYS, X).known)[..., 0]
    share = known.mean((1, 2))
    assert share.min() > 0 and share.max() < 1
    corner = known[:, 0, 0] + known[:, -1, -1] + known[:, 0, -1] + known[:, -1, 0]
    hidden_outside = corner == 0
    assert 0.15 < hidden_outside.mean() < 0.35  # a quarter of the time
    for one in known[:20]:  # a box is the product of its shadows
        box = one if share[0] < 0 else (one if one[0, 0] + one[-1, -1] == 0 else 1 - one)
        np.testing.assert_array_equal(box, np.outer(box.max(1), box.max(0)))


def test_a_sketch_has_lines_where_lightness_changes_and_nowhere_else():
    sketch = degradation.sketching()

    def drawn(x):
        return np.asarray(sketch.measure(KEYS[:1], jnp.broadcast_to(x, (1, 16, 16, 3))).y)[
            0, :, :, 0
        ]

    step = jnp.where(jnp.arange(16)[None, :, None] < 8, -1.0, 1.0)
    found = drawn(step)
    assert np.all(found[:, 7:9] == -1) and np.all(np.delete(found, [7, 8], 1) == 1)
    np.testing.assert_array_equal(found, drawn(-step))  # dark to light as light to dark
    np.testing.assert_array_equal(found.T, drawn(jnp.swapaxes(step, 0, 1)))
    ramp = drawn(jnp.linspace(-1, 1, 16)[:, None, None])
    assert np.all(drawn(jnp.zeros(())) == 1) and np.ptp(ramp[2:-2]) < 1e-5


def test_what_cannot_be_is_one_line():
    with pytest.raises(ValueError, match='3 channels, got 1'):
        degradation.colorization((8, 8, 1))
    with pytest.raises(ValueError, match='noise above 0'):
        degradation.denoising(0.0)
