"""Networks as Flax modules; none of them knows of a process, a schedule or a config."""

from jaxdiff.nets import autoencoder, discriminator, dit
from jaxdiff.nets.autoencoder import Autoencoder
from jaxdiff.nets.classifier import Classifier
from jaxdiff.nets.discriminator import Discriminator
from jaxdiff.nets.dit import DiT
from jaxdiff.nets.unet import STYLES, UNet, check_size

__all__ = [
    'Autoencoder',
    'Classifier',
    'DiT',
    'Discriminator',
    'STYLES',
    'UNet',
    'autoencoder',
    'check_size',
    'discriminator',
    'dit',
]
