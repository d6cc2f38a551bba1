"""ImageNet at 64 x 64 by class, as EDM trains ADM's network: 295,900,035 parameters, 610,352 steps of 4,096.

Command: `jaxdiff train --config imagenet64_edm --config.train.parallel=mesh --config.train.fsdp=0`; the data as for
`imagenet256_dit`.

The paper (Karras et al. 2022, figure 5) reports an FID of 1.36 by its stochastic sampler in 511 evaluations of the
network. We have not run it: no accelerator and no ImageNet were at hand; the number of parameters is that of the
paper's code, 295,899,267, and of a label that is hidden, 768; one real step on stand-in images of the right shape is
tested. Their FID is against the whole training set: `jaxdiff evaluate --most 1281167`.
"""

from jaxdiff.configs import cifar10_edm


def get_config():
    """The settings of Karras et al. 2022, table 5 and appendix F, and of their code; see also `cifar10_edm`.

    Their loss is a sum over 12,288 numbers, a hundredfold (`--ls=100`). They train in float16, we in float32.
    """
    config = cifar10_edm.get_config()
    config.data.name = 'imagenet2012'
    config.data.image_size = 64
    config.data.flip = False
    config.net.condition = 'class'
    config.net.style = 'adm'
    config.net.channels = 192
    config.net.multipliers = (1, 2, 3, 4)
    config.net.blocks = 3
    config.net.attention = (32, 16, 8)
    config.net.heads = 0
    config.net.dropout = 0.1
    config.optimizer.learning_rate = 1e-4
    config.optimizer.warmup = 2_441  # 10 million images
    config.optimizer.eps = 1e-8 / 1_228_800
    config.ema.decay = 0.999943  # half after 50 million images
    config.train.batch_size = 4096
    config.train.steps = 610_352  # 2,500 million images
    config.train.checkpoint_every = 5_000
    config.sample.sampler = 'heun_stochastic'
    config.sample.steps = 256
    config.sample.churn = 40.0
    config.sample.s_min = 0.05
    config.sample.s_max = 50.0
    config.sample.s_noise = 1.003
    return config
