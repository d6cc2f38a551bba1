"""Few-step students of a small network that knows five Gaussians in the plane.

    python experiments/few_steps/mixture.py --out experiments/few_steps

Writes mixture.png and mixture.json. The teacher, an MLP, is trained first; its students start from
it. Samples are held against fresh data.
"""

import argparse
import json
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import students

from jaxdiff import manifest
from jaxdiff.diffusion import denoiser, exact, prediction, schedule
from jaxdiff.viz import grid

WEIGHTS = np.array([0.1, 0.15, 0.2, 0.25, 0.3])
ANGLES = 2 * np.pi * np.arange(5) / 5
MEANS = 1.2 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1)
STD = 0.12
BATCH, TEACHER_STEPS, SAMPLES = 512, 32, 4000
RATE = 1e-3  # of the students
GRID_STEPS = (10, 160)  # of the consistency grid, at first and at last
WIDTH = 0.1  # of the consistency metric


class MLP(nn.Module):
    """Three hidden layers; the noise level enters as sines and cosines."""

    width: int = 128

    @nn.compact
    def __call__(self, x, level):
        level = jnp.broadcast_to(level, x.shape[:1])[:, None] / 1000
        waves = jnp.pi * level * 2.0 ** jnp.arange(5)
        h = jnp.concatenate([x, level, jnp.sin(waves), jnp.cos(waves)], 1)
        for _ in range(3):
            h = nn.silu(nn.Dense(self.width)(h))
        return nn.Dense(x.shape[-1])(h)


def data(seed: tuple, n: int) -> np.ndarray:
    """Draws of the mixture, [n, 2]."""
    rng = np.random.default_rng(seed)
    modes = rng.choice(5, n, p=WEIGHTS)
    return (MEANS[modes] + STD * rng.standard_normal((n, 2))).astype(np.float32)


def judge(x: np.ndarray, real: np.ndarray) -> dict:
    """Energy distance to fresh data, the modes' shares against the true ones, the share astray.

    A sample is of the nearest mode, and astray beyond 4 standard deviations from it (3 in 10,000 of
    the data are).
    """

    away = np.linalg.norm(x[:, None] - MEANS, axis=-1)
    shares = np.bincount(away.argmin(1), minlength=5) / len(x)
    return {
        'energy_distance': round(energy_distance(x, real), 5),
        'largest_error_of_a_share': round(float(abs(shares - WEIGHTS).max()), 4),
        'astray': round(float((away.min(1) > 4 * STD).mean()), 4),
    }


def energy_distance(x: np.ndarray, y: np.ndarray) -> float:
    """2 E|x − y| − E|x − x'| − E|y − y'| of two sets of points [n, d], unbiased: 0 for one law."""

    def total(a, b):
        parts = (a[i : i + 200, None] - b for i in range(0, len(a), 200))
        return float(sum(np.linalg.norm(part, axis=-1).sum() for part in parts))

    n, m = len(x), len(y)
    return 2 * total(x, y) / (n * m) - total(x, x) / (n * (n - 1)) - total(y, y) / (m * (m - 1))


