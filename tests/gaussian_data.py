"""Data whose every answer is known: N(mean, std²), each component on its own."""

import jax.numpy as jnp

from jaxdiff.diffusion.schedule import broadcast

MEAN, STD = 0.3, 0.6


def denoiser(schedule):
    """The exact E[x0 | x_t], at a time that is a scalar or [b]."""

    def denoise(x_t, t):
        alpha, sigma = schedule(broadcast(t, x_t))
        gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
        return MEAN + gain * (x_t - alpha * MEAN)

    return denoise


def moments(schedule, t):
    """Mean and standard deviation of x_t."""
    alpha, sigma = schedule(t)
    return alpha * MEAN, jnp.sqrt(alpha**2 * STD**2 + sigma**2)


def flow(schedule, x_t, t, s):
    """The probability-flow ODE's exact solution at s from x_t at t."""
    (mean_t, std_t), (mean_s, std_s) = moments(schedule, t), moments(schedule, s)
    return mean_s + std_s / std_t * (x_t - mean_t)
