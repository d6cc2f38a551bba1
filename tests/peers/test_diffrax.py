"""The adaptive solver against diffrax's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import diffusion
from jaxdiff.diffusion import exact, samplers, schedule
from jaxdiff.evaluation import convergence

diffrax = pytest.importorskip('diffrax')


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('name', ['vp', 'flow'])
def test_it_is_as_good_as_diffrax_for_the_same_work(name):
    """diffrax's Dopri5 takes each example alone, in our variable, under the same error norm."""
    make, tolerance = getattr(schedule, name)(), 1e-6
    denoise = exact.mixture(make, convergence.WEIGHTS, convergence.MEANS, convergence.STDS)
    x = jnp.asarray(convergence.STARTS) * jnp.hypot(*make(0.9))
    (alpha_t, sigma_t), (alpha_s, sigma_s) = make(0.9), make(0.1)

    def field(angle, y, args):
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        t = schedule.time_of_logsnr(make, 2 * jnp.log(cos / sin))
        x0 = denoise(jnp.hypot(*make(t)) * y[None], t)[0]
        return (cos * y - x0) / sin

    def solve(y):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            diffrax.Dopri5(),
            jnp.arctan(sigma_t / alpha_t),
            jnp.arctan(sigma_s / alpha_s),
            -0.05,
            y,
            stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
        )

    peer = jax.jit(jax.vmap(solve))(x / jnp.hypot(alpha_t, sigma_t))
    theirs = peer.ys[:, -1] * jnp.hypot(alpha_s, sigma_s)
    keys, times = jax.random.split(jax.random.key(0), len(x)), jnp.array([0.9, 0.1])
    sampler = samplers.ode_adaptive(make, tolerance, tolerance)
    state, _ = jax.jit(lambda x: diffusion.run(keys, denoise, sampler, x, times))(x)
    expected = convergence.flow(denoise, make, x, 0.9, 0.1)
    ours = np.abs(state.x - expected).max()
    np.testing.assert_allclose(state.x, theirs, atol=100 * tolerance)
    assert ours < 3 * np.abs(theirs - expected).max() + tolerance
    trials = (int(state.nfe) - 1) // 6  # those of the slowest example
    assert trials <= peer.stats['num_steps'].max() + 1
