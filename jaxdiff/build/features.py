"""The feature maps of a trained network, for a distance of images; see `evaluation.perceptual`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxdiff.build.model import Model, net_params, schedule_of
from jaxdiff.diffusion import denoiser
from jaxdiff.nets.classifier import Classifier
from jaxdiff.nets.unet import ResidualBlock


def features_of(model: Model) -> Callable[[Any, Array], list[Array]]:
    """(params, x in [-1, 1], [b, h, w, c]) -> what each level of a classifier ends with, or what each
    residual block on the way down of a U-Net gives.

    The network is asked at t = 0, the image without noise, and told of no label or text.
    """
    net = model.net.clone(remat=False)

    def chosen(module, method):
        return (
            isinstance(module, ResidualBlock)
            and module.name.startswith('down_')
            and not module.resize
        )

    def apply(params, x):
        cond = {}
        if model.num_classes:
            cond['label'] = jnp.full(len(x), model.num_classes)
        if model.text:
            size = len(x), model.text.length
            cond |= {'text': jnp.zeros((*size, model.text.width)), 'mask': jnp.zeros(size, bool)}

        def asked(x, level):
            if isinstance(net, Classifier):
                return net.apply(net_params(model, params), x, level, cond, maps=True)
            return net.apply(
                net_params(model, params),
                x,
                level,
                cond,
                capture_intermediates=chosen,
                mutable=['intermediates'],
            )[1]

        schedule = schedule_of(model, params)
        ask = denoiser.ask(asked, schedule, model.embedding, model.sigma_data)
        return jax.tree.leaves(ask(x, jnp.zeros(())))

    return apply
