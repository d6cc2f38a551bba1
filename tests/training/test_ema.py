import jax.numpy as jnp
import numpy as np

from jaxdiff.training import ema


def test_without_warmup_it_is_geometric():
    average = jnp.zeros(())
    for step in range(10):
        average = ema.update(average, jnp.ones(()), step, decay=0.9, warmup=False)
    np.testing.assert_allclose(average, 1 - 0.9**10, rtol=1e-6)


def test_warmup_forgets_the_start_and_then_the_decay_rules():
    """The start's weight after n steps is the product of (1 + k) / (10 + k), not decay**n."""
    average = jnp.ones(())
    for step in range(50):
        average = ema.update(average, jnp.zeros(()), step, decay=0.9999)
    k = np.arange(50)
    np.testing.assert_allclose(average, np.prod((1 + k) / (10 + k)), rtol=1e-4)
    late = ema.update(jnp.ones(()), jnp.zeros(()), 10**6, decay=0.99)
    np.testing.assert_allclose(late, 0.99, rtol=1e-6)
