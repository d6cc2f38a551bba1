"""What is measured: the same networks, batches and work for both."""

from typing import NamedTuple


class Case(NamedTuple):
    """A network on images of one shape, and what is done with it."""

    net: dict  # keys of our config's section `net`
    shape: tuple[int, int, int]
    work: str  # 'train' or 'sample'
    batch: int = 64
    most: float | None = None  # what ours may take of theirs


def unet(channels, multipliers, attention):
    """Of our config, without labels."""
    return {
        'name': 'unet',
        'channels': channels,
        'multipliers': multipliers,
        'attention': attention,
        'condition': '',
    }


DIT = {
    'name': 'dit',
    'patch': 4,
    'width': 192,
    'depth': 6,
    'heads': 3,
    'positions': 'sincos',
    'condition': '',
}
FIRST = unet(32, (1, 2, 2), (7,))
CASES = {
    'U-Net, 28 x 28 x 1, 32 channels (1, 2, 2)': Case(FIRST, (28, 28, 1), 'train', most=0.95),
    'U-Net, 32 x 32 x 3, 64 channels (1, 2, 2, 2)': Case(
        unet(64, (1, 2, 2, 2), (16,)), (32, 32, 3), 'train', most=1.10
    ),
    'DiT, 32 x 32 x 3, patch 4, width 192, depth 6': Case(DIT, (32, 32, 3), 'train', most=0.65),
    'DDIM, 50 steps, the first U-Net': Case(FIRST, (28, 28, 1), 'sample', 16, most=0.90),
}
STEPS = 50  # of sampling
