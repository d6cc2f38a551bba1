"""What does bfloat16 cost in loss, and what does it bring in time? Parameters, statistics, softmax stay float32."""

import numpy as np

DTYPES = {'float32': 'digits', 'bfloat16': 'digits_bfloat16'}  # and the name of the run


def measure(lab):
    """Two trainings of the digits from the same seed: loss, speed, and what a judge sees of samples."""
    judge = lab.judge('digits_judge', 'digits_judge')
    asked = {'features': judge, 'metrics': ['kernel', 'agreement'], 'num': 1000}
    found, records = {}, {}
    for dtype, name in DTYPES.items():
        changes = {} if dtype == 'float32' else {'net.dtype': dtype}
        run = lab.train(name, 'digits', **changes)
        records[dtype] = read(run)
        figures = lab.evaluate(run, steps=50, guidance=1.0, **asked)
        found |= {f'{kind}, {dtype}': value for kind, value in figures.items()}
        found[f'loss, {dtype}'] = records[dtype][-1]['loss']
    losses = [np.array([r['loss'] for r in each]) for each in records.values()]
    found['largest difference of the losses'] = float(np.abs(np.subtract(*losses)).max())
    speeds = [np.median([r['steps_per_second'] for r in each]) for each in records.values()]
    found['steps per second, bfloat16 / float32'] = speeds[1] / speeds[0]
    lab.show(picture(records), 'losses')
    return found


def read(workdir):
    """The records of a run's steps."""
    from etils import epath

    from jaxdiff.training import metrics

    return [r for r in metrics.read(epath.Path(workdir)) if 'loss' in r]


def picture(records):
    """The losses over steps, and their difference."""
    import matplotlib.figure

    figure = matplotlib.figure.Figure((10, 4), layout='constrained')
    left, right = figure.subplots(1, 2)
    for dtype, each in records.items():
        left.plot([r['step'] for r in each], [r['loss'] for r in each], '.-', label=dtype)
    left.set(xlabel='step', ylabel='loss', yscale='log')
    left.legend()
    one, other = records.values()
    gap = [(r['step'], s['loss'] - r['loss']) for r, s in zip(one, other)]
    right.plot(*zip(*gap), '.-')
    right.axhline(0, color='grey', linestyle=':')
    right.set(xlabel='step', ylabel='bfloat16 less float32')
    return figure
