"""A sampler of jaxdiff and a scheduler of diffusers, walked side by side: one model, grid and noise.

Our walk is computed in float64. The peer is given float64 too, but makes its schedule in float32,
and some of its schedulers cast the sample to float32 within a step.
"""

import functools
import importlib
import inspect
from typing import NamedTuple
from unittest import mock

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import Array

from jaxdiff import diffusion
from jaxdiff.diffusion import denoiser, exact, prediction, samplers, schedule
from jaxdiff.diffusion.schedule import Schedule

SHAPE = (4, 3)


def log_linear(t: Array) -> tuple[Array, Array]:
    """A schedule whose log(sigma / alpha) is a line in t, from 0.01 to 100."""
    u = 0.01 * 1e4**t
    return 1 / jnp.hypot(1, u), u / jnp.hypot(1, u)


SCHEDULES = {
    'linear': schedule.ddpm_linear(),
    'scaled_linear': schedule.scaled_linear(),
    'squaredcos_cap_v2': schedule.cosine(offset=0.008),
    'zero_snr': schedule.zero_terminal_snr(schedule.ddpm_linear()),
    'log_linear': log_linear,
    'flow': schedule.flow(),
    'flow_3': schedule.flow(shift=3.0),
}
PREDICTIONS = {
    'epsilon': prediction.eps,
    'sample': prediction.x0,
    'v_prediction': prediction.v,
    'flow': prediction.Prediction('flow', lambda c: (-1.0, 1.0)),  # dx/dsigma, whatever the shift
}
SCALED = ('EulerAncestralDiscreteScheduler', 'EulerDiscreteScheduler', 'HeunDiscreteScheduler')


class Case(NamedTuple):
    """A scheduler of the peer and our sampler, and the setting in which they meet."""

    peer: str
    sampler: str
    schedule: str
    prediction: str
    options: dict = {}  # of the peer
    settings: dict = {}  # of our sampler, beside the schedule
    end: float = 0.0  # our last time
    clip: bool = False
    steps: int = 10


def scheduler_of(case: Case, **options):
    """The peer's scheduler, its grid set."""
    make = getattr(diffusers, case.peer)
    parameters = inspect.signature(make.__init__).parameters
    common = {
        'prediction_type': case.prediction,
        'beta_schedule': 'linear' if case.schedule == 'zero_snr' else case.schedule,
        'rescale_betas_zero_snr': case.schedule == 'zero_snr',
        'clip_sample': case.clip,
    }
    if case.schedule == 'scaled_linear':
        common |= {'beta_start': 0.00085, 'beta_end': 0.012}
    elif case.schedule == 'log_linear':
        product = np.append(1, np.asarray(log_linear(jnp.arange(1, 1001) / 1000)[0]) ** 2)
        common |= {'trained_betas': 1 - product[1:] / product[:-1]}
    else:
        common |= {'beta_start': 1e-4, 'beta_end': 0.02}
    common = {name: value for name, value in common.items() if name in parameters}
    scheduler = make(**common | case.options | options)
    scheduler.set_timesteps(case.steps)
    return scheduler


def times_of(case: Case, scheduler) -> Array:
    """The peer's grid as our times: t = (timestep + 1) / 1000, or by its sigmas where they lead."""
    make = SCHEDULES[case.schedule]
    if case.peer.startswith('Flow'):
        sigma, shift = scheduler.sigmas.numpy().astype(float), 3 if 'shift' in case.options else 1
        return jnp.asarray(sigma / (shift - (shift - 1) * sigma))
    if scheduler.config.get('use_karras_sigmas'):
        sigmas = distinct(scheduler.sigmas)[:-1]
        times = schedule.time_of_logsnr(make, jnp.asarray(-2 * np.log(sigmas)))
    else:
        timesteps = distinct(scheduler.timesteps)
        if np.any(timesteps % 1):
            raise ValueError(f'timesteps must be whole numbers, got {timesteps}')
        times = (timesteps + 1) / 1000
    return jnp.append(jnp.asarray(times), case.end)


def ours(case: Case, times: Array, x: Array | None = None) -> np.ndarray:
    """Our states after each step, [steps, b, d], from `x`, by default `start()`."""
    return np.asarray(_compiled(case)[1](start() if x is None else x, times))


def model(case: Case, x: Array, t: float) -> np.ndarray:
    """What the model, asked by both sides, says of x at our time t."""
    return np.asarray(_compiled(case)[0](jnp.asarray(x), 1000 * float(t) - 1))


