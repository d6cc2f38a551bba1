"""What guidance brings and what it costs: agreement with the label against diversity, over scales.

    jaxdiff train --config fashion_mnist
    jaxdiff train --config fashion_mnist_judge
    python experiments/guidance/fashion_mnist.py

Draws as many samples of every class at each scale and asks a classifier of clean images, trained on
the real training set, what they are. Writes fashion_mnist.json and fashion_mnist.png beside this file.
"""

import argparse
import json
import pathlib

import numpy as np

from jaxdiff import devices

SCALES = (0.0, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)


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
    from jaxdiff.commands import run as runs, sample

    judge = judge_of(runs.find(args.judge, kinds=('classifier',)))
    trained = runs.find(args.workdir)
    test = data.load(trained.config.data.name, split='test').source
    real, classes = (np.stack([test[i][k] for i in range(len(test))]) for k in ('image', 'label'))
    real = judge(real, classes)
    table, pictures = [], []
    for scale in SCALES:
        flags = {'sampler': args.sampler, 'steps': args.steps, 'guidance': scale, 'num': args.num}
        overrides = [(f'sample.{k}', str(v)) for k, v in (flags | {'batch_size': 100}).items()]
        job = sample.prepare(args.workdir, overrides, seed=args.seed)
        draw = sample.sampler(job.config, job.model)
        asked = job.cond, job.seed, args.num, 100
        images = np.concatenate([*sample.draw_all(draw, job.model, job.params, *asked)])
        found = judge(images, job.labels)
        agreement = float(found['right'].mean())
        table.append(
            {
                'scale': scale,
                'agreement': agreement,
                'standard_error': float((agreement * (1 - agreement) / args.num) ** 0.5),
                'diversity': found['spread'] / real['spread'],
            }
        )
        pictures.append(images[: 2 * job.model.num_classes])
        print(table[-1], flush=True)
    made = {'run': runs.origin(trained), 'versions': manifest.versions(), 'settings': vars(args)}
    accuracy = float(real['right'].mean())
    out = pathlib.Path(__file__).with_suffix('')
    text = json.dumps({'accuracy': accuracy, 'table': table, 'made': made}, indent=1)
    out.with_suffix('.json').write_text(text + '\n')
    picture(table, accuracy, pictures).savefig(out.with_suffix('.png'), dpi=100)
    print(f'real test images: {accuracy:.4f} are called what they are')


def judge_of(run):
    """(images uint8 [n, h, w, c], labels [n]) -> whether each is called as labelled, and the spread.

    The spread is the variance of the classifier's last features (the mean over positions) within a
    class, summed over channels, the mean over classes.
    """
    import jax
    import jax.numpy as jnp

    from jaxdiff import build
    from jaxdiff.commands import run as runs

    params = runs.parameters(run)
    maps = build.features_of(run.model)

    @jax.jit
    def ask(images):
        x = run.model.codec.encode(None, images)
        logp = build.log_probabilities(run.model, params)(x, jnp.zeros(()))
        return logp.argmax(-1), maps(params, x)[-1].mean((1, 2))

    def judge(images, labels):
        parts = [ask(images[i : i + 500]) for i in range(0, len(images), 500)]
        called, features = (np.concatenate(each) for each in zip(*parts))
        within = [features[labels == k].var(0, ddof=1).sum() for k in np.unique(labels)]
        return {'right': called == labels, 'spread': float(np.mean(within))}

    return judge


def picture(table, accuracy, pictures):
    """Agreement and diversity over scales, one against the other, and two samples of each class."""
    import matplotlib.figure

    from jaxdiff.viz import grid

    scales, agreement, error, diversity = zip(*(row.values() for row in table))
    figure = matplotlib.figure.Figure((13, 9), layout='constrained')
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.1))
    left, right = top.subplots(1, 2)
    left.errorbar(scales, agreement, error, marker='o', label='agreement with the label')
    left.plot(scales, diversity, marker='s', label="diversity within a class (real images' is 1)")
    left.axhline(accuracy, linestyle=':', color='grey', label='agreement of real test images')
    left.set(xlabel='guidance scale', ylim=(0, None))
    left.legend(fontsize=8)
    right.plot(diversity, agreement, marker='o')
    for scale, x, y in zip(scales, diversity, agreement):
        right.annotate(f'{scale:g}', (x, y), textcoords='offset points', xytext=(5, -10))
    right.plot(1, accuracy, marker='*', markersize=12, color='grey')
    right.annotate('real', (1, accuracy), textcoords='offset points', xytext=(5, 8))
    right.set(xlabel='diversity', ylabel='agreement')
    for axes in (left, right):
        axes.grid(alpha=0.3)
    for scale, images, axes in zip(scales, pictures, bottom.subplots(4, 2).T.flat):
        axes.imshow(grid.tile(images, len(images), 2))
        axes.set_title(f'scale {scale:g}', fontsize=9)
        axes.axis('off')
    return figure


if __name__ == '__main__':
    main()
