"""What a config may hold: each value alone, and the combinations that can work."""

import sys

import jax
from ml_collections import ConfigDict

from jaxdiff import config as configs, nets
from jaxdiff.build import names
from jaxdiff.build.check_sampling import check_sampling
from jaxdiff.training import posthoc

CHOICES = {
    'codec.name': ('pixels', 'latent'),
    'diffusion.schedule': (*names.SCHEDULES, names.LEARNED),
    'diffusion.prediction': tuple(names.PREDICTIONS),
    'diffusion.embedding': tuple(names.EMBEDDINGS),
    'loss.name': ('denoising', 'hybrid', 'variational'),
    'loss.weighting': tuple(names.WEIGHTINGS),
    'loss.times': ('low_discrepancy', 'independent'),
    'loss.distribution': tuple(names.DISTRIBUTIONS),
    'model': ('diffusion', 'autoencoder', 'classifier'),
    'task': ('', *names.DEGRADATIONS),
    'autoencoder.kind': ('kl', 'vq'),
    'net.name': tuple(names.NETS),
    'net.style': tuple(nets.STYLES),
    'net.condition': ('', 'class', 'text', 'class+text'),
    'net.positions': ('sincos', 'rotary'),
    'text.encoder': ('trained', 'minilm', 'clip'),
    'net.dtype': ('float32', 'bfloat16', 'float64'),
    'optimizer.name': tuple(names.OPTIMIZERS),
    'optimizer.decay': ('constant', 'cosine'),
    'train.parallel': ('pmap', 'mesh'),
    'sample.sampler': tuple(names.SAMPLERS),
    'sample.variance': ('small', 'large', 'learned'),
    'sample.variable': ('t', 'sigma'),
    'sample.grid': tuple(names.GRIDS),
    'sample.method': ('', *names.WHOLE, *names.PARTS, *names.LINEAR),
    'sample.task': ('', *names.LINEAR_TASKS),
    'sample.covariance': ('isotropic', 'jacobian'),
}
# The least and the largest allowed; None is no bound.
RANGES = {
    'seed': (0, 2**31 - 1),
    'data.image_size': (0, None),
    'degradation.factor': (2, None),
    'degradation.blur': (0.1, None),
    'degradation.noise': (0, None),
    'diffusion.sigma_data': (1e-6, None),
    'diffusion.sigma_min': (1e-9, None),
    'diffusion.sigma_max': (1e-6, None),
    'diffusion.shift': (1e-3, None),
    'loss.min_snr_gamma': (1e-6, None),
    'loss.p2_gamma': (0, None),
    'loss.p2_k': (1e-6, None),
    'loss.sigmoid_b': (-100, 100),
    'loss.time_mean': (-100, 100),
    'loss.time_std': (1e-6, None),
    'loss.t_min': (1e-6, 0.5),
    'loss.hybrid_weight': (0, None),
    'loss.discrete_steps': (0, None),
    'loss.condition_dropout': (0, 1),
    'autoencoder.codes': (2, None),
    'autoencoder.latent_channels': (1, None),
    'autoencoder.channels': (4, None),
    'autoencoder.blocks': (1, None),
    'autoencoder.noise': (0, None),
    'autoencoder.absolute': (0, None),
    'autoencoder.kl_weight': (0, None),
    'autoencoder.commitment': (0, None),
    'autoencoder.restart': (0, None),
    'classifier.channels': (2, None),
    'classifier.blocks': (1, None),
    'sample.weaker_step': (0, None),
    'sample.classifier_step': (0, None),
    'sample.classifier_scale': (0, None),
    'autoencoder.perceptual': (0, None),
    'autoencoder.adversarial': (0, None),
    'autoencoder.adversarial_from': (0, None),
    'autoencoder.discriminator_channels': (4, None),
    'autoencoder.discriminator_layers': (1, 8),
    'net.channels': (1, None),
    'net.patch': (1, None),
    'net.width': (1, None),
    'net.depth': (1, None),
    'net.mlp_ratio': (0.1, None),
    'text.width': (1, None),
    'text.layers': (1, None),
    'text.heads': (1, None),
    'text.skip': (0, None),
    'net.blocks': (1, None),
    'net.heads': (0, None),
    'net.dropout': (0, 0.99),
    'optimizer.learning_rate': (0, None),
    'optimizer.warmup': (0, None),
    'optimizer.weight_decay': (0, None),
    'optimizer.clip': (0, None),
    'optimizer.b1': (0, 0.999999),
    'optimizer.b2': (0, 0.999999),
    'optimizer.eps': (0, None),
    'ema.decay': (0, 0.9999999),
    'ema.snapshot_every': (1, None),
    'train.steps': (1, None),
    'train.batch_size': (1, None),
    'train.accumulate': (1, None),
    'train.log_every': (1, None),
    'train.checkpoint_every': (1, None),
    'train.sample_every': (0, None),
    'train.keep': (1, None),
    'train.fsdp': (0, None),
    'train.bad_steps': (1, None),
    'train.rollbacks': (0, None),
    'sample.steps': (1, None),
    'sample.eta': (0, 1),
    'sample.order': (1, 3),
    'sample.churn': (0, None),
    'sample.s_min': (0, None),
    'sample.s_max': (0, None),
    'sample.s_noise': (1e-6, None),
    'sample.corrections': (1, None),
    'sample.snr': (1e-6, 0.999999),
    'sample.langevin_steps': (1, None),
    'sample.langevin_snr': (1e-6, 0.999999),
    'sample.tolerance': (1e-6, 1),
    'sample.sigma_min': (1e-9, None),
    'sample.sigma_max': (1e-6, None),
    'sample.rho': (1e-3, None),
    'sample.guidance': (0, None),
    'sample.guidance_from': (0, 1),
    'sample.guidance_to': (0, 1),
    'sample.guidance_rescale': (0, 1),
    'sample.threshold': (0, 100),
    'sample.strength': (0, 1),
    'sample.jump': (1, None),
    'sample.resamplings': (1, None),
    'sample.dps_scale': (0, None),
    'sample.num': (1, None),
    'sample.batch_size': (1, None),
}


