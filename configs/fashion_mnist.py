"""Clothes, 28 × 28, by class, with classifier-free guidance.

Command: `jaxdiff train --config fashion_mnist`

Time: 13 min 23 s on two CPU cores. Result: recognisable clothes of every class; of 500 DDIM-50
samples with guidance 2 an SVC that is right on 87 % of real test images calls 81 % as labelled.
"""

from jaxdiff.configs import default


def get_config():
    """Fashion-MNIST's 60,000 training images; three resolutions, guidance 2."""
    config = default.get_config()
    config.data.name = 'fashion_mnist'
    config.net.multipliers = (1, 2, 2)
    config.net.attention = (7,)
    config.optimizer.learning_rate = 1e-3
    config.optimizer.decay = 'cosine'
    config.train.batch_size = 64
    config.train.steps = 800
    config.train.checkpoint_every = 200
    config.train.sample_every = 400
    config.train.log_every = 20
    config.sample.guidance = 2.0
    return config
