"""What does guidance bring, and what does it cost? Agreement with the label against diversity."""

import numpy as np

SCALES = (1, 2, 3, 4, 6)
INTERVALS = ((1.0, 0.5), (0.8, 0.2), (0.5, 0.0))  # guided while to < t <= from, at a scale of
INTERVAL_SCALE = 4
HOW = {'sampler': 'dpmpp_2m', 'steps': 20, 'seed': 0}


def measure(lab):
    """Agreement and diversity at every scale, and at one scale in intervals of time."""
    run = lab.train('fashion_mnist', 'fashion_mnist')
    judge = lab.judge('fashion_mnist_judge', 'fashion_mnist_judge')
    asked = {'features': judge, 'metrics': ['agreement', 'diversity']}
    real = lab.evaluate(run, real='test', num=10_000, **asked)
    found, drawn = {'agreement, real': real['agreement']}, {}
    for name, flags in ways().items():
        flags |= HOW
        figures = lab.evaluate(run, num=500, batch_size=100, **asked, **flags)
        found[f'agreement, {name}'] = figures['agreement']
        found[f'diversity, {name}'] = figures['diversity'] / real['diversity']
        drawn[name] = lab.sample(run, name.replace(' ', '_'), num=20, **flags)
    lab.show(picture(found, drawn), 'fashion_mnist')
    return found


def ways():
    """{name: flags} of what is compared."""
    found = {f'scale {scale}': {'guidance': scale} for scale in SCALES}
    for end, start in INTERVALS:
        name = f'scale {INTERVAL_SCALE} from {end:g} to {start:g}'
        times = {'sample__guidance_from': end, 'sample__guidance_to': start}
        found[name] = {'guidance': INTERVAL_SCALE} | times
    return found


def picture(found, drawn):
    """Agreement and diversity over scales, one against the other, and two samples of each class."""
    import matplotlib.figure

    from jaxdiff.viz import grid

    agreement, diversity = (
        np.array([found[f'{kind}, {name}'] for name in drawn])
        for kind in ('agreement', 'diversity')
    )
    n, names = len(SCALES), [name.removeprefix('scale ') for name in drawn]
    figure = matplotlib.figure.Figure((14, 7.6), layout='constrained')
    top, bottom = figure.subfigures(2, 1, height_ratios=(2, 1))
    left, right = top.subplots(1, 2)
    left.plot(SCALES, agreement[:n], marker='o', label='agreement with the label')
    left.plot(
        SCALES, diversity[:n], marker='s', label="diversity within a class (real images' is 1)"
    )
    real = found['agreement, real']
    left.axhline(real, linestyle=':', color='grey', label='agreement of real test images')
    left.set(xlabel='guidance scale', ylabel='agreement, diversity', ylim=(0, None))
    left.legend(fontsize=8)
    right.plot(diversity[:n], agreement[:n], marker='o', label='at all times')
    right.plot(diversity[n:], agreement[n:], 'D', label='in an interval')
    for name, x, y in zip(names, diversity, agreement):
        right.annotate(name, (x, y), textcoords='offset points', xytext=(6, 4), fontsize=8)
    right.plot(1, real, marker='*', markersize=12, color='grey', linestyle='', label='real images')
    right.legend(fontsize=8)
    right.set(xlabel='diversity', ylabel='agreement')
    right.set_title('by guidance scale, in an interval from a time to a time', fontsize=9)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    places = bottom.subplots(2, (len(drawn) + 1) // 2).flat
    for axes, (name, images) in zip(places, drawn.items()):
        axes.imshow(grid.tile(images, 10))
        axes.set_title(name, fontsize=9)
    for axes in bottom.axes:
        axes.axis('off')
    return figure
