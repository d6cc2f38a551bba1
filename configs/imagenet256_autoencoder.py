"""An autoencoder of ImageNet: 256 x 256 x 3 to 32 x 32 x 4 (f8), with a discriminator of patches.

Command: `jaxdiff train --config imagenet256_autoencoder` on accelerators, with ImageNet prepared as
`imagenet256_dit` says.

The authors of latent diffusion (Rombach et al. 2022, their model zoo) report for their f8 with KL, which
was trained on Open Images, a PSNR of 24.19 and an rFID of 0.90 on ImageNet. Theirs has a perceptual loss
by a network trained on images besides, which here is `autoencoder.perceptual` by the features of another
run, off; and a level more, where here a stem takes images of half the sides. We have not run it: no
accelerator and no ImageNet were at hand.
"""

from jaxdiff.configs import default


def get_config():
    """Three levels of 128 to 512 channels, attention to all positions, the discriminator after 50,000 steps."""
    config = default.get_config()
    config.model = 'autoencoder'
    config.data.name = 'imagenet2012'
    config.data.image_size = 256
    config.data.flip = True
    config.autoencoder.channels = 128
    config.autoencoder.multipliers = (1, 2, 4)
    config.autoencoder.attention = True
    config.autoencoder.absolute = 1.0
    config.autoencoder.adversarial = 0.5
    config.autoencoder.adversarial_from = 50_000
    config.autoencoder.discriminator_layers = 3
    config.optimizer.learning_rate = 1e-4
    config.train.batch_size = 96
    config.train.steps = 250_000
    config.train.log_every = 100
    config.train.checkpoint_every = 5000
    config.train.sample_every = 25_000
    config.sample.batch_size = 32
    return config