def main() -> None:
    """Trains, samples, measures, draws."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--out', default='few_steps')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--steps', type=int, default=6000, help='of the teacher and consistency')
    parser.add_argument('--round-steps', type=int, default=2000, help='of a progressive halving')
    args = parser.parse_args()

    cosine, net = schedule.cosine(), MLP()

    def ask(params, x_t, t, cond):
        predict = denoiser.ask(
            lambda x, level: net.apply(params, x, level), cosine, denoiser.logsnr_embedding
        )
        return predict(x_t, t)

    case = students.Case(
        ask, cosine, prediction.v, lambda i: (data((args.seed, 1, i), BATCH), {}), clip=False
    )

    def batches():
        for i in range(args.steps):
            t = np.random.default_rng((args.seed, 2, i)).uniform(1e-4, 1, BATCH)
            yield {'x0': case.batch(i)[0], 'cond': {}, 't': t.astype(np.float32)}

    fresh = net.init(jax.random.key(args.seed), jnp.zeros((1, 2)), jnp.zeros(1))
    train = students.trainer(students.denoising_loss(case), 2e-3, args.steps)
    teacher = train(fresh, (), batches(), 'teacher', args.seed)
    halves = students.distil_progressively(
        case, teacher, TEACHER_STEPS, args.round_steps, RATE, args.seed
    )
    learned = {
        name: students.learn_consistency(
            case, teacher, teach, GRID_STEPS, args.steps, RATE, WIDTH, args.seed
        )
        for name, teach in (('consistency distillation', True), ('consistency training', False))
    }

    shape, numbers = (SAMPLES, 2), (1, 2, 4)
    draw = lambda kind, params, n: students.draw(case, kind, params, n, {}, shape, args.seed)
    known = case._replace(
        ask=lambda params, x, t, cond: as_v(
            exact.mixture(cosine, WEIGHTS, MEANS, np.full(5, STD)), cosine, x, t
        )
    )
    best = students.draw(known, 'ddim', (), TEACHER_STEPS, {}, shape, args.seed)
    rows = {
        'teacher (DDIM)': {n: draw('ddim', teacher, n) for n in (*numbers, TEACHER_STEPS)},
        'progressive': {n: draw('ddim', halves[n], n) for n in numbers},
    } | {
        name: {n: draw('consistency', params, n) for n in numbers}
        for name, params in learned.items()
    }
    real, other = (data((args.seed, 3, i), SAMPLES) for i in range(2))
    results = {
        name: {str(n): judge(x, real) for n, x in found.items()} for name, found in rows.items()
    }
    results['exact denoiser (DDIM)'] = {str(TEACHER_STEPS): judge(best, real)}
    results['fresh data'] = judge(other, real)
    settings = {k: v for k, v in vars(args).items() if k != 'out'} | {
        'teacher_steps': TEACHER_STEPS,
        'batch': BATCH,
        'rate': RATE,
        'grid_steps': GRID_STEPS,
        'width': WIDTH,
    }
    made = {'made_by': 'experiments/few_steps/mixture.py', 'content': 'five Gaussians'}
    made |= {'settings': settings} | manifest.here()
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / 'mixture.json').write_text(json.dumps({'results': results, 'made': made}, indent=2))
    about = {'pnginfo': grid.about(made)}
    picture(rows, other).savefig(out / 'mixture.png', dpi=90, pil_kwargs=about)
    print(json.dumps(results, indent=1))


def as_v(denoise, make, x_t, t):
    """A denoiser's belief as the v that a network would predict."""
    c, x0 = schedule.coefficients(make, t, x_t), denoise(x_t, t)
    return prediction.target(prediction.v, c, x0, (x_t - c.alpha * x0) / c.sigma)


def picture(rows: dict, real: np.ndarray) -> matplotlib.figure.Figure:
    """A row a method, a column a number of steps."""
    figure = matplotlib.figure.Figure((10, 10.4), layout='constrained')
    axes = figure.subplots(len(rows), 4)
    for line, (name, found) in zip(axes, rows.items()):
        shown = list(found.items()) + [('data', real)] * (4 - len(found))
        for place, (n, x) in zip(line, shown):
            place.scatter(*x.T, s=1, alpha=0.3, color='grey' if n == 'data' else 'tab:blue')
            place.scatter(*MEANS.T, s=18, marker='x', color='tab:red', linewidths=0.8)
            place.set(xlim=(-2, 2), ylim=(-2, 2), xticks=[], yticks=[], aspect='equal')
            title = n if n == 'data' else f'{name}, {n} step' + 's' * (n > 1)
            place.set_title(title, fontsize=9)
    return figure


if __name__ == '__main__':
    main()
