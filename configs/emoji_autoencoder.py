"""An autoencoder of emoji: 64 x 64 x 3 to 16 x 16 x 4 (f4).

    jaxdiff prepare emoji
    jaxdiff train --config emoji_autoencoder

Result: mean PSNR 30.35 dB and SSIM 0.925 of the 784 images of held-out concepts, after 26 min 32 s on
two CPU cores beside other work (1.2 s a step without it); 29.96 dB with 950 steps, 20 min 19 s. For f8,
64 x 64 x 3 to 8 x 8 x 4: --config.autoencoder.multipliers='(1, 2, 2)', 25.16 dB and SSIM 0.813 after
1,650 steps of 16 images (--config.train.batch_size=16 --config.train.steps=1650), 27 min beside other work.
"""

from jaxdiff.configs import default


def get_config():
    config = default.get_config()
    config.model = 'autoencoder'
    config.data.name = 'emoji'
    config.optimizer.learning_rate = 2e-3
    config.optimizer.decay = 'cosine'
    config.train.steps = 1100
    config.train.batch_size = 32
    config.train.checkpoint_every = 200
    config.train.sample_every = 550
    config.sample.batch_size = 98
    return config
