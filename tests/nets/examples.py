"""Tiny networks that are told everything, with parameters as training might leave them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.nets import DiT, UNet

TOLD = dict(num_classes=2, text_width=5, image_channels=1)
NETS = {
    'unet': UNet(2, channels=8, multipliers=(1, 2), blocks=1, attention=(8,), heads=2),
    'dit': DiT(2, patch=2, width=24, depth=2, heads=2, mlp_ratio=2),
    'dit_rotary': DiT(2, patch=2, width=24, depth=2, heads=2, mlp_ratio=2, positions='rotary'),
}

# These nets run for milliseconds and would compile for seconds.
jit = functools.partial(
    jax.jit,
    compiler_options={
        'xla_backend_optimization_level': 0,
        'xla_llvm_disable_expensive_passes': True,
    },
)


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def close(a, b, tolerance=2e-5):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), a, b
    )


def shapes(module, *args):
    return jax.eval_shape(module.init, jax.random.key(0), *args)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def trained(module, *args):
    """Parameters as training might leave them: nothing is at zero, and each layer about keeps the size of its input."""
    random = np.random.default_rng(0)

    def fill(path, leaf):
        value = random.standard_normal(leaf.shape) / np.prod(leaf.shape[:-1]) ** 0.5
        return jnp.asarray(
            value * 0.2 + 1.0 if path[-1].key in ('scale', 'variance') else value, jnp.float32
        )

    return jax.tree_util.tree_map_with_path(fill, shapes(module, *args))


def plain_inputs(*shape):
    """(x, noise_level, cond) for a net that is told nothing else."""
    return normal(1, *shape), jnp.linspace(0.0, 1000.0, shape[0]), {}


def inputs(batch=4, size=(8, 8)):
    """(x, noise_level, cond), the last with all that a net can be told; texts of 3, 2, 1, 0, 3 … tokens."""
    mask = jnp.arange(3) < 3 - jnp.arange(batch)[:, None] % 4
    cond = {
        'label': jnp.arange(batch) % 3,
        'text': normal(2, batch, 3, 5),
        'mask': mask,
        'image': normal(3, batch, *size, 1),
    }
    return normal(1, batch, *size, 2), jnp.linspace(0.0, 1000.0, batch), cond


@functools.cache
def example(name, **options):
    """A net that is told everything, compiled, its parameters, and what to call it with."""
    net = NETS[name].clone(**TOLD, **options)
    args = inputs()
    return jit(net.apply), trained(net, *args), *args
