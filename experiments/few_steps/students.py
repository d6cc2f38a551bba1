"""Students of a teacher, the same for every kind of data: their losses, their training, their samples.

A teacher is a network's parameters and what its output means (`Case`). All students start from the
teacher's parameters and keep its network.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from jaxdiff import diffusion
from jaxdiff.diffusion import (
    consistency,
    denoiser,
    gaussian,
    grid,
    loss,
    prediction,
    progressive,
    samplers,
    schedule,
)

# The noise levels sigma / alpha between which f is learned; less where the schedule ends below.
SIGMA_MIN, SIGMA_MAX = 0.002, 80.0


class Case(NamedTuple):
    """A network and its data.

    `ask(params, x_t, t, cond) -> y`; `batch(step) -> (x0 [b, ...], cond)`, the same for the same
    step; `cond` holds arrays [b, ...], {} without a condition; `clip`: beliefs lie in [-1, 1].
    """

    ask: Callable[[Any, Array, Array, dict], Array]
    schedule: schedule.Schedule
    prediction: prediction.Prediction
    batch: Callable[[int], tuple[Array, dict]]
    clip: bool

    def belief(self, params: Any, x_t: Array, t: Array, cond: dict) -> Array:
        """The network's belief about x0."""
        coef = schedule.coefficients(self.schedule, t, x_t)
        y = self.ask(params, x_t, t, cond)
        return prediction.to_x0_eps(self.prediction, coef, x_t, y)[0]

    def denoiser_of(self, params: Any, cond: dict) -> denoiser.Denoiser:
        """What samplers and students ask: clipped where `clip` says so."""
        denoise = lambda x_t, t: self.belief(params, x_t, t, cond)
        return denoiser.clip(denoise) if self.clip else denoise

    def time(self, level: float) -> float:
        """The time at which sigma / alpha is `level`."""
        with jax.ensure_compile_time_eval():
            return float(schedule.time_of_logsnr(self.schedule, -2 * np.log(level)))

    @property
    def start(self) -> float:
        """The time at which the teacher starts to sample."""
        with jax.ensure_compile_time_eval():
            return float(prediction.start(self.prediction, self.schedule))

    @property
    def sigma_max(self) -> float:
        """The largest noise level for which f is learned."""
        with jax.ensure_compile_time_eval():
            end = jnp.exp(-schedule.logsnr(self.schedule, self.start) / 2)
            return float(jnp.minimum(end, SIGMA_MAX))

    def jump(self, params: Any, cond: dict) -> denoiser.Denoiser:
        """The network as a consistency function, never clipped: training needs its gradient."""
        denoise = lambda x_t, t: self.belief(params, x_t, t, cond)
        return consistency.function(denoise, self.schedule, self.time(SIGMA_MIN))


# (params, the teacher's parameters, batch, keys [b]) -> [b]
Loss = Callable[[Any, Any, dict, Array], Array]


def denoising_loss(case: Case) -> Loss:
    """The teacher's own; the batch holds its times t."""

    def losses(params, teacher, batch, keys):
        predict = lambda x, t: case.ask(params, x, t, batch['cond'])
        return loss.denoising(
            keys, predict, batch['x0'], batch['t'], case.schedule, case.prediction
        )

    return losses


def progressive_loss(case: Case) -> Loss:
    """Progressive distillation with the truncated SNR; the batch holds t, m and s."""

    def losses(params, teacher, batch, keys):
        predict = lambda x, t: case.ask(params, x, t, batch['cond'])
        return progressive.loss(
            keys,
            predict,
            case.denoiser_of(teacher, batch['cond']),
            *(batch[k] for k in ('x0', 't', 'm', 's')),
            case.schedule,
            case.prediction,
            progressive.truncated_snr(),
        )

    return losses


def consistency_loss(case: Case, teach: bool, width: float | None) -> Loss:
    """Improved consistency training or, with `teach`, distillation by Heun steps of the teacher.

    Pseudo-Huber metric of that width, weight 1 / (gap of the noise levels), target f itself; the
    batch holds t and s.
    """

    def losses(params, teacher, batch, keys):
        x0, cond, t, s = (batch[k] for k in ('x0', 'cond', 't', 's'))
        f = case.jump(params, cond)
        metric = consistency.pseudo_huber(width)
        if teach:
            denoise, heun = case.denoiser_of(teacher, cond), samplers.heun(case.schedule)
            found = consistency.distillation(
                keys, f, f, x0, t, s, case.schedule, denoise, heun, metric
            )
        else:
            found = consistency.training(keys, f, f, x0, t, s, case.schedule, metric)
        return consistency.inverse_gap(case.schedule, t, s) * found

    return losses


