import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion import operators

SHAPE = (12, 8, 3)
KNOWN = np.zeros((12, 8, 1), np.float32)
KNOWN[3:9, :5] = 1
OPERATORS = {
    'identity': operators.identity(),
    'mask': operators.mask(KNOWN),
    'grey': operators.grey(3),
    'downsample': operators.downsample(SHAPE, 4),
    'blur': operators.blur(SHAPE, 0.7),
    'wide blur': operators.blur(SHAPE, 3.0),
}


def matrix(function, shape):
    """Of a linear function on images of `shape`."""
    size = int(np.prod(shape))
    return np.asarray(function(jnp.eye(size).reshape(size, *shape)), np.float64).reshape(size, -1).T


@pytest.mark.parametrize('name', OPERATORS)
def test_pinv_is_the_pseudo_inverse(name):
    """Penrose's four conditions, equation (66), for the whole matrices.

    Of the wide blur the inverse leaves out what is all but lost, and so the first does not hold.
    """
    operator = OPERATORS[name]
    a = matrix(operator.apply, SHAPE)
    inverse = matrix(
        operator.pinv, jax.eval_shape(operator.apply, jnp.zeros((1, *SHAPE))).shape[1:]
    )
    size = max(1, np.linalg.norm(inverse, 2))  # what rounding is multiplied by
    if name != 'wide blur':
        np.testing.assert_allclose(a @ inverse @ a, a, atol=2e-6 * size)
    np.testing.assert_allclose(inverse @ a @ inverse, inverse, atol=2e-5 * size)
    for product in (a @ inverse, inverse @ a):
        np.testing.assert_allclose(product, product.T, atol=2e-6 * size)
    assert size < 0.03**-2
    x = jax.random.normal(jax.random.key(0), (2, *SHAPE))  # of a batch, whole images: linear
    flat = lambda z: np.asarray(z).reshape(2, -1)
    np.testing.assert_allclose(flat(operator.apply(x)), flat(x) @ a.T, atol=2e-5)


def test_downsampling_is_the_bicubic_one():
    x = jax.random.normal(jax.random.key(0), (2, *SHAPE))
    expected = jax.image.resize(x, (2, 3, 2, 3), 'cubic', precision='highest')
    np.testing.assert_allclose(OPERATORS['downsample'].apply(x), expected, atol=1e-5)


def test_blur_keeps_what_is_flat_and_the_mean_and_has_its_deviation():
    blur = operators.blur((64, 64, 1), 2.0)
    x = jax.random.normal(jax.random.key(0), (1, 64, 64, 1))
    np.testing.assert_allclose(blur.apply(jnp.ones_like(x)), 1, atol=1e-5)
    np.testing.assert_allclose(blur.apply(x).mean(), x.mean(), atol=1e-6)
    spread = blur.apply(jnp.zeros_like(x).at[0, 32, 32].set(1.0))[0, :, :, 0]
    along = np.asarray(spread.sum(1), np.float64)
    deviation = np.sqrt(np.sum(along * (np.arange(64) - 32) ** 2))
    assert deviation == pytest.approx(2.0, rel=0.01)


@pytest.mark.parametrize(
    'make, message',
    [
        (
            lambda: operators.downsample((12, 9, 1), 4),
            '9 x 12 pixels cannot be made 4 times smaller',
        ),
        (lambda: operators.blur(SHAPE, 0.0), 'must be positive'),
    ],
)
def test_what_cannot_be_is_one_line(make, message):
    with pytest.raises(ValueError, match=message):
        make()
