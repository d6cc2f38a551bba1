"""A classifier of clean clothes, to judge samples by: agreement with the label, features.

    jaxdiff train --config fashion_mnist_judge

That of `fashion_mnist_classifier`, but for times at which there is next to no noise. Result: right on
88.6 % of the 10,000 test images.
"""

from jaxdiff.configs import fashion_mnist_classifier


def get_config():
    """Noise of deviation exp(-4 ± 1) beside images in [-1, 1]."""
    config = fashion_mnist_classifier.get_config()
    config.loss.distribution = 'log_normal'
    config.loss.time_mean = -4.0
    config.loss.time_std = 1.0
    return config
