"""CIFAR-10 by a variational diffusion model: 30,586,243 parameters and a learned schedule, 10,000,000 steps of 128.

Command: `jaxdiff train --config cifar10_vdm`; the data as for `cifar10`. `jaxdiff evaluate --workdir
runs/cifar10_vdm --metrics bound` measures it.

The paper (Kingma et al. 2021, table 1) reports 2.65 bits per dimension, without augmentation. We have not run it to
its end: no accelerator and no CIFAR-10 were at hand; one real step on stand-in images of the right shape is tested.
The network of the paper's code has 30,578,179 parameters: ours tells each of its 67 blocks of the noise with a bias,
128 numbers, and is told no unused condition, 512.
"""

from jaxdiff.configs import cifar10


def get_config():
    """The settings of Kingma et al. 2021, appendix B, and of their code: no halving, no clipping, no mirroring.

    As in the paper the schedule is a monotone network; that of the code's own config is a straight line. Ours lets
    biases decay too.
    """
    config = cifar10.get_config()
    config.data.flip = False
    config.diffusion.schedule = 'learned'
    config.diffusion.embedding = 'logsnr'
    config.loss.name = 'variational'
    config.loss.times = 'low_discrepancy'
    config.loss.discrete_steps = 0
    config.net.style = 'vdm'
    config.net.multipliers = (1,)
    config.net.blocks = 32
    config.net.attention = ()
    config.optimizer.name = 'adamw'
    config.optimizer.weight_decay = 0.01
    config.optimizer.b2 = 0.99
    config.optimizer.warmup = 100
    config.optimizer.clip = 0.0
    config.train.steps = 10_000_000
    config.sample.variance = 'small'
    config.sample.clip = False
    return config
