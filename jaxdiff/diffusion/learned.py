"""A learned monotone schedule.

With −logsnr = gamma(t) and a network h of positive weights, rising in t,

    h(t) = l1(t) + l3(sigmoid(l2(l1(t)))),                                               (13)
    gamma(t) = gamma_0 + (gamma_1 − gamma_0) (h(t) − h(0)) / (h(1) − h(0)),              (14)
    alpha² = sigmoid(−gamma),   sigma² = sigmoid(gamma).

The continuous-time bound depends on the end points gamma_0 and gamma_1 alone, however gamma runs
between them, if the network is told gamma and not t. So the end points follow the bound's gradient,
and what lies between follows that of the variance of its one-draw estimate L,

    d Var[L] = d E[L²] = E[2 L dL].                                                      (15)

References: Kingma et al. 2021, arXiv:2107.00630, section 5.2, appendices H and I.2.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxdiff.diffusion.schedule import Schedule


class Params(NamedTuple):
    """A schedule's parameters, for the train state: its end points and what lies between them.

    `low` is gamma_0, softplus(`span`) is gamma_1 − gamma_0, `interior` the raw weights of (13).
    """

    low: Array
    span: Array
    interior: dict[str, Array]


def init(key: Array, gamma_min: float = -13.3, gamma_max: float = 5.0, width: int = 1024) -> Params:
    """Parameters of a nearly straight gamma(t) from `gamma_min` to `gamma_max`.

    Raises: ValueError unless gamma_min < gamma_max and width is 1 or more.
    """
    if not gamma_min < gamma_max:
        raise ValueError(f'gamma_min must be less than gamma_max, got {gamma_min=}, {gamma_max=}')
    if width < 1:
        raise ValueError(f'width must be 1 or more, got {width=}')
    steep, place, height = jax.random.split(key, 3)
    slope = 4 + jax.random.normal(steep, (width,))
    interior = {
        'l1': jnp.asarray([_inverse_softplus(2.0), -1.0]),  # l1(t) = 2 t − 1
        'l2': jnp.stack([slope, -slope * jax.random.uniform(place, (width,), minval=-1)]),
        'l3': jax.random.normal(height, (width,)),
    }
    span = _inverse_softplus(gamma_max - gamma_min)
    return Params(jnp.asarray(float(gamma_min)), jnp.asarray(span), interior)


def schedule(params: Params) -> Schedule:
    """The schedule of equation (14); its sigma(0) and alpha(1) are never zero."""

    def at(t):
        gamma_t = gamma(params, t)
        return jnp.exp(jax.nn.log_sigmoid(-gamma_t) / 2), jnp.exp(jax.nn.log_sigmoid(gamma_t) / 2)

    return at


def gamma(params: Params, t: Array) -> Array:
    """−logsnr at t, a scalar or any array: equation (14)."""
    t = jnp.asarray(t)
    t = t if jnp.issubdtype(t.dtype, jnp.floating) else t.astype(jnp.result_type(float))
    params = jax.tree.map(lambda p: p.astype(t.dtype), params)
    first, last = (_rise(params.interior, jnp.asarray(end, t.dtype)) for end in (0, 1))
    share = (_rise(params.interior, t) - first) / (last - first)
    return params.low + jax.nn.softplus(params.span) * share


def lower_variance(losses: Callable[[Params], Array], params: Params) -> Array:
    """The losses [b], their gradient by the schedule's interior replaced by that of equation (15).

    The value is `losses(params)`; the mean's gradient by anything that `losses` closes over and by
    the end points is its own. It costs one backward pass more.

    Args:
      losses: the schedule's parameters -> an unbiased estimate of the bound for each example,
        `variational.continuous(…, learned.schedule(params), …).total`.
    """
    stop = jax.lax.stop_gradient
    ends_only = params._replace(interior=stop(params.interior))
    values, pull = jax.vjp(losses, ends_only)
    (slopes,) = pull(2 * stop(values) / len(values))
    steps = jax.tree.map(lambda p, g: jnp.sum(stop(g) * (p - stop(p))), params, slopes)
    return values + sum(jax.tree.leaves(steps.interior))  # a zero that has the gradient


def _rise(interior, t):
    """Equation (13), as sums: no matrix product that a TPU would round."""
    positive = jax.nn.softplus
    h = positive(interior['l1'][0]) * t + interior['l1'][1]
    slopes, shifts = interior['l2']
    hidden = jax.nn.sigmoid(positive(slopes) * h[..., None] + shifts)
    return h + jnp.mean(positive(interior['l3']) * hidden, axis=-1)


def _inverse_softplus(x):
    return x + np.log(-np.expm1(-x))
