"""What guidance brings and what it costs: agreement with the label against diversity, over scales.

    jaxdiff train --config fashion_mnist
    jaxdiff train --config fashion_mnist_judge
    python experiments/guidance/fashion_mnist.py

Draws as many samples of every class at each scale and asks a classifier of clean images, trained on
the real training set, what they are; what was drawn before is taken. Diversity is the variance of its features within a class, as a
share of that of real test images. Writes fashion_mnist.json and fashion_mnist.png beside this file.
"""

import argparse
import json
import pathlib

import numpy as np

from jaxdiff import devices

SCALES = (1.0, 2.0, 3.0, 4.0, 6.0)


def main() -> None:
    """Samples, asks, draws."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--workdir', default='runs/fashion_mnist')
    parser.add_argument('--judge', default='runs/fashion_mnist_judge')
    parser.add_argument('--num', type=int, default=500)
    parser.add_argument('--sampler', default='dpmpp_2m')
    parser.add_argument('--steps', type=int, default=20)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    devices.use_cores()

    from jaxdiff import data, manifest
    from jaxdiff.commands import judges, run as runs, sample, seen
    from jaxdiff.evaluation import classes

    look, trained = seen.looker(judges.find(args.judge)), runs.find(args.workdir)

    def judge(images, labels):
        """(agreement, diversity) of images."""
        found = look(images)
        return classes.agreement(found.logp, labels), classes.diversity(found.features, labels)

    test = data.load(trained.config.data.name, split='test').source
    accuracy, spread = judge(
        *(np.stack([test[i][k] for i in range(len(test))]) for k in ('image', 'label'))
    )
    table, pictures = [], []
    for scale in SCALES:
        flags = {'sampler': args.sampler, 'steps': args.steps, 'guidance': scale, 'num': args.num}
        overrides = [(f'sample.{k}', str(v)) for k, v in (flags | {'batch_size': 100}).items()]
        job = sample.prepare(args.workdir, overrides, seed=args.seed, overwrite=True)
        drawn = job.out.parent / f'{job.out.name}.npz'
        if not drawn.exists():
            sample.run(job)
        images = np.load(drawn)['samples']
        agreement, diversity = judge(images, job.labels)
        row = {'scale': scale, 'agreement': agreement.value}
        row |= {'low': agreement.low, 'high': agreement.high}
        table.append(row | {'diversity': diversity.value / spread.value})
        pictures.append(images[: 2 * job.model.num_classes])
        print(table[-1], flush=True)
    made = {'run': runs.origin(trained), 'versions': manifest.versions(), 'settings': vars(args)}
    out = pathlib.Path(__file__).with_suffix('')
    text = json.dumps({'accuracy': accuracy.value, 'table': table, 'made': made}, indent=1)
    out.with_suffix('.json').write_text(text + '\n')
    picture(table, accuracy.value, pictures).savefig(out.with_suffix('.png'), dpi=100)
    print(f'real test images: {accuracy.value:.4f} are called what they are')


def picture(table, accuracy, pictures):
    """Agreement and diversity over scales, one against the other, and two samples of each class."""
    import matplotlib.figure

    from jaxdiff.viz import grid

    scales, agreement, low, high, diversity = (np.array(x) for x in zip(*map(dict.values, table)))
    figure = matplotlib.figure.Figure((13, 7), layout='constrained')
    top, bottom = figure.subfigures(2, 1, height_ratios=(2, 1))
    left, right = top.subplots(1, 2)
    reach = (agreement - low, high - agreement)
    left.errorbar(scales, agreement, reach, marker='o', label='agreement with the label')
    left.plot(scales, diversity, marker='s', label="diversity within a class (real images' is 1)")
    left.axhline(accuracy, linestyle=':', color='grey', label='agreement of real test images')
    left.set(xlabel='guidance scale', ylim=(0, None))
    left.legend(fontsize=8)
    right.plot(diversity, agreement, marker='o')
    for scale, x, y in zip(scales, diversity, agreement):
        right.annotate(f'{scale:g}', (x, y), textcoords='offset points', xytext=(6, 4))
    right.plot(1, accuracy, marker='*', markersize=12, color='grey')
    right.annotate('real', (1, accuracy), textcoords='offset points', xytext=(5, 8))
    right.set(xlabel='diversity', ylabel='agreement')
    for axes in (left, right):
        axes.grid(alpha=0.3)
    for scale, images, axes in zip(scales, pictures, bottom.subplots(1, len(scales))):
        axes.imshow(grid.tile(images, 5))
        axes.set_title(f'scale {scale:g}', fontsize=9)
        axes.axis('off')
    return figure


if __name__ == '__main__':
    main()
