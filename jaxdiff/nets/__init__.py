"""Networks as Flax modules; none of them knows of a process, a schedule or a config."""

from jaxdiff.nets.unet import UNet, check_size

__all__ = ['UNet', 'check_size']
