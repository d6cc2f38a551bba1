"""Handwritten digits, 8 × 8, by class: the first model, on data inside scikit-learn's wheel."""

from jaxdiff.configs import default


def get_config():
    """1,438 images, two resolutions, v-prediction on the cosine schedule."""
    config = default.get_config()
    config.train.steps = 900
    config.train.checkpoint_every = 300
    config.train.sample_every = 300
    config.optimizer.decay = 'cosine'
    return config
