"""CIFAR-10 as DDPM trains it: unconditional, 35,746,307 parameters, 800,000 steps of 128.

Command: `jaxdiff train --config cifar10` on accelerators, with CIFAR-10 prepared once by
`python -c "import tensorflow_datasets as tfds; tfds.builder('cifar10', file_format='array_record').download_and_prepare()"`.

The paper (Ho et al. 2020, table 1) reports an FID of 3.17 after 800,000 steps on a TPU v3-8, 10.6
hours. We have not run it to its end: no accelerator and no CIFAR-10 were at hand; one real step on
stand-in images of the right shape is tested.
"""

from jaxdiff.configs import default


def get_config():
    """The settings of Ho et al. 2020, appendix B."""
    config = default.get_config()
    config.data.name = 'cifar10'
    config.data.flip = True
    config.diffusion.schedule = 'ddpm_linear'
    config.diffusion.prediction = 'eps'
    config.loss.times = 'independent'
    config.loss.discrete_steps = 1000
    config.loss.condition_dropout = 0.0
    config.net.condition = ''
    config.net.channels = 128
    config.net.multipliers = (1, 2, 2, 2)
    config.net.blocks = 2
    config.net.attention = (16,)
    config.net.dropout = 0.1
    config.optimizer.learning_rate = 2e-4
    config.optimizer.warmup = 5000
    config.ema.decay = 0.9999
    config.ema.warmup = False
    config.train.steps = 800_000
    config.train.log_every = 100
    config.train.checkpoint_every = 5000
    config.train.sample_every = 20_000
    config.sample.sampler = 'ddpm'
    config.sample.variance = 'large'
    config.sample.steps = 1000
    config.sample.num = 64
    config.sample.batch_size = 64
    return config
