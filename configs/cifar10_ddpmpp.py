"""CIFAR-10 by DDPM++ in continuous time, VP: 61,804,419 parameters, 1,300,000 steps of 128.

Command: `jaxdiff train --config cifar10_ddpmpp`; the data as for `cifar10`. `--config.net.blocks=8 --config.train.steps=950000`
is the deep one, of 106,632,579 parameters; `--config.diffusion.schedule=sub_vp` the other SDE of the paper.

The paper (Song et al. 2021, tables 2 and 3) reports an FID of 2.55 by its SDE and 3.93 by its ODE, and 3.16 bits per
dimension; deep, 2.41, 3.08 and 3.13; sub-VP, 2.61, 3.16 and 3.02. We have not run it to its end: no accelerator and
no CIFAR-10 were at hand; the number of parameters is that of the paper's code, and one real step on stand-in images
of the right shape is tested.
"""

from jaxdiff.configs import cifar10


def get_config():
    """The settings of Song et al. 2021, appendix H, and of their code."""
    config = cifar10.get_config()
    config.diffusion.schedule = 'vp'
    config.loss.discrete_steps = 0
    config.loss.t_min = 1e-5
    config.net.style = 'ddpm++'
    config.net.blocks = 4
    config.train.steps = 1_300_000
    config.sample.sampler = 'euler_maruyama'
    config.sample.clip = False
    return config
