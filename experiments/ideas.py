"""The pictures of `jaxdiff/diffusion/README.md`, each made by the code that it shows.

python experiments/ideas.py                # all of them, into docs/diffusion/
python experiments/ideas.py schedules      # some of them
"""

import argparse
import functools
import inspect
import pathlib
import sys

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np

from jaxdiff import diffusion
from jaxdiff.diffusion import exact, grid, guidance, prediction, samplers, schedule
from jaxdiff.evaluation import convergence

FOLDER = pathlib.Path(__file__).parents[1] / 'docs' / 'diffusion'
SCHEDULES = {
    'cosine': schedule.cosine(),
    'cosine (offset 0.008)': schedule.cosine(offset=0.008),
    'DDPM linear': schedule.ddpm_linear(),
    'scaled linear': schedule.scaled_linear(),
    'sigmoid': schedule.sigmoid(),
    'VP': schedule.vp(),
    'sub-VP': schedule.sub_vp(),
    'flow': schedule.flow(),
    'VE': schedule.ve(),
    'EDM': schedule.edm(),
}


def draw_process():
    """Density of x_t over time, with paths of the probability flow and of the reverse SDE."""
    weights, means, stds = np.array([0.4, 0.6]), np.array([-1.1, 1.0]), np.array([0.2, 0.35])
    figure, axes = panels(1, 3, 'three processes that turn the same data into noise')
    for ax, (name, top) in zip(axes[0], [('cosine', 3.2), ('flow', 3.2), ('VE', 3.2)]):
        make = schedule.ve(0.01, 1.5) if name == 'VE' else SCHEDULES[name]
        t, x = np.linspace(0, 1, 201), np.linspace(-top, top, 241)
        alpha, sigma = (np.asarray(c)[:, None] for c in make(t))
        spread = np.sqrt(alpha**2 * stds**2 + sigma**2)  # [t, k]
        z = (x[:, None, None] - alpha * means) / spread
        density = (weights * np.exp(-(z**2) / 2) / spread / np.sqrt(2 * np.pi)).sum(-1)
        ax.imshow(
            density**0.6, aspect='auto', origin='lower', extent=(0, 1, -top, top), cmap='Blues'
        )
        denoise = exact.mixture(make, weights, means[:, None], stds)
        times = grid.uniform(400)
        starts = make(1.0)[1] * jnp.linspace(-1.6, 1.6, 7)[:, None]
        for sampler, colour, width in [(samplers.ddim, 'k', 0.9), (samplers.ddpm, 'tab:red', 0.6)]:
            keys = jax.random.split(jax.random.key(3), 7)
            record = lambda state: state.x[:, 0]
            chosen = starts[1:6:2] if sampler is samplers.ddpm else starts
            _, path = diffusion.run(
                keys[: len(chosen)], denoise, sampler(make), chosen, times, record
            )
            path = np.concatenate([chosen[None, :, 0], path])
            ax.plot(times, path, color=colour, linewidth=width)
        ax.set(title=name, xlabel='t', ylim=(-top, top))
    axes[0][0].set_ylabel('x_t')
    return figure


def draw_schedules():
    """alpha, sigma and logsnr of every schedule."""
    figure, axes = panels(1, 3, 'schedules')
    t = np.linspace(0, 1, 400)
    for i, (name, make) in enumerate(SCHEDULES.items()):
        alpha, sigma = make(t)
        style = {'color': f'C{i}', 'label': name, 'linewidth': 1.3}
        axes[0][0].plot(t, alpha, **style)
        axes[0][1].plot(t, sigma, **style)
        inside = slice(1, -1)
        axes[0][2].plot(t[inside], schedule.logsnr(make, t[inside]), **style)
    axes[0][0].set(title='alpha', xlabel='t')
    axes[0][1].set(title='sigma (VE and EDM go on to 50 and 80)', xlabel='t', ylim=(-0.05, 1.2))
    axes[0][2].set(title='logsnr', xlabel='t', ylim=(-14, 14))
    axes[0][2].legend(fontsize=6.5, ncols=2)
    return figure


def draw_predictions():
    """What a unit error in each prediction does to x0 and to eps."""
    figure, axes = panels(1, 2, 'predictions on the cosine schedule, equation (5)')
    t = np.linspace(0.02, 0.98, 300)
    make = SCHEDULES['cosine']
    coef = schedule.coefficients(make, t, t)
    kinds = [prediction.x0, prediction.eps, prediction.v, prediction.velocity, prediction.edm(0.5)]
    for ax, target in zip(axes[0], (prediction.x0, prediction.eps)):
        for p in kinds:
            ratio = prediction.loss_ratio(p, target, coef)
            ax.plot(schedule.logsnr(make, t), ratio * np.ones_like(t), label=p.name, linewidth=1.3)
        ax.set(yscale='log', xlabel='logsnr', ylim=(1e-3, 1e3))
        ax.set_title(f'squared error in {target.name} per unit of the prediction’s', fontsize=9)
        ax.grid(alpha=0.3)
    axes[0][0].legend(fontsize=7)
    return figure


