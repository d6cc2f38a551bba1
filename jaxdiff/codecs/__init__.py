"""Codecs: between the data and the space in which diffusion runs."""

from jaxdiff.codecs import adversarial, latent
from jaxdiff.codecs.codec import Codec
from jaxdiff.codecs.pixels import pixels

__all__ = ['Codec', 'adversarial', 'latent', 'pixels']
