"""Solvers of the reverse stochastic differential equation, and Heun's method with noise put back.

The forward process dx = f x dt + g dW (see `schedule.sde`) runs backwards as

    dx = (f x − g² score) dt + g dW̄,    score = (alpha x0 − x) / sigma²,                  (34)

with x0 the belief at x. Euler and Maruyama's step from t to s, with h = t − s, is

    x_s = x_t − h (f x_t − g² score) + g sqrt(h) z,    z ~ N(0, I).                        (35)

It is sound where h |f| is small. Where h |f| ≥ 1, and from alpha = 0, where f and g are infinite,
for the process forgets x_t at once, the step taken is the chain's own, equation (8).

EDM's sampler walks the probability flow instead, equation (24), and before each step raises the
noise level u = sigma / alpha by the forward process, equation (7), from u_t to

    u = (1 + gamma) u_t,    gamma = min(churn / N, sqrt(2) − 1),                           (36)

N being the number of steps. What is added and what the flow removes cancel, whatever the churn.

References: Song et al. 2021, arXiv:2011.13456, eq. 6; Karras et al. 2022, arXiv:2206.00364,
algorithm 2.
"""

import jax
import jax.numpy as jnp

from jaxdiff.diffusion.gaussian import posterior_moments, transition_moments
from jaxdiff.diffusion.samplers.base import Sampler, State, normal, start
from jaxdiff.diffusion.samplers.ode import heun
from jaxdiff.diffusion.schedule import Schedule, logsnr, sde, time_of_logsnr


def euler_maruyama(schedule: Schedule) -> Sampler:
    """Equation (35), in t, of order 1 in law; where h |f| ≥ 1 and to sigma = 0 equation (8).

    The latter returns the belief.

    References: Song et al. 2021, arXiv:2011.13456, eq. 6.
    """

    def step(keys, state, t, s, denoise):
        x0, z = denoise(state.x, t), normal(keys, state.x)
        (alpha, sigma), (f, g2) = schedule(t), sde(schedule, t)

        def inside(x):
            score = (alpha * x0 - x) / sigma**2
            return x - (t - s) * (f * x - g2 * score) + jnp.sqrt((t - s) * g2) * z

        def end(x):
            mean, variance = posterior_moments(schedule, x, x0, t, s)
            return mean + jnp.sqrt(variance) * z

        sound = ((t - s) * jnp.abs(f) < 1) & (schedule(s)[1] > 0)
        return State(jax.lax.cond(sound, inside, end, state.x), state.nfe + 1)

    return Sampler(start, step)


def heun_stochastic(
    schedule: Schedule,
    churn: float = 40.0,
    s_min: float = 0.0,
    s_max: float = float('inf'),
    noise: float = 1.0,
) -> Sampler:
    """EDM's stochastic sampler: equation (36), then `heun` in 'sigma' from there to s.

    Without churn it is `heun`. The level is not raised above that of t = 1, the highest that the
    denoiser knows.

    Args:
      churn: the paper's S_churn, spread evenly over the steps.
      s_min, s_max: the noise levels sigma / alpha between which the level is raised.
      noise: the paper's S_noise, by which the added noise is multiplied; 1 is exact.

    References: Karras et al. 2022, arXiv:2206.00364, algorithm 2 and table 5.
    """
    if not churn >= 0:
        raise ValueError(f'churn must be 0 or more, got {churn=}')
    if not 0 <= s_min <= s_max:
        raise ValueError(f's_min must lie between 0 and s_max, got {s_min=} and {s_max=}')
    if not noise > 0:
        raise ValueError(f'noise must be positive, got {noise=}')
    solver = heun(schedule)
    if churn == 0:
        return solver

    def init(x_1, denoise, times):
        gamma = min(churn / max(len(times) - 1, 1), 2**0.5 - 1)
        return solver.init(x_1, denoise, times)._replace(memory=jnp.asarray(gamma, times.dtype))

    def step(keys, state, t, s, denoise):
        gamma, level = state.memory, logsnr(schedule, t)
        u = jnp.exp(-level / 2)
        churned = (s_min <= u) & (u <= s_max) & jnp.isfinite(u)
        higher = time_of_logsnr(schedule, level - 2 * jnp.log1p(gamma))
        higher = jnp.where(churned, jnp.maximum(higher, t), t)
        mean, variance = transition_moments(schedule, state.x, t, higher)
        added = noise * jnp.sqrt(jnp.maximum(variance, 0)) * normal(keys, state.x)
        x = jnp.where(churned, mean + added, state.x)
        found = solver.step(keys, State(x, state.nfe), higher, s, denoise)
        return found._replace(memory=gamma)

    return Sampler(init, step)
