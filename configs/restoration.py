"""Models that undo what was done to clothes: `config.task`, 28 x 28, without labels.

    jaxdiff train --config restoration --config.task=super_resolution --workdir runs/larger
    jaxdiff train --config restoration --config.task=denoise --config.degradation.noise=0.5 --workdir runs/clean
    jaxdiff sample --workdir runs/larger --examples 'test[:16]' --degrade

What is shown leaves little to be drawn: a small network and a few minutes.
"""

from jaxdiff.configs import default


def get_config():
    """Two resolutions, 300 steps."""
    config = default.get_config()
    config.task = 'super_resolution'
    config.data.name = 'fashion_mnist'
    config.net.condition = ''
    config.net.attention = ()
    config.optimizer.decay = 'cosine'
    config.train.batch_size = 32
    config.train.steps = 300
    config.train.checkpoint_every = 100
    config.train.sample_every = 300
    config.train.log_every = 20
    config.sample.num = 16
    config.sample.batch_size = 16
    return config
