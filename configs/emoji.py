"""Text to image: emoji of 32 x 32 pixels by their captions, in two styles.

    jaxdiff prepare emoji
    jaxdiff train --config emoji
    jaxdiff sample --workdir runs/emoji --prompt "red circle" "cat face" --guidance 3

The byte-level text encoder learns with the network.
"""

from jaxdiff.configs import default


def get_config():
    config = default.get_config()
    config.data.name = 'emoji'
    config.data.image_size = 32
    config.net.condition = 'text'
    config.net.channels = 64
    config.net.multipliers = (1, 2, 2)
    config.net.attention = (8,)
    config.net.heads = 4
    config.text.length = 96
    config.optimizer.learning_rate = 1e-3
    config.optimizer.decay = 'cosine'
    config.train.steps = 2000
    config.train.batch_size = 64
    config.train.checkpoint_every = 250
    config.train.sample_every = 500
    config.sample.prompts = (
        'red circle',
        'smiling face',
        'cat face',
        'green heart',
        'dog face',
        'blue circle',
        'red heart',
        'flag of Germany',
        'sun',
        'pizza, google style',
    )
    config.sample.guidance = 3.0
    config.sample.num = 40
    config.sample.batch_size = 40
    return config
