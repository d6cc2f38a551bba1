"""The variational bound on −log p(x0) of discrete data, in nats per example.

Over times 1 = t_T > … > t_0 = 0 any chain and denoiser satisfy

    −log p(x0) <= KL(q(x_1 | x0) ‖ prior) + sum_{i > 1} E KL_i + E [−log p(x0 | x_{t_1})],  (64)
    KL_i = KL(q(x_s | x_t, x0) ‖ q(x_s | x_t, x0 ~ belief(x_t))),    t = t_i, s = t_{i−1},

x_t drawn from q(x_t | x0). The last term is KL_1: at s = 0 the posterior is the data and the reverse
step the belief. For `absorbing` and T → ∞ the bound is a weighted cross-entropy of the masked
tokens, the same for every schedule that falls from 1 to 0:

    −log p(x0) <= ∫_0^1 w(t) E sum_{l: x_t^l = mask} −log belief_l(x0^l) dt,
    w = −alpha' / (1 − alpha).                                                             (65)

`likelihood.bits_per_dim(nats, x0.shape)` turns either into bits per token with a standard error.

References: Austin et al. 2021 (D3PM), arXiv:2107.03006, eq. 1; Sahoo et al. 2024 (MDLM),
arXiv:2406.07524, eq. 10; Shi et al. 2024 (MD4), arXiv:2406.04329, section 3.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxdiff.diffusion.bound import Bound
from jaxdiff.diffusion.categorical import (
    Chain,
    absorbing_chain,
    full_precision,
    marginal,
    posterior,
)
from jaxdiff.diffusion.denoiser import Denoiser, precise
from jaxdiff.diffusion.schedule import Schedule, coefficients


def masked_cross_entropy(
    keys: Array,
    predict: Callable[[Array, Array], Array],
    x0: Array,
    t: Array,
    schedule: Schedule,
    size: int,
) -> Array:
    """Equation (65) at one time per example, [b]: its mean over t uniform on (0, 1) is the bound.

    Args:
      keys: [b], one per example.
      predict: (x_t, t) -> logits [b, ..., size], the network in training or a denoiser.
      x0: [b, ...] tokens.
      t: [b].
    """
    transition = absorbing_chain(schedule, size).transition
    x_t = jax.vmap(transition)(keys, x0, jnp.zeros_like(t), t)
    log_belief = jax.nn.log_softmax(full_precision(predict(x_t, t)))
    nats = -jnp.take_along_axis(log_belief, x0[..., None], -1)[..., 0]
    c = coefficients(schedule, t, x0)
    weight = -c.dalpha / jnp.where(c.alpha < 1, 1 - c.alpha, 1)
    return _sum(weight * jnp.where(x_t == size, nats, 0))


def discrete_bound(
    keys: Array,
    denoise: Denoiser,
    chain: Chain,
    x0: Array,
    times: Array,
    u: Array | None = None,
) -> Bound:
    """Equation (64), its three parts [b] apart, with one draw of x_t per step.

    Args:
      keys: [b], one per example.
      denoise: (x_t, t) -> logits [b, ..., size]; with `u` it is asked at times [b].
      chain: `absorbing_chain`, `uniform_chain` or `ordinal_chain`.
      x0: [b, ...] tokens.
      times: [T + 1], from 1 down to 0, as a sampler visits them.
      u: [b] numbers in [0, 1), from `jaxdiff.diffusion.times`: each example's one random step, and
        `diffusion` an unbiased estimate from it. None sums over all steps.

    Raises: ValueError where there is no step.
    """
    if jnp.ndim(times) != 1 or len(times) < 2:
        raise ValueError(f'times must be a vector of two or more, got shape {jnp.shape(times)}')
    times, n, denoise = jnp.asarray(times), len(times) - 2, precise(denoise)

    def term(i):
        t = jnp.broadcast_to(times[i], len(x0))
        folded = jax.vmap(jax.random.fold_in)(keys, jnp.broadcast_to(i, len(x0)))
        x_t = jax.vmap(chain.transition)(folded, x0, jnp.zeros_like(t), t)
        return step_kl(denoise, chain, x0, x_t, times[i], times[i + 1])

    last = term(n)
    total = jnp.zeros_like(last)
    if n and u is None:
        total, _ = jax.lax.scan(lambda sum, i: (sum + term(i), None), total, jnp.arange(n))
    elif n:
        total = n * term(jnp.minimum(jnp.floor(u * n).astype(int), n - 1))
    found = marginal(chain, x0, times[0]).astype(last.dtype)
    return Bound(_sum(_kl(found, jnp.asarray(chain.law, last.dtype))), total, last)


def step_kl(denoise: Denoiser, chain: Chain, x0: Array, x_t: Array, t: Array, s: Array) -> Array:
    """KL_i of equation (64) at a given x_t, [b]; drawn and summed it is D3PM's training loss.

    t and s are scalars or [b]. At s = 0 it is the cross-entropy −log belief(x0).
    """
    belief = full_precision(denoise(x_t, t))
    known = jnp.log(jax.nn.one_hot(x0, chain.size, dtype=belief.dtype))
    laws = (posterior(chain, x_t, logits, t, s) for logits in (known, belief))
    return _sum(_kl(*laws))


def _kl(p, q):
    return jnp.sum(jax.scipy.special.rel_entr(p, q), -1)


def _sum(x):
    return jnp.sum(x, axis=tuple(range(1, x.ndim)))
