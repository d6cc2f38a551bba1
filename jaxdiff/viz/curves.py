"""A run's numbers over its steps, drawn."""

import io
import json

import matplotlib
import matplotlib.figure
import numpy as np
from etils import epath

_BY_NOISE = 'loss_logsnr_'


def draw(path: epath.Path, records: list[dict], title: str, made: dict | None = None) -> None:
    """Writes a PNG of the loss, the loss by noise level, and the gradient's norm, over the steps.

    Thin: the records; thick: their running mean over a twentieth of the run. `made` stands as JSON
    under 'jaxdiff' in its text metadata.
    """
    figure = matplotlib.figure.Figure((12, 3.2), layout='constrained')
    left, middle, right = figure.subplots(1, 3)
    _line(left, records, 'loss', 'tab:blue')
    _line(right, records, 'grad_norm', 'tab:blue')
    levels = [name for name in dict.fromkeys(k for r in records for k in r) if _BY_NOISE in name]
    for name, shade in zip(levels, np.linspace(0, 0.85, max(1, len(levels)))):
        told = name.removeprefix(_BY_NOISE).replace('_', ' ')
        _line(middle, records, name, matplotlib.colormaps['viridis'](shade), told)
    if levels:
        middle.legend(fontsize=7, title='log SNR', title_fontsize=7)
    labels = ('loss', 'loss by noise level', 'gradient norm')
    for axes, label in zip((left, middle, right), labels):
        axes.set(xlabel='step', ylabel=label, yscale='log')
        axes.grid(alpha=0.3)
    figure.suptitle(title, fontsize=10)
    buffer = io.BytesIO()
    metadata = None if made is None else {'Software': 'jaxdiff', 'jaxdiff': json.dumps(made)}
    figure.savefig(buffer, format='png', dpi=120, metadata=metadata)
    path.write_bytes(buffer.getvalue())


def _line(axes, records, name, color, label=None):
    """One value over the steps, where it is there and finite."""
    points = [(r['step'], r[name]) for r in records if np.isfinite(r.get(name, np.nan))]
    steps, values = np.array(points).reshape(-1, 2).T
    window = max(1, len(values) // 20)
    smooth = np.convolve(values, np.ones(window) / window, 'valid') if window > 1 else values
    axes.plot(steps, values, color=color, alpha=0.35, linewidth=0.8)
    axes.plot(steps[window - 1 :], smooth, color=color, linewidth=1.6, label=label)
