"""A run's numbers over its steps, drawn."""

import io

import matplotlib.figure
import numpy as np
from etils import epath


def draw(path: epath.Path, records: list[dict], title: str) -> None:
    """Writes a PNG of the loss and the gradient's norm against the step.

    Thin: the records; thick: their running mean over a twentieth of the run.
    """
    figure = matplotlib.figure.Figure((8, 3), layout='constrained')
    steps = np.array([r['step'] for r in records])
    for axes, name in zip(figure.subplots(1, 2), ('loss', 'grad_norm')):
        values = np.array([r[name] for r in records])
        window = max(1, len(values) // 20)
        axes.plot(steps, values, color='tab:blue', alpha=0.35, linewidth=0.8)
        if window > 1:
            smooth = np.convolve(values, np.ones(window) / window, 'valid')
            axes.plot(steps[window - 1 :], smooth, color='tab:blue', linewidth=1.6)
        axes.set(xlabel='step', ylabel=name.replace('_', ' '), yscale='log')
        axes.grid(alpha=0.3)
    figure.suptitle(title, fontsize=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=120)
    path.write_bytes(buffer.getvalue())