def theirs(case: Case, scheduler, times: Array, first=None, begin=0, **options) -> np.ndarray:
    """The peer's states after each step, [steps, b, d], in our scale.

    The noise that our sampler draws is handed over as `variance_noise`, or in the place of the
    peer's random numbers.

    Args:
      times: [steps + 1]; the model is told 1000 t − 1, diffusers' timestep but for flow matching.
      first: what replaces the state after the first step.
      begin: as pipelines set it; None has the scheduler look for the first timestep.
      options: of `scheduler.step`.
    """
    module = importlib.import_module(type(scheduler).__module__)
    takes_noise = 'variance_noise' in inspect.signature(scheduler.step).parameters
    alpha = np.asarray(SCHEDULES[case.schedule](times)[0])
    scale = alpha if case.peer in SCALED else np.ones_like(alpha)
    two_calls = hasattr(scheduler, 'state_in_first_order')  # Heun, but for its last step
    if case.peer == 'DDIMScheduler':
        options = {'eta': case.settings.get('eta', 0.0)} | options
    if begin is not None and hasattr(scheduler, 'set_begin_index'):
        scheduler.set_begin_index(begin)
    y, states = torch.tensor(np.asarray(start()) / scale[0]), {}
    for call, timestep in enumerate(scheduler.timesteps):
        at, step = ((call + 1) // 2, call // 2) if two_calls else (call, call)
        draw = torch.tensor(noise(len(scale) - 1)[step])
        if takes_noise:
            options['variance_noise'] = draw
        x = y
        if hasattr(scheduler, 'scale_model_input'):
            x = scheduler.scale_model_input(y, timestep)
        output = torch.tensor(model(case, x.numpy(), times[at]))
        with mock.patch.object(module, 'randn_tensor', lambda *_, **__: draw, create=True):
            y = scheduler.step(output, timestep, y, **options).prev_sample
        states[step] = y.numpy() * scale[step + 1]
        if step == 0 and first is not None:
            y = torch.tensor(first / scale[1])
    return np.stack([states[step] for step in range(len(scale) - 1)])


def in_double(case: Case, scheduler, times: Array):
    """The scheduler with its schedule in float64. DDPM, DDIM, Heun and UniPC then keep to float64."""
    alpha, sigma = (np.asarray(c) for c in SCHEDULES[case.schedule](jnp.arange(1, 1001) / 1000))
    scheduler.alphas_cumprod = torch.tensor(alpha**2)
    if not scheduler.config.get('set_alpha_to_one', True):
        scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
    if hasattr(scheduler, 'sigmas'):
        alpha, sigma = (np.asarray(c) for c in SCHEDULES[case.schedule](times))
        sigmas = sigma / alpha
        if hasattr(scheduler, 'state_in_first_order'):
            sigmas = np.concatenate([sigmas[:1], sigmas[1:-1].repeat(2), sigmas[-1:]])
        scheduler.sigmas = torch.tensor(sigmas)
    return scheduler


def both(case: Case, double: bool = False, **options) -> tuple[np.ndarray, np.ndarray]:
    """Our states after each step and the peer's."""
    scheduler = scheduler_of(case)
    times = times_of(case, scheduler)
    if double:
        in_double(case, scheduler, times)
    return ours(case, times), theirs(case, scheduler, times, **options)


def start() -> Array:
    """Where both begin, [b, d]."""
    return jax.random.normal(jax.random.key(1), SHAPE, jnp.float64)


@functools.cache
def noise(steps: int = 10) -> np.ndarray:
    """What `samplers.normal` draws in each step of `diffusion.run`, [steps, b, d]."""

    def draw(i):
        folded = jax.vmap(jax.random.fold_in, (0, None))(_keys(), i)
        return samplers.normal(folded, jnp.zeros(SHAPE, jnp.float64))

    return np.asarray(jax.jit(jax.vmap(draw))(jnp.arange(steps)))


def distinct(values) -> np.ndarray:
    """A tensor's values in their order, each once: Heun's come twice."""
    return np.array(list(dict.fromkeys(values.numpy().astype(float))))


def _compiled(case):
    settings = tuple(case.settings.items())
    return _compile(case.sampler, settings, case.schedule, case.prediction, case.clip)


@functools.cache
def _compile(sampler, settings, schedule_name, prediction_name, clip):
    """The model and our walk (x, times) -> states after each step, jitted; made once."""
    make, settings = SCHEDULES[schedule_name], dict(settings)
    learned = settings.get('variance') == 'learned'
    net = _network(make, PREDICTIONS[prediction_name], learned)
    walker = getattr(samplers, sampler)(make, **settings)
    if schedule_name.startswith('flow'):  # diffusers' are given x_t itself, not at unit variance
        denoise = lambda x, t: x - make(t)[1] * net(x, 1000 * t - 1)
    else:
        told = lambda _, t: 1000 * t - 1
        row = PREDICTIONS[prediction_name]
        denoise = denoiser.from_network(net, row, make, told, learned_variance=learned)
    if clip:
        denoise = denoiser.clip(denoise)
    walk = lambda x, times: diffusion.run(_keys(), denoise, walker, x, times, lambda s: s.x)[1]
    return jax.jit(net), jax.jit(walk)


def _network(make: Schedule, row, learned):
    """A model that is told diffusers' timestep: exact for a mixture, in whatever it predicts.

    With `learned` it has a second half, some smooth function between −1 and 1.
    """
    means = np.array([[1.0, 0.5, -0.5], [-1.0, 0.0, 0.8], [0.2, -1.0, 0.3]])
    denoise = exact.mixture(make, np.array([0.5, 0.3, 0.2]), means, np.array([0.5, 0.3, 0.7]))

    def net(x, timestep):
        t = (timestep + 1) / 1000
        c = schedule.coefficients(make, t, x)
        x0 = denoise(x, t)
        y = prediction.target(row, c, x0, (x - c.alpha * x0) / c.sigma)
        return jnp.concatenate([y, jnp.tanh(2 * x + t)], -1) if learned else y

    return net


def _keys():
    return jax.random.split(jax.random.key(7), SHAPE[0])