# Where what reads texts is found; that it is the same is known by its digest.
TEXT_FILES = ('text.path', 'text.tokenizer', 'text.vocabulary')


def check(config: ConfigDict) -> None:
    """Raises a ValueError that names the key where a value or a combination can't work."""
    values = configs.flat(config)
    for key, allowed in CHOICES.items():
        if values[key] not in allowed:
            raise ValueError(
                f'{key} must be one of {", ".join(map(repr, allowed))}, got {values[key]!r}'
            )
    for key, (low, high) in RANGES.items():
        if not low <= values[key] <= (sys.float_info.max if high is None else high):
            bound = f'at least {low}' if high is None else f'between {low} and {high}'
            raise ValueError(f'{key} must be {bound}, got {values[key]!r}')
    if not config.net.multipliers or min(config.net.multipliers) < 1:
        raise ValueError(f'net.multipliers must be positive, got {config.net.multipliers}')
    if bool(config.data.name) == bool(config.data.path):
        raise ValueError(
            'exactly one of data.name and data.path must be given; set the other to ""'
        )
    if config.train.batch_size % config.train.accumulate:
        raise ValueError(
            f'train.batch_size={config.train.batch_size} must be a multiple of '
            f'train.accumulate={config.train.accumulate}'
        )
    if config.optimizer.weight_decay and config.optimizer.name != 'adamw':
        raise ValueError("optimizer.weight_decay needs optimizer.name='adamw'")
    if config.train.fsdp != 1 and config.train.parallel != 'mesh':
        raise ValueError(
            f'train.fsdp={config.train.fsdp} shards the state over a mesh: it needs '
            "train.parallel='mesh'"
        )
    if config.net.dtype == 'float64' and not jax.config.jax_enable_x64:
        raise ValueError("net.dtype='float64' needs the environment variable JAX_ENABLE_X64=1")
    _check_net(config)
    for width in config.ema.profiles:
        posthoc.gamma(width)  # refuses what can't be
    if len(set(config.ema.profiles)) < len(config.ema.profiles):
        raise ValueError(f'ema.profiles must differ from each other, got {config.ema.profiles}')
    if config.model == 'autoencoder' and (config.codec.name != 'pixels' or config.codec.dequantize):
        raise ValueError("model='autoencoder' is of pixels: it needs codec.name='pixels' as it is")
    if not config.autoencoder.multipliers or min(config.autoencoder.multipliers) < 1:
        raise ValueError(
            f'autoencoder.multipliers must be positive, got {config.autoencoder.multipliers}'
        )
    if config.task and config.model != 'diffusion':
        raise ValueError(f"task={config.task!r} needs model='diffusion', got {config.model!r}")
    if config.task and config.codec.dequantize:
        raise ValueError(f'task={config.task!r} works without codec.dequantize only')
    if config.model == 'classifier' and config.diffusion.schedule == names.LEARNED:
        raise ValueError("model='classifier' needs a schedule that is known, got 'learned'")
    if not config.classifier.multipliers or min(config.classifier.multipliers) < 1:
        raise ValueError(
            f'classifier.multipliers must be positive, got {config.classifier.multipliers}'
        )
    _check_autoencoder(config)
    if config.codec.name == 'latent' and not config.codec.path:
        raise ValueError("codec.name='latent' needs codec.path, the folder of an autoencoder's run")
    if config.codec.name == 'latent' and (config.data.flip or config.codec.dequantize):
        raise ValueError("codec.name='latent' goes without data.flip and codec.dequantize")
    if config.codec.name == 'latent' and config.sample.clip:
        raise ValueError("codec.name='latent' needs sample.clip=False: latents have no bounds")
    _check_diffusion(config.diffusion)
    _check_loss(config)
    check_sampling(config)


