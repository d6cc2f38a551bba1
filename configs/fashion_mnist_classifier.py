"""A classifier of noisy clothes, which leads an unconditional model to a class.

jaxdiff train --config fashion_mnist_classifier
jaxdiff train --config fashion_mnist --config.net.condition= --config.sample.guidance=1
jaxdiff sample --workdir runs/fashion_mnist --classifier runs/fashion_mnist_classifier --label Bag
"""

from jaxdiff.configs import default


def get_config():
    """The way down of `fashion_mnist`'s network."""
    config = default.get_config()
    config.model = 'classifier'
    config.data.name = 'fashion_mnist'
    config.classifier.multipliers = (1, 2, 2)
    config.optimizer.learning_rate = 1e-3
    config.optimizer.decay = 'cosine'
    config.train.batch_size = 64
    config.train.steps = 1500
    config.train.checkpoint_every = 250
    config.train.sample_every = 500
    config.sample.batch_size = 200
    return config
