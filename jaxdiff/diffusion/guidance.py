"""Guidance: functions from denoisers to a denoiser, which compose with each other and any sampler.

A denoiser's belief is E[x0 | x_t], and Tweedie's formula ties it to the score,

    x0 = (x_t + sigma² ∇ log q(x_t)) / alpha,                                            (18)

so that whatever is added to the score is added to the belief, times sigma² / alpha. At a fixed x_t
every prediction is an affine function of x0 with the same slope: guiding x0 is guiding eps or v. A
learned variance passes through, and is that of the first denoiser.

`cfgpp` depends on the next time as well, and so goes from a sampler to a sampler.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array

from jaxdiff.diffusion.denoiser import Denoiser, mean, on_mean
from jaxdiff.diffusion.samplers.base import Sampler
from jaxdiff.diffusion.schedule import Schedule, broadcast, coefficients


def classifier_free(conditional: Denoiser, unconditional: Denoiser, scale: float) -> Denoiser:
    """Classifier-free guidance: unconditional + scale · (conditional − unconditional).

    `scale` = 0 is the unconditional model, 1 the conditional one, more than 1 exaggerates the
    condition (the paper's w is scale − 1). Of tokens' logits it is the same formula.

    References: Ho and Salimans 2022, arXiv:2207.12598, eq. 6.
    """

    def denoise(x_t, t):
        weak = mean(unconditional(x_t, t))
        return on_mean(lambda strong: weak + scale * (strong - weak), conditional(x_t, t))

    return denoise


def composed(
    conditionals: Sequence[Denoiser], unconditional: Denoiser, weights: Sequence[float]
) -> Denoiser:
    """Several conditions at once: unconditional + sum_i w_i (conditional_i − unconditional).

    With all weights 1 it is the score of p(x) prod_i p(c_i | x), conditions that are independent
    given x; a negative weight leads away from its condition.

    References: Liu et al. 2022, Compositional Visual Generation, arXiv:2206.01714, eq. 11.
    """
    if len(conditionals) != len(weights):
        raise ValueError(f'{len(conditionals)} conditions need as many weights, got {weights}')

    def denoise(x_t, t):
        none = mean(unconditional(x_t, t))
        beliefs = [mean(conditional(x_t, t)) for conditional in conditionals]
        return none + sum(w * (x0 - none) for w, x0 in zip(weights, beliefs))

    return denoise


def autoguidance(model: Denoiser, weaker: Denoiser, scale: float) -> Denoiser:
    """Autoguidance: away from a smaller or less trained model of the same condition.

    It is `classifier_free` with another meaning of the second model.

    References: Karras et al. 2024, arXiv:2406.02507, eq. 3.
    """
    return classifier_free(model, weaker, scale)


def limited(guided: Denoiser, plain: Denoiser, low: float, high: float) -> Denoiser:
    """`guided` at the times low < t ≤ high, and `plain`, which is usually cheaper, at all others.

    Where t is a scalar only one of the two is evaluated. The paper gives its interval as noise
    levels u = sigma / alpha: `schedule.time_of_logsnr(schedule, −2 log u)` is their time.

    References: Kynkäänniemi et al. 2024, arXiv:2404.07724, eq. 6.
    """
    if not 0 <= low <= high <= 1:
        raise ValueError(f'the interval must satisfy 0 ≤ low ≤ high ≤ 1, got {low=}, {high=}')

    def denoise(x_t, t):
        inside = (low < t) & (t <= high)
        if jnp.ndim(t) == 0:
            return jax.lax.cond(inside, guided, plain, x_t, t)
        choose = lambda a, b: jnp.where(broadcast(inside, a), a, b)
        return jax.tree.map(choose, guided(x_t, t), plain(x_t, t))

    return denoise


def rescaled(guided: Denoiser, conditional: Denoiser, share: float) -> Denoiser:
    """Guidance that keeps the contrast: `share` of the belief is given the conditional's deviation.

        x0 = share · std(conditional) / std(guided) · guided + (1 − share) · guided

    with each example's standard deviation over its components. The paper's share is 0.7; it rescales
    v, which at the noisiest times, where contrast is lost, is −x0.

    Under `jax.jit` the conditional model that `guided` asks too is evaluated once.

    References: Lin et al. 2024, arXiv:2305.08891, eqs. 14 to 16.
    """
    if not 0 <= share <= 1:
        raise ValueError(f'share must lie between 0 and 1, got {share=}')

    def denoise(x_t, t):
        axes = tuple(range(1, x_t.ndim))
        deviation = jnp.std(mean(conditional(x_t, t)), axes, keepdims=True)

        def rescale(x0):
            own = jnp.std(x0, axes, keepdims=True)
            size = jnp.max(jnp.abs(x0), axes, keepdims=True)
            flat = own <= 10 * jnp.finfo(x0.dtype).eps * size  # but for rounding: left as it is
            ratio = jnp.where(flat, 1, deviation / jnp.where(flat, 1, own))
            return share * ratio * x0 + (1 - share) * x0

        return on_mean(rescale, guided(x_t, t))

    return denoise


def classifier(
    denoise: Denoiser,
    log_probability: Callable[[Array, Array], Array],
    schedule: Schedule,
    scale: float = 1.0,
) -> Denoiser:
    """Classifier guidance: x0 + scale · sigma² / alpha · ∇ log p(y | x_t), by equation (18).

    With `scale` = 1 and the true p(y | x_t) it turns E[x0 | x_t] into E[x0 | x_t, y].

    Args:
      log_probability: (x_t [b, ...], t) -> log p(y | x_t) [b], of a classifier of noisy data.

    It divides by alpha: let the grid start where alpha > 0, at `schedule.t_max`.

    References: Dhariwal and Nichol 2021, arXiv:2105.05233, eq. 14.
    """

    def guided(x_t, t):
        slope = jax.grad(lambda x: jnp.sum(log_probability(x, t)))(x_t)
        c = coefficients(schedule, t, x_t)
        return on_mean(lambda x0: x0 + scale * c.sigma**2 / c.alpha * slope, denoise(x_t, t))

    return guided


def cfgpp(sampler: Sampler, schedule: Schedule, unconditional: Denoiser, scale: float) -> Sampler:
    """CFG++: a step by the unconditional model, then towards the condition by `scale` in [0, 1].

        x_s = step(unconditional) + scale · alpha_s (x0_conditional − x0_unconditional),   (19)

    that is, the belief is guided and the noise that is put back is the unconditional one. On DDIM
    it equals `classifier_free` with the scale −scale / expm1((λ_t − λ_s) / 2), λ the logsnr: the
    push is per step, so that more steps push further.

    The denoiser that the sampler is run with is the conditional one. `nfe` counts two evaluations
    besides the sampler's own; where the first of those is the unconditional at x_t, as with DDIM,
    XLA computes it once.

    References: Chung et al. 2024, arXiv:2406.08070, algorithm 2.
    """
    if not 0 <= scale <= 1:
        raise ValueError(f'the scale of CFG++ must lie between 0 and 1, got {scale=}')

    def init(x_1, conditional, times):
        return sampler.init(x_1, unconditional, times)

    def step(keys, state, t, s, conditional):
        towards = mean(conditional(state.x, t)) - mean(unconditional(state.x, t))
        after = sampler.step(keys, state, t, s, unconditional)
        x_s = after.x + scale * schedule(s)[0] * towards
        return after._replace(x=x_s, nfe=after.nfe + 2)

    return Sampler(init, step)
