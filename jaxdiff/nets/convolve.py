"""Convolution whose kernel learns quickly on a CPU.

The gradient by the kernel sums over examples, and XLA:CPU takes it as one convolution whose kernel is
a whole batch, slowly where that is larger than a core's cache. A network that pmap trains on CPUs
therefore sums over a few examples at a time: the step of a U-Net takes 0.70 instead of 0.86 s on two
cores (28 x 28, 32 channels, batch 64), that of the emoji autoencoder 0.39 instead of 0.44. On
accelerators it is XLA's own sum.

It is a rule for reverse mode (`jax.custom_vjp`), which forbids forward mode (`jax.jvp`), so that it
holds only where `in_reverse_mode` says that a function, a training loss, is differentiated so.
"""

import contextvars
import functools
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

CACHE = 2**20  # bytes of dy that are met at once
PARTS = 32  # at most, each of which is an operation of the program
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
    return _convolve(plain, lhs, rhs)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolve(plain, x, kernel):
    return plain(x, kernel)


def _forward(plain, x, kernel):
    return plain(x, kernel), (x, kernel)


def _backward(plain, kept, dy):
    x, kernel = kept
    (dx,) = jax.linear_transpose(lambda x: plain(x, kernel), x)(dy)
    num = len(x)
    # Powers of two: what is summed over is the convolution's channels, which are met in vectors.
    fit = 1 << max(1, CACHE * num // dy.nbytes).bit_length() - 1
    size = max(fit, 1 << (-(-num // PARTS) - 1).bit_length())

    def of(part):
        (dk,) = jax.linear_transpose(lambda kernel: plain(x[part], kernel), kernel)(dy[part])
        return dk.astype(jnp.promote_types(dk.dtype, jnp.float32))

    dk = sum(of(slice(start, start + size)) for start in range(0, num, size))
    return dx, dk.astype(kernel.dtype)


_convolve.defvjp(_forward, _backward)
