"""Text to image by latent diffusion: emoji of 64 x 64 pixels by their captions.

    jaxdiff prepare emoji
    jaxdiff train --config emoji_autoencoder
    jaxdiff train --config emoji_ldm
    jaxdiff sample --workdir runs/emoji_ldm --prompt "red circle" "cat face" --guidance 3

In the 16 x 16 x 4 latents of `emoji_autoencoder`; the byte-level text encoder learns with the
network.
"""

from jaxdiff.configs import emoji


def get_config():
    config = emoji.get_config()
    config.data.image_size = 0
    config.codec.name = 'latent'
    config.codec.path = 'runs/emoji_autoencoder'
    config.net.channels = 64
    config.net.multipliers = (1, 2)
    config.net.attention = (8,)
    config.train.steps = 4000
    config.sample.clip = False
    return config
