import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.codecs import adversarial


def test_the_hinge_loss_where_it_is_known():
    scores = np.array([[0.0, 0.0], [1.0, 3.0], [-2.0, 0.0]])
    found = adversarial.hinge(scores, -scores)
    np.testing.assert_allclose(found, [1, 0, 2])  # undecided, sure, and wrong
    np.testing.assert_allclose(adversarial.hinge(scores[1:2], scores[1:2]), [(0 + 3) / 2])


def test_the_gradient_is_both_at_the_same_size_and_the_value_the_distance_alone():
    """Of d = |y − a|² / 2 and a linear score: y − a, and the score's direction times |y − a|."""
    a = np.array([[1.0, 2.0], [0.0, -1.0], [3.0, 3.0]])
    y = np.array([[4.0, -2.0], [0.0, 0.0], [3.0, 3.0]])
    c = np.array([[0.3, 0.4], [-7.0, 0.0], [1.0, 1.0]])

    def total(y, weight):
        values = adversarial.with_score(
            lambda y: jnp.sum(jnp.square(y - a), 1) / 2, lambda y: jnp.sum(c * y, 1) + 5, y, weight
        )
        return jnp.sum(values), values

    for weight in (0.0, 1.0, 2.5):
        gradient, values = jax.grad(total, has_aux=True)(y, weight)
        np.testing.assert_allclose(values, np.sum((y - a) ** 2, 1) / 2)
        direction = c / np.linalg.norm(c, axis=1, keepdims=True)
        size = np.linalg.norm(y - a, axis=1, keepdims=True)
        expected = y - a + weight * size * direction
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-4)
