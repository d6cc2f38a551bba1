"""Handwritten digits, 8 × 8, by class: the first model, on data inside scikit-learn's wheel."""

from jaxdiff.configs import default


def get_config():
    """1,438 images, two resolutions, v-prediction on the cosine schedule."""
    config = default.get_config()
    config.train.steps = 2000
    config.optimizer.decay = 'cosine'
    return config