def _check_net(config):
    c = config.net
    if c.name != 'unet' and not c.heads:
        raise ValueError("net.heads=0, one for every 64 channels, needs net.name='unet'")
    told = config.diffusion.embedding
    if config.model == 'diffusion' and c.name == 'unet' and nets.STYLES[c.style].fourier:
        if told != 'logsnr':
            raise ValueError(
                f"net.style={c.style!r} needs diffusion.embedding='logsnr', got {told!r}"
            )


def _check_autoencoder(config):
    c = config.autoencoder
    for name in ('perceptual', 'adversarial'):
        if c[name] and config.model != 'autoencoder':
            raise ValueError(f"autoencoder.{name}={c[name]} needs model='autoencoder'")
    if bool(c.perceptual) != bool(c.features):
        raise ValueError(
            "autoencoder.perceptual needs autoencoder.features, the folder of a U-Net's run, and the "
            f'other way round; got {c.perceptual} and {c.features!r}'
        )
    if c.adversarial_from and not c.adversarial:
        raise ValueError(
            f'autoencoder.adversarial_from={c.adversarial_from} needs autoencoder.adversarial'
        )
    if c.adversarial and c.adversarial_from >= config.train.steps:
        raise ValueError(
            f'autoencoder.adversarial_from={c.adversarial_from} must be less than '
            f'train.steps={config.train.steps}: the discriminator would never act'
        )


def _check_diffusion(c):
    if c.shift != 1 and c.schedule not in (*names.VARIANCE_PRESERVING, 'flow'):
        raise ValueError(
            f'diffusion.shift={c.shift} needs a schedule that can be shifted '
            f'({", ".join(names.VARIANCE_PRESERVING)}, flow), got {c.schedule!r}'
        )
    if c.zero_terminal_snr and c.schedule not in names.VARIANCE_PRESERVING:
        raise ValueError(
            'diffusion.zero_terminal_snr needs a schedule that preserves variance '
            f'({", ".join(names.VARIANCE_PRESERVING)}), got {c.schedule!r}'
        )
    if c.sigma_min >= c.sigma_max:
        raise ValueError(
            'diffusion.sigma_min must be less than diffusion.sigma_max, '
            f'got {c.sigma_min} and {c.sigma_max}'
        )
    if c.schedule in ('edm', names.LEARNED) and c.embedding != 'logsnr':
        raise ValueError(
            f"diffusion.schedule={c.schedule!r} needs diffusion.embedding='logsnr': "
            'its time says too little of the noise'
        )


