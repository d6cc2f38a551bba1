"""The ordinal forward process: discrete levels that move to their neighbours.

Levels 0 … size−1 walk at random along a line. With R the symmetric tridiagonal matrix of the rates
between neighbours, whose rows sum to zero, and R = V diag(μ) Vᵀ,

    Q(s, t) = exp((Λ(t) − Λ(s)) R) = V diag(e^((Λ(t) − Λ(s)) μ)) Vᵀ.                       (60)

Every mode of R decays but the constant one: the uniform law is stationary. The slowest, at the rate
gap = −max {μ < 0}, is a monotone function φ of the level, and Λ is such that it fades as the signal
of the schedule does, down to `alpha_min`, so that Λ(0) = 0 and Λ(1) is finite:

    E[φ(x_t) | x0] = a(t) φ(x0),    a = alpha_min + (1 − alpha_min) alpha,
    Λ(t) = −log a(t) / gap.                                                                (61)

(With all rates of R alike between any two levels it would be the `uniform` process.) The prior is
the uniform law, and by the χ² distance of the modes what it lacks is, per token and for alpha(1) = 0,

    KL(q(x_1 | x0) ‖ uniform) <= (size − 1) alpha_min² nats.                               (62)

References: Austin et al. 2021 (D3PM), arXiv:2107.03006, section 3.1 and appendix A.2.3, whose
discretised Gaussian and banded matrices it stands for; Campbell et al. 2022, arXiv:2205.14987,
for such chains in continuous time.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.diffusion.categorical import Chain, check, draw, one_hot, process
from jaxdiff.diffusion.process import Process
from jaxdiff.diffusion.schedule import Schedule


def ordinal(schedule: Schedule, size: int, alpha_min: float = 1e-3, rates=None) -> Process:
    """The ordinal process; see `ordinal_chain` for the arguments.

    `corrupt` also returns which tokens changed.
    """
    return process(ordinal_chain(schedule, size, alpha_min, rates))


def ordinal_chain(schedule: Schedule, size: int, alpha_min: float = 1e-3, rates=None) -> Chain:
    """The chain of `ordinal`: equations (60) and (61).

    Args:
      size: number of levels, at least 2.
      alpha_min: what is left of the slowest mode at alpha = 0, between 0 and 1.
      rates: [size − 1], positive, from each level to the next and back; all 1 by default.
    """
    check(schedule, size, 2)
    if not 0 < alpha_min < 1:
        raise ValueError(f'alpha_min must lie between 0 and 1, got {alpha_min=}')
    rates = np.ones(size - 1) if rates is None else np.asarray(rates, np.float64)
    if rates.shape != (size - 1,) or not np.all(rates > 0):
        raise ValueError(f'rates must be {size - 1} positive numbers, got {rates=}')
    decays, modes = _modes(rates)

    def log_a(t):
        alpha, _ = schedule(t)
        return jnp.log1p(-(1 - alpha_min) * (1 - alpha))

    def matrix(s, t, dtype):
        change = (log_a(t) - log_a(s)).astype(dtype)[..., None]
        v = jnp.asarray(modes, dtype)
        faded = jnp.expm1(change * decays.astype(dtype))
        moved = jnp.matmul(v * faded[..., None, :], v.T, precision='highest')
        q = jnp.eye(size, dtype=dtype) + (moved + jnp.swapaxes(moved, -1, -2)) / 2
        # Every entry is positive for s < t; rounding must not make it less.
        return jnp.maximum(q, -jnp.expm1(change)[..., None] * jnp.finfo(dtype).eps / size)

    def forward(p, s, t):
        q = matrix(*jnp.broadcast_arrays(s, t), p.dtype)
        product = lambda p, q: jnp.matmul(p, q, precision='highest')
        return (jax.vmap(product) if q.ndim == 3 else product)(p, q)

    def transition(key, x_s, s, t):
        return draw(key, forward(one_hot(chain, x_s), s, t)).astype(x_s.dtype)

    # Q is symmetric, to the last bit, so that both maps are one.
    chain = Chain(size, np.full(size, 1 / size), forward, forward, transition)
    return chain


def generator(rates) -> np.ndarray:
    """R of equation (60) from the rates [size − 1] between neighbours."""
    off = np.diag(np.asarray(rates, np.float64), 1)
    off = off + off.T
    return off - np.diag(off.sum(1))


def _modes(rates) -> tuple[np.ndarray, np.ndarray]:
    """−μ / gap, rising from 0 and 1, and the eigenvectors in columns."""
    values, vectors = np.linalg.eigh(-generator(rates))
    values[0] = 0
    return values / values[1], vectors
