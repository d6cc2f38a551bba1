"""What the names in a config stand for: each table holds functions of the config's own section."""

import optax

from jaxdiff import nets
from jaxdiff.diffusion import (
    degradation,
    denoiser,
    grid,
    loss,
    prediction,
    samplers,
    schedule,
    times,
)

# config.diffusion -> Schedule. Those that preserve variance can be shifted and have a zero end.
VARIANCE_PRESERVING = {
    'cosine': lambda c: schedule.cosine(),
    'cosine_ddpm': lambda c: schedule.cosine(offset=0.008),
    'ddpm_linear': lambda c: schedule.ddpm_linear(),
    'scaled_linear': lambda c: schedule.scaled_linear(),
    'sigmoid': lambda c: schedule.sigmoid(),
    'vp': lambda c: schedule.vp(),
}
SCHEDULES = VARIANCE_PRESERVING | {
    'sub_vp': lambda c: schedule.sub_vp(),
    've': lambda c: schedule.ve(c.sigma_min, c.sigma_max),
    'edm': lambda c: schedule.edm(c.sigma_max),
    'flow': lambda c: schedule.flow(c.shift),
}
LEARNED = 'learned'  # the schedule whose parameters live in the train state

# config.diffusion -> Prediction
PREDICTIONS = {
    'x0': lambda c: prediction.x0,
    'eps': lambda c: prediction.eps,
    'v': lambda c: prediction.v,
    'velocity': lambda c: prediction.velocity,
    'score': lambda c: prediction.score,
    'edm': lambda c: prediction.edm(c.sigma_data),
}
EMBEDDINGS = {'time': denoiser.time_embedding, 'logsnr': denoiser.logsnr_embedding}

# (config.loss, config.diffusion) -> Weighting
WEIGHTINGS = {
    'simple': lambda c, d: None,
    'min_snr': lambda c, d: loss.min_snr(c.min_snr_gamma),
    'p2': lambda c, d: loss.p2(c.p2_gamma, c.p2_k),
    'eps': lambda c, d: loss.measured_in(prediction.eps),
    'edm': lambda c, d: loss.edm(d.sigma_data),
    'likelihood': lambda c, d: loss.likelihood(),
    'sigmoid': lambda c, d: loss.sigmoid(c.sigmoid_b),
}
# (u [b], config.loss, Schedule) -> times [b]
DISTRIBUTIONS = {
    'uniform': lambda u, c, s: (
        times.discrete(u, c.discrete_steps) if c.discrete_steps else times.uniform(u, c.t_min)
    ),
    'log_normal': lambda u, c, s: times.log_normal(u, s, c.time_mean, c.time_std, c.t_min),
    'logit_normal': lambda u, c, s: times.logit_normal(u, c.time_mean, c.time_std),
}


def draw_times(config, schedule, key, keys, index):
    """Times of training, [b].

    Args:
      key: of the step.
      keys: one for each example, [b].
      index: of the examples in the batch, [b].
    """
    if config.loss.times == 'low_discrepancy':
        u = times.low_discrepancy(key, index, config.train.batch_size)
    else:
        u = times.independent(keys)
    return DISTRIBUTIONS[config.loss.distribution](u, config.loss, schedule)


# (config.degradation, the data's shape) -> Degradation
DEGRADATIONS = {
    'super_resolution': lambda c, shape: degradation.super_resolution(shape, c.factor, c.noise),
    'inpaint': lambda c, shape: degradation.inpainting(c.noise),
    'colorize': lambda c, shape: degradation.colorization(shape, c.noise),
    'deblur': lambda c, shape: degradation.deblurring(shape, c.blur, c.noise),
    'denoise': lambda c, shape: degradation.denoising(c.noise),
    'sketch': lambda c, shape: degradation.sketching(),
}