def draw_grids():
    """The times that ten steps visit."""
    make = SCHEDULES['VP']
    grids = {
        'uniform': grid.uniform(10),
        'quadratic': grid.quadratic(10),
        'leading': grid.leading(10),
        'trailing': grid.trailing(10),
        'karras': grid.karras(make, 10),
        'logsnr': grid.logsnr(make, 10, t_min=1e-3, to_zero=True),
    }
    figure, axes = panels(1, 2, 'ten steps on the VP schedule')
    for row, (name, times) in enumerate(grids.items()):
        axes[0][0].plot(times, np.full(11, row), 'o-', markersize=4, linewidth=0.6)
        inside = times[times > 0]
        axes[0][1].plot(
            schedule.logsnr(make, inside),
            np.full(len(inside), row),
            'o-',
            markersize=4,
            linewidth=0.6,
        )
    for ax, label in zip(axes[0], ('t', 'logsnr')):
        ax.set(yticks=range(len(grids)), yticklabels=list(grids), xlabel=label)
        ax.grid(alpha=0.3)
        ax.invert_xaxis() if label == 't' else None
    return figure


def draw_guidance():
    """Samples of one class of a mixture under different guidance."""
    make = SCHEDULES['cosine']
    means, stds = np.array([[-0.55, -0.2], [0.55, -0.2], [0.0, 0.75]]), np.array([0.35, 0.35, 0.35])
    weights = np.full(3, 1 / 3)
    one = exact.mixture(make, [1.0], means[:1], stds[:1])
    every = exact.mixture(make, weights, means, stds)
    strong = guidance.classifier_free(one, every, 4.0)
    kinds = {
        'unconditional': (every, samplers.ddim(make)),
        'conditional': (one, samplers.ddim(make)),
        'classifier-free, scale 4': (strong, samplers.ddim(make)),
        'scale 4, only for 0.2 < t ≤ 0.7': (
            guidance.limited(strong, one, 0.2, 0.7),
            samplers.ddim(make),
        ),
        'CFG++, scale 0.15': (one, guidance.cfgpp(samplers.ddim(make), make, every, 0.15)),
    }
    figure, axes = panels(1, len(kinds), 'guidance towards the left of three classes', 2.2, 2.2)
    x, y = np.meshgrid(np.linspace(-2, 2, 120), np.linspace(-2, 2, 120))
    density = sum(
        np.exp(-((x - m[0]) ** 2 + (y - m[1]) ** 2) / (2 * s**2)) for m, s in zip(means, stds)
    )
    keys = jax.random.split(jax.random.key(0), 500)
    x_1 = jax.random.normal(jax.random.key(1), (500, 2))
    for ax, (name, (denoise, sampler)) in zip(axes[0], kinds.items()):
        found = diffusion.sample(keys, denoise, sampler, x_1, grid.uniform(100))
        ax.contour(x, y, density, 5, colors='grey', linewidths=0.6)
        ax.plot(*found.T, '.', markersize=2, color='tab:blue')
        ax.set(xlim=(-2, 2), ylim=(-2, 2), aspect='equal', xticks=[], yticks=[])
        ax.set_title(name, fontsize=8)
    return figure


def draw_orders():
    """Error against evaluations of the deterministic samplers, between two interior times."""
    kinds = {
        'ddim': (samplers.ddim, 1),
        'heun': (samplers.heun, 2),
        'dpmpp_2m': (samplers.dpmpp_2m, 1),
        'deis': (samplers.deis, 1),
        'unipc, p = 3': (functools.partial(samplers.unipc, p=3), 1),
        'dpmpp_3m': (samplers.dpmpp_3m, 1),
        'rk4': (samplers.rk4, 4),
    }
    steps = (6, 12, 24, 48, 96)
    figure, axes = panels(1, 3, 'largest error of a walk from t = 0.8 to 0.2')
    with jax.enable_x64(True):
        for ax, name in zip(axes[0], ('VP', 'flow', 'VE')):
            make = schedule.ve(0.05, 5.0) if name == 'VE' else SCHEDULES[name]
            for label, (sampler, cost) in kinds.items():
                found = convergence.errors(sampler, make, steps)
                ax.plot(np.multiply(steps, cost), found, 'o-', markersize=3, label=label)
            ax.set(title=name, xscale='log', yscale='log', xlabel='evaluations of the denoiser')
            ax.grid(alpha=0.3)
    axes[0][0].legend(fontsize=6.5)
    return figure


def panels(rows: int, columns: int, title: str, width: float = 3.6, height: float = 3.0):
    """An empty figure with rows × columns of axes, each so many inches large."""
    figure = matplotlib.figure.Figure((columns * width, rows * height), layout='constrained')
    axes = figure.subplots(rows, columns, squeeze=False)
    figure.suptitle(title, fontsize=10)
    return figure, axes


def main() -> None:
    """Writes the pictures asked for."""
    kinds = {
        name.removeprefix('draw_'): f
        for name, f in inspect.getmembers(sys.modules[__name__], inspect.isfunction)
        if name.startswith('draw_')
    }
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('names', nargs='*', metavar='name', help=', '.join(kinds))
    args = parser.parse_args()
    unknown = set(args.names) - set(kinds)
    if unknown:
        parser.error(f'no picture {sorted(unknown)}: choose from {", ".join(kinds)}')
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in args.names or kinds:
        path = FOLDER / f'{name}.png'
        kinds[name]().savefig(path, dpi=110)
        print(f'{path}: {kinds[name].__doc__}')


if __name__ == '__main__':
    main()
