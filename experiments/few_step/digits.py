"""Few-step students of a trained image model.

    python -m jaxdiff train --config digits
    python experiments/few_step/digits.py --teacher runs/digits --out few_step

Writes digits.png and digits.json: how the classifier of experiments/quality.py judges samples made
in 1, 2 and 4 evaluations by the students, and by the teacher in as many and in 16.
"""

import argparse
import json
import pathlib
import sys

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
    import numpy as np
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
            model.codec.decode(students.draw(case, kind, params, n, cond, shape, args.seed))
        )

    rows = {
        'teacher (DDIM)': {n: draw('ddim', job.params, n) for n in (*NUMBERS, TEACHER_STEPS)},
        'progressive': {n: draw('ddim', halves[n], n) for n in NUMBERS},
    } | {
        name: {n: draw('consistency', params, n) for n in NUMBERS}
        for name, params in learned.items()
    }
    judge = classifier(config.data.name)
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
    picture(rows, grid.tile).savefig(out / 'digits.png', dpi=90)
    print(json.dumps(results, indent=1))


def quality():
    """experiments/quality.py, one folder up."""
    sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
    import quality

    return quality


def classifier(name: str):
    """How `quality.py` judges: (pixels [n, d], labels [n]) -> shares."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.svm import SVC

    model = CalibratedClassifierCV(SVC(**quality().MODEL[name]), ensemble=False)
    model.fit(*quality().real(name, 'train'))

    def judge(x, labels):
        probability = model.predict_proba(x)
        called = probability.argmax(1)
        return {
            'above_0.9': round(float((probability.max(1) > 0.9).mean()), 3),
            'called_as_labelled': round(float((called == labels).mean()), 3),
        }

    return judge


def picture(rows: dict, tile):
    """A row a method, a column a number of steps; each two samples a class."""
    import matplotlib.figure

    figure = matplotlib.figure.Figure((14, 5.2), layout='constrained')
    axes = figure.subplots(len(rows), 4)
    for line, (name, found) in zip(axes, rows.items()):
        for place in line:
            place.axis('off')
        for place, (n, x) in zip(line, found.items()):
            place.imshow(tile(x[:20], 10, 4))
            place.set_title(f'{name}, {n} step' + 's' * (n > 1), fontsize=9)
    return figure


if __name__ == '__main__':
    main()