# (Schedule, config.sample) -> Sampler
SAMPLERS = {
    'annealed_langevin': lambda s, c: samplers.annealed_langevin(
        s, c.langevin_steps, c.langevin_snr
    ),
    'ddim': lambda s, c: samplers.ddim(s, c.eta),
    'ddpm': lambda s, c: samplers.ddpm(s, c.variance),
    'deis': lambda s, c: samplers.deis(s, c.order),
    'dpmpp_1s': lambda s, c: samplers.dpmpp_1s(s),
    'dpmpp_2m': lambda s, c: samplers.dpmpp_2m(s),
    'dpmpp_2m_sde': lambda s, c: samplers.dpmpp_2m_sde(s),
    'dpmpp_2s': lambda s, c: samplers.dpmpp_2s(s),
    'dpmpp_3m': lambda s, c: samplers.dpmpp_3m(s),
    'euler': lambda s, c: samplers.euler(s, c.variable),
    'euler_ancestral': lambda s, c: samplers.euler_ancestral(s),
    'euler_maruyama': lambda s, c: samplers.euler_maruyama(s),
    'heun': lambda s, c: samplers.heun(s, c.variable),
    'heun_stochastic': lambda s, c: samplers.heun_stochastic(
        s, c.churn, c.s_min, c.s_max, c.s_noise
    ),
    'ode_adaptive': lambda s, c: samplers.ode_adaptive(s, c.tolerance, c.tolerance),
    'predictor_corrector': lambda s, c: samplers.predictor_corrector(
        s, corrections=c.corrections, snr=c.snr
    ),
    'rk4': lambda s, c: samplers.rk4(s, c.variable),
    'unipc': lambda s, c: samplers.unipc(s, c.order),
}
# Samplers that remember earlier steps, and those whose steps go either way.
REMEMBERING = ('deis', 'dpmpp_2m', 'dpmpp_2m_sde', 'dpmpp_3m', 'ode_adaptive', 'unipc')
BOTH_WAYS = ('ddim', 'euler', 'heun', 'rk4')
# Methods of sampling from images: from whole ones, from parts, and from what was measured of them.
WHOLE = ('sdedit', 'invert', 'interpolate')
PARTS = ('replacement', 'repaint')
LINEAR = ('ddnm', 'dps', 'pigdm')
# The degradations that they undo.
LINEAR_TASKS = tuple(name for name in DEGRADATIONS if name != 'sketch')
# (Schedule, config.sample, latest time) -> times [steps + 1]
GRIDS = {
    'uniform': lambda s, c, t: grid.uniform(c.steps, t),
    'quadratic': lambda s, c, t: grid.quadratic(c.steps, t),
    'leading': lambda s, c, t: grid.leading(c.steps),
    'trailing': lambda s, c, t: grid.trailing(c.steps),
    'karras': lambda s, c, t: grid.karras(s, c.steps, c.sigma_min, c.sigma_max, c.rho),
    'logsnr': lambda s, c, t: grid.logsnr(s, c.steps, t, to_zero=True),
}


def classifier(config, shape, num_classes):
    """The network of `config.model = 'classifier'` for data of that shape."""
    c = config.classifier
    nets.check_size(shape, c.multipliers, 2)
    _check_attention('classifier', c, shape)
    return nets.Classifier(
        num_classes,
        c.channels,
        c.multipliers,
        c.blocks,
        c.attention,
        heads=config.net.heads,
        dropout=config.net.dropout,
        dtype=config.net.dtype,
        remat=config.net.remat,
    )


def _check_attention(section, c, shape):
    sizes = [shape[0] // 2**level for level in range(len(c.multipliers))]
    if not set(c.attention) <= set(sizes):
        raise ValueError(
            f'{section}.attention={c.attention} must be among the sizes that the network meets: '
            f'{sizes}'
        )


def _unet(c, shape, **options):
    nets.check_size(shape, c.multipliers, 2)
    _check_attention('net', c, shape)
    return nets.UNet(
        channels=c.channels,
        multipliers=c.multipliers,
        blocks=c.blocks,
        attention=c.attention,
        style=c.style,
        **options,
    )


def _dit(c, shape, **options):
    nets.dit.check_size(shape, c.patch, 2)
    return nets.DiT(
        patch=c.patch,
        width=c.width,
        depth=c.depth,
        mlp_ratio=c.mlp_ratio,
        positions=c.positions,
        **options,
    )


# (config.net, the data's shape, what all networks are told) -> Flax module
NETS = {'unet': _unet, 'dit': _dit}

# (learning rate, config.optimizer) -> GradientTransformation
OPTIMIZERS = {
    'adam': lambda rate, c: optax.adam(rate, c.b1, c.b2, c.eps),
    'adamw': lambda rate, c: optax.adamw(rate, c.b1, c.b2, c.eps, weight_decay=c.weight_decay),
}