def trainer(losses: Loss, rate: float, steps: int) -> Callable[..., Any]:
    """(params, teacher, batches, title) -> params after `steps` steps, compiled once.

    Adam with gradients clipped at norm 1 and a rate that falls linearly to zero; the batch is split
    over the devices, which wait for each other every 16 steps.
    """
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(optax.linear_schedule(rate, 0.0, steps))
    )
    mesh = Mesh(np.array(jax.local_devices()), ('data',))
    whole, rows = (NamedSharding(mesh, PartitionSpec(*a)) for a in ((), ('data',)))

    @jax.jit
    def step(params, state, teacher, batch, key):
        keys = jax.random.split(key, len(batch['x0']))
        mean = lambda params: jnp.mean(losses(params, teacher, batch, keys))
        value, grads = jax.value_and_grad(mean)(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    def train(params, teacher, batches: Iterator[dict], title: str, seed: int = 0):
        params, teacher = jax.device_put((params, teacher), whole)
        state = jax.device_put(optimizer.init(params), whole)
        key, mean = jax.random.key(seed), None
        with tqdm(total=steps, desc=title, unit='step', dynamic_ncols=True) as bar:
            for i, batch in zip(range(steps), batches):
                batch = jax.device_put(batch, rows)
                params, state, value = step(
                    params, state, teacher, batch, jax.random.fold_in(key, i)
                )
                value = float(value)  # waits for the step, see `devices.use_cores`
                if i % 16 == 15 or i == steps - 1:
                    mean = value if mean is None else 0.8 * mean + 0.2 * value
                    bar.set_postfix(loss=f'{mean:.4g}', refresh=False)
                bar.update()
        return jax.device_get(params)

    return train


def distil_progressively(
    case: Case, teacher: Any, first: int, steps: int, rate: float, seed: int
) -> dict[int, Any]:
    """Students of first / 2, first / 4, …, 1 steps, each the teacher of the next one."""
    train, found, n = trainer(progressive_loss(case), rate, steps), {}, first

    def batches(times, begun):
        for i in range(begun, begun + steps):
            x0, cond = case.batch(i)
            u = np.random.default_rng((seed, i)).random(len(x0))
            t, m, s = progressive.steps(u, times)
            yield {'x0': x0, 'cond': cond, 't': t, 'm': m, 's': s}

    while n > 1:
        begun = steps * len(found)
        title = f'progressive {n} → {n // 2}'
        teacher = train(
            teacher, teacher, batches(grid.uniform(n, case.start), begun), title, seed + n
        )
        n //= 2
        found[n] = teacher
    return found


def learn_consistency(
    case: Case,
    teacher: Any,
    teach: bool,
    grid_steps: tuple[int, int],
    steps: int,
    rate: float,
    width: float | None,
    seed: int,
) -> Any:
    """One student for every number of steps, by distillation or by training without the teacher.

    `grid_steps`: the grid's steps at first and at last, doubling at equal intervals; `width`: the
    metric's, None the paper's.
    """

    @jax.jit
    def pairs(u, n):
        levels = (case.schedule, SIGMA_MIN, case.sigma_max)
        return consistency.karras_pairs(u, n, *levels, log_normal=(-1.1, 2.0))

    def batches():
        for i in range(steps):
            x0, cond = case.batch(i)
            u = np.random.default_rng((seed, i)).random(len(x0), np.float32)
            t, s = pairs(u, consistency.doubling_steps(i, steps, *grid_steps))
            yield {'x0': x0, 'cond': cond, 't': t, 's': s}

    title = 'consistency distillation' if teach else 'consistency training'
    train = trainer(consistency_loss(case, teach, width), rate, steps)
    return train(teacher, teacher, batches(), title, seed)


def draw(
    case: Case, kind: str, params: Any, steps: int, cond: dict, shape: tuple, seed: int
) -> np.ndarray:
    """Samples [n, ...] in `steps` evaluations: kind 'ddim', or 'consistency' from equal times."""
    keys = jax.random.split(jax.random.key(seed), shape[0])

    if kind == 'ddim':
        sampler, times = samplers.ddim(case.schedule), grid.uniform(steps, case.start)
    else:
        sampler = samplers.consistency(case.schedule, case.time(SIGMA_MIN))
        times = grid.uniform(steps, case.time(case.sigma_max))

    @jax.jit
    def walk(params, cond, keys):
        x_1 = gaussian.gaussian(case.schedule).prior(jax.random.key(seed + 1), shape, times[0])
        if kind == 'ddim':
            denoise = case.denoiser_of(params, cond)
        else:
            denoise = case.jump(params, cond)
            denoise = denoiser.clip(denoise) if case.clip else denoise
        return diffusion.sample(keys, denoise, sampler, x_1, times)

    return np.asarray(walk(params, cond, keys))
