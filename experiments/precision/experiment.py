"""What does bfloat16 cost in loss? Parameters, statistics and softmax stay float32."""

DTYPES = {'float32': 'digits', 'bfloat16': 'digits_bfloat16'}  # and the name of the run


def measure(lab):
    """Two trainings of the digits from the same seed: loss, and what a judge sees of samples."""
    judge = lab.judge('digits_judge', 'digits_judge')
    asked = {'features': judge, 'metrics': ['kernel', 'agreement'], 'num': 1000}
    found, losses = {}, {}
    for dtype, name in DTYPES.items():
        changes = {} if dtype == 'float32' else {'net.dtype': dtype}
        run = lab.train(name, 'digits', **changes)
        losses[dtype] = read(run)
        figures = lab.evaluate(run, steps=50, guidance=1.0, **asked)
        found |= {f'{kind}, {dtype}': value for kind, value in figures.items()}
        found[f'loss, {dtype}'] = losses[dtype][max(losses[dtype])]
    found['largest difference of the losses'] = max(map(abs, apart(losses).values()))
    lab.show(picture(losses), 'losses')
    return found


def read(workdir):
    """{step: loss} of a run."""
    from etils import epath

    from jaxdiff.training import metrics

    return {r['step']: r['loss'] for r in metrics.read(epath.Path(workdir)) if 'loss' in r}


def apart(losses):
    """{step: bfloat16's loss less float32's}, where both are known."""
    one, other = losses.values()
    return {step: other[step] - one[step] for step in sorted(one.keys() & other.keys())}


def picture(losses):
    """The losses over steps, and their difference."""
    import matplotlib.figure

    figure = matplotlib.figure.Figure((10, 4), layout='constrained')
    left, right = figure.subplots(1, 2)
    for dtype, each in losses.items():
        left.plot([*each], [*each.values()], '.-', label=dtype)
    left.set(xlabel='step', ylabel='loss', yscale='log')
    left.legend()
    gap = apart(losses)
    right.plot([*gap], [*gap.values()], '.-')
    right.axhline(0, color='grey', linestyle=':')
    right.set(xlabel='step', ylabel='bfloat16 less float32')
    return figure
