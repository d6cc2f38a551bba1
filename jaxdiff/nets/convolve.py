"""Convolution whose kernel learns quickly on a CPU.

With y = conv(x, k) of stride s and padded x, the gradient by the kernel is, for each of its places i,

    dk_i = sum over examples and positions p of x_(s p + i) ⊗ dy_p,

one product of two matrices. XLA takes all places at once, as a convolution whose kernel is as large as
the image, and XLA:CPU spends 2 to 6 times as long on that. A network that is trained on CPUs therefore
computes it place by place; on accelerators it is XLA's own.

It is a rule for reverse mode (`jax.custom_vjp`), which forbids forward mode (`jax.jvp`), so that it
holds only where `in_reverse_mode` says that a function, a training loss, is differentiated so.
"""

import contextvars
import functools
import itertools
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

_REVERSE = contextvars.ContextVar('reverse', default=False)


def in_reverse_mode(function: Callable) -> Callable:
    """The function, of which the caller takes gradients by reverse mode only, and only once."""

    @functools.wraps(function)
    def traced(*args):
        token = _REVERSE.set(True)
        try:
            return function(*args)
        finally:
            _REVERSE.reset(token)

    return traced


def conv_general_dilated(lhs: Array, rhs: Array, window_strides, padding, **options) -> Array:
    """`jax.lax.conv_general_dilated`, as `nn.Conv` calls it, channels last."""
    plain = partial(
        lax.conv_general_dilated, window_strides=window_strides, padding=padding, **options
    )
    if not _REVERSE.get():
        return plain(lhs, rhs)
    return _convolve(plain, tuple(window_strides), padding, lhs, rhs)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _convolve(plain, strides, padding, x, kernel):
    return plain(x, kernel)


def _forward(plain, strides, padding, x, kernel):
    return plain(x, kernel), (x, kernel)


def _backward(plain, strides, padding, kept, dy):
    x, kernel = kept
    (dx,) = jax.linear_transpose(lambda x: plain(x, kernel), x)(dy)
    sides, sizes = kernel.shape[:-2], dy.shape[1:-1]
    pads = lax.padtype_to_pads(x.shape[1:-1], sides, strides, padding)
    padded, rows = jnp.pad(x, ((0, 0), *pads, (0, 0))), dy.reshape(-1, dy.shape[-1])
    exact = jnp.promote_types(dy.dtype, jnp.float32)

    def at(place):
        met = (slice(i, i + s * (n - 1) + 1, s) for i, s, n in zip(place, strides, sizes))
        seen = padded[:, *met].reshape(-1, x.shape[-1])
        return jnp.matmul(seen.T, rows, preferred_element_type=exact)

    places = itertools.product(*map(range, sides))
    return dx, jnp.stack([at(place) for place in places]).reshape(kernel.shape).astype(kernel.dtype)


_convolve.defvjp(_forward, _backward)
