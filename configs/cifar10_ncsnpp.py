"""CIFAR-10 by NCSN++ in continuous time, VE: 62,758,787 parameters, 1,300,000 steps of 128.

Command: `jaxdiff train --config cifar10_ncsnpp`; the data as for `cifar10`. `--config.net.blocks=8 --config.train.steps=950000`
is the deep one, of 107,586,947 parameters.

The paper (Song et al. 2021, table 3) reports an FID of 2.38 by predictor and corrector; deep, 2.20. We have not run
it to its end: no accelerator and no CIFAR-10 were at hand; the number of parameters is that of the paper's code, and
one real step on stand-in images of the right shape is tested.
"""

from jaxdiff.configs import cifar10_ddpmpp


def get_config():
    """The settings of Song et al. 2021, appendix H, and of their code.

    Their images lie in [0, 1] and their noise levels between 0.01 and 50; ours have twice the range. Their loss is
    half a sum over 3,072 numbers, ours the mean, so that Adam's eps and the largest norm are a 1,536th. Not theirs: the
    network's input has unit variance, the noise grows from 0 (see `schedule.ve`), and the predictor is ancestral.
    """
    config = cifar10_ddpmpp.get_config()
    config.diffusion.schedule = 've'
    config.diffusion.sigma_min = 0.02
    config.diffusion.sigma_max = 100.0
    config.diffusion.sigma_data = 0.5
    config.diffusion.embedding = 'logsnr'
    config.net.style = 'ncsn++'
    config.optimizer.clip = 1 / 1536
    config.optimizer.eps = 1e-8 / 1536
    config.ema.decay = 0.999
    config.sample.sampler = 'predictor_corrector'
    return config
