"""Networks as Flax modules; none of them knows of a process, a schedule or a config."""

from jaxdiff.nets import dit
from jaxdiff.nets.dit import DiT
from jaxdiff.nets.unet import UNet, check_size

__all__ = ['DiT', 'UNet', 'check_size', 'dit']