def _check_loss(config):
    c, d = config.loss, config.diffusion
    if c.discrete_steps and c.distribution != 'uniform':
        raise ValueError(
            f"loss.discrete_steps={c.discrete_steps} needs loss.distribution='uniform', "
            f'got {c.distribution!r}'
        )
    if d.prediction == 'score' and c.name != 'variational' and c.weighting == 'simple':
        raise ValueError(
            "diffusion.prediction='score' has a target that grows as 1 / sigma: give a "
            "loss.weighting such as 'eps'"
        )
    if (
        d.prediction in ('v', 'velocity')
        and d.schedule in ('ve', 'edm')
        and c.weighting == 'simple'
    ):
        raise ValueError(
            f'diffusion.prediction={d.prediction!r} with diffusion.schedule={d.schedule!r} has a '
            "target as large as the noise: predict 'edm' or 'eps', or give a loss.weighting such as "
            "'eps'"
        )
    if c.discrete_steps and d.schedule == 'sigmoid' and d.prediction == 'velocity':
        raise ValueError(
            "diffusion.prediction='velocity' is infinite at t=1 of the sigmoid schedule, which "
            f'loss.discrete_steps={c.discrete_steps} asks for: give loss.discrete_steps=0'
        )
    if d.learned_variance != (c.name == 'hybrid'):
        raise ValueError(
            "loss.name='hybrid' and diffusion.learned_variance=True need each other, got "
            f'{c.name!r} and {d.learned_variance}'
        )
    if c.name == 'hybrid' and c.discrete_steps < 2:
        raise ValueError(
            f"loss.name='hybrid' needs loss.discrete_steps of 2 or more, got {c.discrete_steps}"
        )
    if d.schedule == names.LEARNED and c.name != 'variational':
        raise ValueError(
            f"diffusion.schedule='learned' needs loss.name='variational', got {c.name!r}"
        )
    if c.name == 'variational' and (c.discrete_steps or c.distribution != 'uniform'):
        raise ValueError(
            "loss.name='variational' needs loss.distribution='uniform' and loss.discrete_steps=0"
        )
    if c.name == 'variational' and c.weighting != 'simple':
        raise ValueError(
            f"loss.name='variational' has its own weight: loss.weighting must be 'simple', got {c.weighting!r}"
        )


def check_devices(config: ConfigDict, devices: int) -> None:
    """Raises a ValueError where the config's batch and mesh can't be spread over so many devices."""
    batch, parts, fsdp = config.train.batch_size, config.train.accumulate, config.train.fsdp
    if fsdp and devices % fsdp:
        raise ValueError(
            f'train.fsdp={fsdp} must divide the number of devices, which is {devices}; 0 is all'
        )
    codes = config.model == 'autoencoder' and config.autoencoder.kind == 'vq'
    if (
        codes
        and config.autoencoder.restart
        and not (parts == 1 and (devices == 1 or config.train.parallel == 'mesh'))
    ):
        raise ValueError(
            'which codes are unused is a matter of the whole batch: autoencoder.restart needs '
            "train.accumulate=1, and on several devices train.parallel='mesh'; or set it to 0"
        )
    if batch % (devices * parts):
        nearest = max(1, round(batch / (devices * parts))) * devices * parts
        raise ValueError(
            f'train.batch_size={batch} must be a multiple of {devices} devices x '
            f'train.accumulate={parts}; the nearest is {nearest}'
        )


def decides(key: str, config: ConfigDict) -> bool:
    """Whether a config key decides the parameters that training ends with, beyond rounding."""
    if key == 'train.steps':
        return config.optimizer.decay != 'constant'
    if key.startswith('train.'):
        return key == 'train.batch_size'
    if key.startswith('degradation.'):  # of a model without a task, how it is sampled from
        return bool(config.task)
    free = ('data.dir', 'net.remat', 'ema.snapshot_every', *TEXT_FILES)
    return not key.startswith('sample.') and key not in free
