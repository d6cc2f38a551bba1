"""From a config to an autoencoder, for `config.model = 'autoencoder'`.

It is trained by the same step as a diffusion model, on

    mean |x − x'|² + absolute · mean |x − x'| + kl_weight · KL                     (of Gaussians)
    mean |x − x'|² + absolute · mean |x − x'| + commitment + codebook + restart    (of codes)

with x' decoded from a latent that is drawn, or quantised, and moved by Gaussian noise, so that the
decoder forgives what a diffusion model does not get exactly right.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from jaxdiff import codecs, nets
from jaxdiff.codecs import latent


class Autoencoder(NamedTuple):
    """A network that is an autoencoder; what else stands here is as in `Model`."""

    net: nets.Autoencoder
    codec: codecs.Codec
    shape: tuple[int, ...]
    data_shape: tuple[int, ...]
    dtype: str
    num_classes: int = 0
    text: None = None


def model(config: ConfigDict, shape: tuple[int, ...], levels: int) -> Autoencoder:
    """The autoencoder for images of `shape` (h, w, c).

    Raises: ValueError where its sides can't be shrunk so far.
    """
    c = config.autoencoder
    nets.autoencoder.check_size(shape, c.multipliers)
    net = nets.Autoencoder(
        out_channels=shape[-1],
        latent_channels=c.latent_channels,
        codes=c.codes if c.kind == 'vq' else 0,
        channels=c.channels,
        multipliers=c.multipliers,
        blocks=c.blocks,
        attention=c.attention,
        dtype=config.net.dtype,
        remat=config.net.remat,
    )
    dtype = 'float64' if config.net.dtype == 'float64' else 'float32'
    return Autoencoder(net, codecs.pixels(levels), tuple(shape), tuple(shape), dtype)


def init(model: Autoencoder, key: Array) -> Any:
    """Initial parameters."""
    params = model.net.init(key, jnp.zeros((1, *model.shape)))
    return jax.tree.map(lambda x: x.astype(model.dtype), params)


def loss(config: ConfigDict, model: Autoencoder) -> Callable[[Any, dict, Array], Any]:
    """(params, batch, key of the step) -> each example's loss, and no noise level: NaN, [b] each."""
    c = config.autoencoder

    def losses(params, batch, key):
        key_examples, key_restart = jax.random.split(key)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key_examples, batch['index'])
        encode, draw, noise = jax.vmap(lambda k: jax.random.split(k, 3), out_axes=1)(keys)
        x = model.codec.encode(encode, batch['image'])
        found = model.net.apply(params, x, method='encode')
        if c.kind == 'vq':
            quantized = latent.quantize(found, params['params']['codebook'])
            z, extra = quantized.z, c.commitment * quantized.commitment + quantized.codebook
            if c.restart:  # of the whole batch, see `check_devices`
                extra += c.restart * latent.restart(
                    key_restart, found, quantized.codes, params['params']['codebook']
                )
        else:
            of = latent.gaussian(found)
            z, extra = latent.draw(draw, of), c.kl_weight * latent.kl(of)
        if c.noise:
            eps = jax.vmap(lambda k: jax.random.normal(k, z.shape[1:], z.dtype))(noise)
            z = z + c.noise * eps
        apart = x - model.net.apply(params, z, method='decode')
        axes = tuple(range(1, x.ndim))
        values = jnp.mean(jnp.square(apart) + c.absolute * jnp.abs(apart), axes) + extra
        return values, jnp.full(len(values), jnp.nan)

    return losses


def reconstruct(model: Autoencoder) -> Callable[[Any, Array], Array]:
    """(params, images uint8 [b, h, w, c]) -> images through the latent's mean, or code, and back."""

    def back(params, images):
        x = model.codec.encode(None, images)
        z = model.net.apply(params, x, method='encode')
        if model.net.codes:
            z = latent.quantize(z, params['params']['codebook']).z
        else:
            z = latent.gaussian(z).mean
        return model.codec.decode((), model.net.apply(params, z, method='decode'))

    return back
