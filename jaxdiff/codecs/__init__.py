"""Codecs: between the data and the space in which diffusion runs."""

from jaxdiff.codecs import latent
from jaxdiff.codecs.codec import Codec
from jaxdiff.codecs.pixels import pixels

__all__ = ['Codec', 'latent', 'pixels']
