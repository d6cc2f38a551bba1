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
import matplotlib
import matplotlib.figure
import numpy as np
from sklearn.datasets import load_digits

from jaxdiff import diffusion, manifest
from jaxdiff.diffusion import (
    bound,
    categorical,
    exact,
    grid,
    guidance,
    likelihood,
    loss,
    ordinal,
    prediction,
    samplers,
    schedule,
    times,
)
from jaxdiff.evaluation import convergence
from jaxdiff.viz.grid import about

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
        visited = grid.uniform(400)
        starts = make(1.0)[1] * jnp.linspace(-1.6, 1.6, 7)[:, None]
        for sampler, colour, width in [(samplers.ddim, 'k', 0.9), (samplers.ddpm, 'tab:red', 0.6)]:
            keys = jax.random.split(jax.random.key(3), 7)
            record = lambda state: state.x[:, 0]
            chosen = starts[1:6:2] if sampler is samplers.ddpm else starts
            _, path = diffusion.run(
                keys[: len(chosen)], denoise, sampler(make), chosen, visited, record
            )
            path = np.concatenate([chosen[None, :, 0], path])
            ax.plot(visited, path, color=colour, linewidth=width)
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
    for row, (name, visited) in enumerate(grids.items()):
        axes[0][0].plot(visited, np.full(11, row), 'o-', markersize=4, linewidth=0.6)
        inside = visited[visited > 0]
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


def draw_weightings():
    """Weights, all as weights of the squared error in eps over logsnr, and densities of times."""
    make = SCHEDULES['cosine']
    figure, axes = panels(1, 2, 'training on the cosine schedule')
    t = np.linspace(0.005, 0.995, 400)
    coef, value = schedule.coefficients(make, t, t), schedule.logsnr(make, t)
    slope = jax.vmap(jax.grad(lambda t: -schedule.logsnr(make, t)))(jnp.asarray(t))
    kinds = {
        'simple, of eps': (prediction.eps, loss.measured_in(prediction.eps)),
        'simple, of v': (prediction.v, loss.measured_in(prediction.v)),
        'min_snr(5)': (prediction.eps, loss.min_snr()),
        'p2': (prediction.eps, loss.p2()),
        'edm(0.5)': (prediction.eps, loss.edm()),
        'likelihood': (prediction.eps, loss.likelihood()),
        'sigmoid(0)': (prediction.eps, loss.sigmoid()),
    }
    for name, (p, weighting) in kinds.items():
        weight = weighting(prediction.eps, coef) * np.ones_like(t) / slope
        axes[0][0].plot(value, weight, label=name, linewidth=1.3)
    axes[0][0].set(yscale='log', ylim=(1e-4, 3), xlim=(-10, 10), xlabel='logsnr')
    axes[0][0].set_title('weight of the error in eps per unit of logsnr', fontsize=9)
    axes[0][0].legend(fontsize=6.5)
    u = (np.arange(100_000) + 0.5) / 100_000
    laws = {
        'uniform': times.uniform(u, 0.0),
        'log_normal (EDM)': times.log_normal(jnp.asarray(u), make),
        'logit_normal (SD3)': times.logit_normal(jnp.asarray(u)),
    }
    for name, drawn in laws.items():
        axes[0][1].hist(drawn, 80, range=(0, 1), density=True, histtype='step', label=name)
    axes[0][1].set(xlabel='t')
    axes[0][1].set_title('density of the training times', fontsize=9)
    axes[0][1].legend(fontsize=6.5)
    return figure


def draw_langevin():
    """Where Langevin's discrete chain settles, against equation (38), and the way there."""
    figure, axes = panels(1, 2, 'Langevin steps at one level, u = 0.5, on N(0, 1) data')
    make = schedule.ve(0.01, 5.0)
    t = float(schedule.time_of_logsnr(make, -2 * np.log(0.5)))
    variance = 1 + 0.25
    denoise = exact.mixture(make, [1.0], [[0.0]], [1.0])
    n = 20_000
    keys = jax.random.split(jax.random.key(0), n)
    sizes = np.array([0.1, 0.2, 0.3, 0.45, 0.6, 0.75, 0.9])
    for r in sizes:
        steps = max(int(12 / r**2), 150)
        sampler = samplers.predictor_corrector(make, stay(), corrections=1, snr=float(r))
        start = 2.5 * jax.random.normal(jax.random.key(1), (n, 1))
        record = lambda state: jnp.var(state.x)
        walk = jax.jit(
            lambda x: diffusion.run(keys, denoise, sampler, x, jnp.full(steps + 1, t), record)[1]
        )
        path = walk(start)
        axes[0][0].plot(r, path[-50:].mean(), 'o', color='tab:blue')
        if r in (0.1, 0.3, 0.9):
            axes[0][1].plot(path[:150], label=f'r = {r}', linewidth=1.2)
    fine = np.linspace(0.02, 0.95, 100)
    axes[0][0].plot(fine, variance / (1 - (fine * 0.5) ** 2 / variance), 'k', linewidth=0.8)
    axes[0][0].set(xlabel='r', title='variance where it settles')
    axes[0][1].axhline(variance, color='k', linewidth=0.8)
    axes[0][1].set(xlabel='steps', title='variance on the way', yscale='log')
    axes[0][1].legend(fontsize=7)
    return figure


