"""Clothes, 28 × 28, by class, with classifier-free guidance.

Command: `jaxdiff train --config fashion_mnist`

Time: 6 to 9 min of training on two CPU cores of 300 GFLOP/s and more, 27 min on two of half as much.
Result: recognisable clothes of every class; of 500 samples with guidance 3 a classifier that is right
on 89 % of real test images calls 93 % as labelled (experiments/guidance).
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
    config.train.steps = 1400
    config.train.checkpoint_every = 200
    config.train.sample_every = 700
    config.train.log_every = 20
    config.sample.guidance = 2.0
    return config
