"""From a config to an autoencoder, for `config.model = 'autoencoder'`.

It is trained by the same step as a diffusion model, on

    mean |x − x'|² + absolute · mean |x − x'| + kl_weight · KL                     (of Gaussians)
    mean |x − x'|² + absolute · mean |x − x'| + commitment + codebook + restart    (of codes)

with x' decoded from a latent that is drawn, or quantised, and moved by Gaussian noise, so that the
decoder forgives what a diffusion model does not get exactly right. To the errors of x' may come a
distance of feature maps, see `evaluation.perceptual`, and a discriminator, see `codecs.adversarial`,
whose parameters are the collection 'discriminator': it is trained too, and no part of the codec.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from jaxdiff import codecs, nets
from jaxdiff.codecs import adversarial, latent
from jaxdiff.evaluation import perceptual


class Features(NamedTuple):
    """A network that isn't trained, whose feature maps say how alike images are."""

    apply: Callable[[Any, Array], Sequence[Array]]  # (weights, x in [-1, 1]) -> maps
    weights: Any


class Autoencoder(NamedTuple):
    """A network that is an autoencoder; what else stands here is as in `Model`."""

    net: nets.Autoencoder
    codec: codecs.Codec
    shape: tuple[int, ...]
    data_shape: tuple[int, ...]
    dtype: str
    num_classes: int = 0
    text: None = None
    task: None = None
    discriminator: nets.Discriminator | None = None
    features: Features | None = None  # known where it is trained


def model(
    config: ConfigDict, shape: tuple[int, ...], levels: int, features: Features | None = None
) -> Autoencoder:
    """The autoencoder for images of `shape` (h, w, c); `features` are for its training.

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
    judge = None
    if c.adversarial:
        nets.discriminator.check_size(shape, c.discriminator_layers)
        judge = nets.Discriminator(
            c.discriminator_channels, c.discriminator_layers, config.net.dtype
        )
    shape = tuple(shape)
    return Autoencoder(
        net, codecs.pixels(levels), shape, shape, dtype, discriminator=judge, features=features
    )


def init(model: Autoencoder, key: Array) -> Any:
    """Initial parameters: {'params': …}, and 'discriminator' where there is one."""
    example = jnp.zeros((1, *model.shape))
    params = model.net.init(key, example)
    if model.discriminator:
        judge = model.discriminator.init(jax.random.fold_in(key, 1), example)
        params = params | {'discriminator': judge['params']}
    return jax.tree.map(lambda x: x.astype(model.dtype), params)


def of_codec(params: Any) -> Any:
    """The parameters that encode and decode."""
    return {name: x for name, x in params.items() if name != 'discriminator'}


def loss(config: ConfigDict, model: Autoencoder) -> Callable[[Any, dict, Array], Any]:
    """(params, batch, key of the step) -> each example's loss, and no noise level: NaN, [b] each.

    The values are without the discriminator's game, which has none that falls; the gradients are
    with it. `batch['frozen']` are the features' weights; without, they are constants.

    Raises: ValueError where the loss has a perceptual part, and the model no features.
    """
    c = config.autoencoder
    if c.perceptual and model.features is None:
        raise ValueError('autoencoder.perceptual needs the features of a trained network')

    def errors(x, weights, y):
        apart = x - y
        axes = tuple(range(1, x.ndim))
        found = jnp.mean(jnp.square(apart) + c.absolute * jnp.abs(apart), axes)
        if c.perceptual:
            features = functools.partial(model.features.apply, weights)
            found += c.perceptual * perceptual.distance(features, x, y)
        return found

    def played(judge, x, y, distance, step):
        """The errors, and the discriminator's loss, whose value is left out."""

        def scores(params, images):
            return model.discriminator.apply({'params': params}, images)

        def score(y):
            return -jnp.mean(scores(jax.lax.stop_gradient(judge), y), (1, 2))

        weight = c.adversarial * (step >= c.adversarial_from)
        values = adversarial.with_score(distance, score, y, weight)
        game = adversarial.hinge(scores(judge, x), scores(judge, jax.lax.stop_gradient(y)))
        return values + game - jax.lax.stop_gradient(game)

    def losses(params, batch, key):
        key_examples, key_restart = jax.random.split(key)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key_examples, batch['index'])
        encode, draw, noise = jax.vmap(lambda k: jax.random.split(k, 3), out_axes=1)(keys)
        x = model.codec.encode(encode, batch['image'])
        judge, params = params.get('discriminator'), of_codec(params)
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
        y = model.net.apply(params, z, method='decode')
        weights = batch.get('frozen', model.features and model.features.weights)
        distance = functools.partial(errors, x, weights)
        if model.discriminator:
            values = played(judge, x, y, distance, batch.get('step', c.adversarial_from)) + extra
        else:
            values = distance(y) + extra
        return values, jnp.full(len(values), jnp.nan)

    return losses


def reconstruct(model: Autoencoder) -> Callable[[Any, Array], Array]:
    """(params, images uint8 [b, h, w, c]) -> images through the latent's mean, or code, and back."""

    def back(params, images):
        params = of_codec(params)
        x = model.codec.encode(None, images)
        z = model.net.apply(params, x, method='encode')
        if model.net.codes:
            z = latent.quantize(z, params['params']['codebook']).z
        else:
            z = latent.gaussian(z).mean
        return model.codec.decode((), model.net.apply(params, z, method='decode'))

    return back