def stay() -> samplers.Sampler:
    """A predictor that stays where it is."""
    return samplers.Sampler(samplers.start, lambda keys, state, t, s, denoise: state)


def draw_likelihood():
    """The variational bound and the flow's log density against the truth."""
    make = schedule.vp()
    weights, means, stds = convergence.WEIGHTS, np.array(convergence.MEANS), convergence.STDS
    figure, axes = panels(1, 2, 'the mixture of the order test, its exact denoiser, VP schedule')
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        k = rng.choice(3, 4000, p=weights)
        x0 = jnp.asarray(means[k] + np.array(stds)[k, None] * rng.standard_normal((4000, 2)))
        truth = exact.mixture_logp(make, weights, means, stds)(x0, 1e-5)
        denoise = exact.mixture(make, weights, means, stds)
        keys = jax.random.split(jax.random.key(0), 4000)
        counts = (4, 8, 16, 32, 64, 128, 256)
        gaps = []
        for n in counts:
            visited = grid.logsnr(make, n, 1.0, 1e-4)
            found = jax.jit(lambda t: bound.discrete(keys, denoise, make, x0, t).total)(visited)
            gaps.append(float(jnp.mean(found + truth)))
        axes[0][0].plot(counts, gaps, 'o-', markersize=3)
        axes[0][0].set(xscale='log', yscale='log', xlabel='steps')
        axes[0][0].set_title('bound minus the true −log p, nats', fontsize=9)
        few, errors = x0[:40], []
        counts = (10, 20, 40, 80, 160)
        prior = exact.mixture_logp(make, weights, means, stds)
        for n in counts:
            flow = jax.jit(
                lambda x: (
                    likelihood.log_density(
                        denoise, make, x, steps=n, prior_logp=lambda x: prior(x, 1.0)
                    ).log_prob
                )
            )
            errors.append(float(jnp.abs(flow(few) - truth[:40]).max()))
        axes[0][1].plot(counts, errors, 'o-', markersize=3, color='tab:red')
        axes[0][1].set(xscale='log', yscale='log', xlabel='Runge–Kutta steps')
        axes[0][1].set_title('largest error of the flow’s log density, nats', fontsize=9)
    for ax in axes[0]:
        ax.grid(alpha=0.3)
    return figure


def draw_discrete():
    """A digit under the three discrete processes."""
    digit = load_digits().images[12].astype(int)  # 8 × 8, levels 0 … 16
    make = schedule.flow()
    kinds = {
        'absorbing': categorical.absorbing(make, 17),
        'uniform': categorical.uniform(make, 17),
        'ordinal': ordinal.ordinal(make, 17),
    }
    visited = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    figure, axes = panels(3, len(visited), 'three discrete processes', 1.3, 1.4)
    colours = matplotlib.colormaps['gray'].with_extremes(over='tab:red')
    for row, (name, process) in zip(axes, kinds.items()):
        for ax, t in zip(row, visited):
            x, _ = process.corrupt(jax.random.key(3), jnp.asarray(digit), jnp.asarray(t))
            ax.imshow(x, cmap=colours, vmin=0, vmax=16)
            ax.set(xticks=[], yticks=[])
            ax.set_title(f't = {t}', fontsize=8) if name == 'absorbing' else None
        row[0].set_ylabel(name, fontsize=8)
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
        made = {'made_by': 'experiments/ideas.py', 'content': name} | manifest.here()
        kinds[name]().savefig(path, dpi=110, pil_kwargs={'pnginfo': about(made)})
        print(f'{path}: {kinds[name].__doc__}')


if __name__ == '__main__':
    main()
