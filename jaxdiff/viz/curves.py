"""Runs' numbers over their steps, drawn."""

import io

import matplotlib
import matplotlib.figure
import numpy as np
from etils import epath

from jaxdiff.evaluation import curve
from jaxdiff.viz import grid


def draw(path: epath.Path, records: list[dict], title: str, made: dict | None = None) -> None:
    """Writes a PNG of the loss, the loss by noise level, and the gradient's norm, over the steps.

    Thin: the records; thick: their running mean over a twentieth of the run. `made` stands as JSON
    under 'jaxdiff' in its text metadata.
    """
    figure = matplotlib.figure.Figure((12, 3.2), layout='constrained')
    left, middle, right = figure.subplots(1, 3)
    _line(left, records, 'loss', 'tab:blue')
    _line(right, records, 'grad_norm', 'tab:blue')
    for name, (color, told) in _levels(records).items():
        _line(middle, records, name, color, told)
    _legend(middle, title='log SNR')
    _save(path, figure, ('loss', 'loss by noise level', 'gradient norm'), title, made)


def compare(path: epath.Path, runs: dict[str, list[dict]], title: str, made: dict) -> None:
    """Writes a PNG of the loss, and of the loss by noise level, of two runs over each other.

    As in `draw`, by noise level without the records themselves, the second run dashed.

    Args:
      runs: {what to call a run: its records}.
    """
    figure = matplotlib.figure.Figure((12, 4.2), layout='constrained')
    left, right = figure.subplots(1, 2)
    levels = _levels([record for records in runs.values() for record in records])
    for (run, records), color, style in zip(runs.items(), ('tab:blue', 'tab:orange'), ('-', '--')):
        _line(left, records, 'loss', color, run)
        for name, (shade, told) in levels.items():
            line = curve.smooth(curve.of(records, name))
            right.plot(*line, style, color=shade, label=told if style == '-' else None)
        right.plot([], [], color='black', linestyle=style, label=run)
    _legend(left)
    _legend(right, title='log SNR', ncols=2)
    _save(path, figure, ('loss', 'loss by noise level'), title, made)


def _levels(records):
    """{name of a loss by noise level: (its colour, what to call it)}."""
    names = [
        name for name in dict.fromkeys(k for r in records for k in r) if curve.BY_NOISE in name
    ]
    shades = matplotlib.colormaps['viridis'](np.linspace(0, 0.85, max(1, len(names))))
    return {
        name: (shade, name.removeprefix(curve.BY_NOISE).replace('_', ' '))
        for name, shade in zip(names, shades)
    }


def _legend(axes, **options):
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, title_fontsize=7, **options)


def _save(path, figure, labels, title, made):
    for axes, label in zip(figure.axes, labels):
        axes.set(xlabel='step', ylabel=label, yscale='log')
        axes.grid(alpha=0.3)
    figure.suptitle(title, fontsize=10)
    buffer = io.BytesIO()
    about = {} if made is None else {'pnginfo': grid.about(made)}
    figure.savefig(buffer, format='png', dpi=120, pil_kwargs=about)
    path.write_bytes(buffer.getvalue())


def _line(axes, records, name, color, label=None):
    """One value over the steps, where it is there and finite."""
    found = curve.of(records, name)
    axes.plot(*found, color=color, alpha=0.35, linewidth=0.8)
    axes.plot(*curve.smooth(found), color=color, linewidth=1.6, label=label)
