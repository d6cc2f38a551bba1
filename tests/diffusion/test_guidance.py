import jax.numpy as jnp
import numpy as np

from jaxdiff.diffusion import guidance


def test_the_scale_runs_from_unconditional_through_conditional_and_beyond():
    conditional, unconditional = (lambda x, t: x + 2), (lambda x, t: x)
    for scale in (0, 1, 3):
        guided = guidance.classifier_free(conditional, unconditional, scale)
        np.testing.assert_allclose(guided(jnp.arange(3.0), 0.5), jnp.arange(3.0) + 2 * scale)
