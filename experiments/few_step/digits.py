"""Few-step students of a trained image model.

    python -m jaxdiff train --config digits
    python experiments/few_step/digits.py --teacher runs/digits --out few_step

Writes digits.png and digits.json: how the classifier of experiments/quality.py judges samples made
in 1, 2 and 4 evaluations by the students, and by the teacher in as many and in 16; and how varied
the samples are.
"""

import argparse
import json
import pathlib
import sys

import numpy as np

from jaxdiff import devices

BATCH, TEACHER_STEPS, SAMPLES, NUMBERS = 128, 16, 500, (1, 2, 4)
RATES, GRID_STEPS = (1e-3, 5e-4), (10, 80)  # progressive and consistency; its grid, first and last


def main() -> None:
    """Trains, samples, measures, draws."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--teacher', required=True, help="a run's folder")
    parser.add_argument('--out', default='few_step')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--steps', type=int, default=600, help='of each consistency model')
    parser.add_argument('--round-steps', type=int, default=150, help='of a progressive halving')
    args = parser.parse_args()
    devices.use_cores(BATCH)

    import jax
    import students

    from jaxdiff import build, data, manifest
    from jaxdiff.commands import sample
    from jaxdiff.diffusion import denoiser
    from jaxdiff.viz import grid

    # `out` is not written: `prepare` refuses it where it could not be
    job = sample.prepare(args.teacher, [], out=f'{args.out}/digits_teacher')
    config, model = job.config, job.model
    if config.data.name not in quality().MODEL:
        raise ValueError(f'no classifier is known for {config.data.name!r}')
    if model.learned_variance or model.schedule is None:
        raise ValueError('a teacher with a learned variance or schedule is not known here')

    def ask(params, x_t, t, cond):
        net = lambda x, level: model.net.apply(params, x, level, cond)
        return denoiser.ask(net, model.schedule, model.embedding, model.sigma_data)(x_t, t)

    batches = data.batches(build.dataset(config), BATCH, args.seed, config.data.flip)

    def batch(step):
        found = batches[step]
        keys = jax.random.split(jax.random.key(step), BATCH)
        cond = {'label': found['label']} if model.num_classes else {}
        return model.codec.encode(keys, found['image']), cond

    case = students.Case(ask, model.schedule, model.prediction, batch, config.sample.clip)
    halves = students.distil_progressively(
        case, job.params, TEACHER_STEPS, args.round_steps, RATES[0], args.seed
    )
    learned = {
        name: students.learn_consistency(
            case, job.params, teach, GRID_STEPS, args.steps, RATES[1], None, args.seed
        )
        for name, teach in (('consistency distillation', True), ('consistency training', False))
    }

    labels = np.arange(SAMPLES) % max(model.num_classes, 1)
    cond = {'label': labels} if model.num_classes else {}
    shape = (SAMPLES, *model.shape)

    def draw(kind, params, n):
        return np.asarray(
            model.codec.decode((), students.draw(case, kind, params, n, cond, shape, args.seed))
        )

    rows = {
        'teacher (DDIM)': {n: draw('ddim', job.params, n) for n in (*NUMBERS, TEACHER_STEPS)},
        'progressive': {n: draw('ddim', halves[n], n) for n in NUMBERS},
    } | {
        name: {n: draw('consistency', params, n) for n in NUMBERS}
        for name, params in learned.items()
    }
    judge = judge_of(config.data.name)
    results = {
        name: {str(n): judge(quality().flat(x), labels) for n, x in found.items()}
        for name, found in rows.items()
    }
    results['real test images'] = judge(*quality().real(config.data.name, 'test'))
    settings = {k: v for k, v in vars(args).items() if k not in ('out', 'teacher')} | {
        'teacher_steps': TEACHER_STEPS,
        'batch': BATCH,
        'rates': RATES,
        'grid_steps': GRID_STEPS,
    }
    made = {'settings': settings, 'teacher': job.made['run'], 'versions': manifest.versions()}
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / 'digits.json').write_text(json.dumps({'results': results, 'made': made}, indent=2))
    real = first_of_each_class(batches, model.num_classes)
    picture(rows, real, grid.tile).savefig(out / 'digits.png', dpi=90)
    print(json.dumps(results, indent=1))


def quality():
    """experiments/quality.py, one folder up."""
    sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
    import quality

    return quality


def judge_of(name: str):
    """(pixels [n, d], labels [n]) -> how quality.py's classifier sees them, and how varied they are.

    The energy distance is to the training images, in pixels in [0, 1]; the spread is the variance
    within a class, over that of the training images: an average of all threes is surely a three.
    """
    import students
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.svm import SVC

    real, classes = quality().real(name, 'train')
    model = CalibratedClassifierCV(SVC(**quality().MODEL[name]), ensemble=False)
    model.fit(real, classes)

    def spread(x, labels):
        return np.mean([x[labels == k].var(0, ddof=1).sum() for k in np.unique(labels)])

    def judge(x, labels):
        probability = model.predict_proba(x)
        called = probability.argmax(1)
        return {
            'above_0.9': round(float((probability.max(1) > 0.9).mean()), 3),
            'called_as_labelled': round(float((called == labels).mean()), 3),
            'energy_distance': round(students.energy_distance(x, real), 4),
            'spread': round(float(spread(x, labels) / spread(real, classes)), 3),
        }

    return judge


def first_of_each_class(batches, num_classes: int) -> np.ndarray:
    """Two real images of every class in turn (20 of any, without classes), uint8 [n, h, w, c]."""
    several = [batches[i] for i in range(4)]
    images, labels = (np.concatenate([b[k] for b in several]) for k in ('image', 'label'))
    if not num_classes:
        return images[:20]
    return np.stack([images[labels == k][i] for i in range(2) for k in range(num_classes)])


def picture(rows: dict, real: np.ndarray, tile):
    """A row a method, a column a number of steps; each two samples a class, beside real images."""
    import matplotlib.figure

    figure = matplotlib.figure.Figure((14, 3.9), layout='constrained')
    axes = figure.subplots(len(rows), 4)
    for line, (name, found) in zip(axes, rows.items()):
        shown = {f'{name}, {n} step' + 's' * (n > 1): x for n, x in found.items()}
        shown |= {'real': real} if len(found) < 4 else {}
        for place, (title, x) in zip(line, shown.items()):
            place.axis('off')
            place.imshow(tile(x[:20], 10, 4))
            place.set_title(title, fontsize=9)
    return figure


if __name__ == '__main__':
    main()
