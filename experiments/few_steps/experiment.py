"""How good are digits in 1, 2 and 4 steps, by students of a model that takes many?"""

import itertools
import json
import sys

import numpy as np

from jaxdiff import devices

BATCH, SAMPLES, NUMBERS, SEED = 128, 500, (1, 2, 4), 0
TEACHER_STEPS = 16  # of DDIM, which the students halve
STEPS = {'progressive': 150, 'consistency': 600}  # of a halving, and of a consistency model
RATES = {'progressive': 1e-3, 'consistency': 5e-4}
GRID_STEPS = (10, 80)  # of the consistency grid, at first and at last
CONSISTENCY = {'consistency distillation': True, 'consistency training': False}  # asks the teacher?


def measure(lab):
    """Trains the students; kernel distance, agreement and diversity of what they and the teacher draw."""
    devices.use_cores(BATCH)
    judge = lab.judge('digits_judge', 'digits_judge')
    teacher = lab.train('digits', 'digits')
    sys.path.append(str(lab.folder))
    import students

    from jaxdiff import data

    run, case, params = opened(teacher)
    halves, learned = taught(lab, run, case, params)

    numbers = (*NUMBERS, TEACHER_STEPS)
    asked = {'teacher, DDIM': {n: ('ddim', params, n) for n in numbers}}
    asked['progressive distillation'] = {n: ('ddim', halves[n], n) for n in NUMBERS}
    for name, student in learned.items():
        asked[name] = {n: ('consistency', student, n) for n in NUMBERS}
    num, classes = 40 if lab.smoke else SAMPLES, run.model.num_classes
    c = run.config.data
    _, labels = whole(data.load(c.name, data_dir=c.dir))
    labels = np.random.default_rng(SEED).choice(labels, num)
    two = of_each(labels, classes)
    judged, found, drawn = judging(lab, run, judge), {}, {}
    for name, all_asked in asked.items():
        for n, how in all_asked.items():
            x = students.draw(case, *how, {'label': labels}, (num, *run.model.shape), SEED)
            images = np.asarray(run.model.codec.decode((), x))
            shown = drawn.setdefault(name, {})
            shown[f', {n} step{"s" * (n > 1)}'] = images[two]
            for figure, value in judged(images, labels).items():
                found[f'{figure}, {name}, {n}'] = value
    images, labels = whole(data.load(c.name, data_dir=c.dir, split='test'))
    found |= {f'{figure}, real test images': v for figure, v in judged(images, labels).items()}
    drawn['real test images'] = {'': images[of_each(labels, classes)]}
    lab.show(picture(drawn, len(numbers)), 'digits')
    return found


def opened(workdir):
    """The teacher: its run, what students see of it, and its parameters."""
    import jax
    import students

    from jaxdiff import build, data
    from jaxdiff.commands import run as runs
    from jaxdiff.diffusion import denoiser
    from jaxdiff.training import parallel

    run = runs.find(workdir)
    model, config = run.model, run.config

    def ask(params, x_t, t, cond):
        net = lambda x, level: model.net.apply(params, x, level, cond)
        return denoiser.ask(net, model.schedule, model.embedding, model.sigma_data)(x_t, t)

    batches = data.batches(build.dataset(config), BATCH, SEED, config.data.flip)

    def batch(step):
        found = batches[step]
        keys = jax.random.split(jax.random.key(step), BATCH)
        return model.codec.encode(keys, found['image']), {'label': found['label']}

    case = students.Case(ask, model.schedule, model.prediction, batch, config.sample.clip)
    return run, case, jax.tree.map(np.asarray, parallel.local(runs.parameters(run)))


def taught(lab, run, case, teacher):
    """{steps: student} by progressive distillation, and {name: consistency model}, as kept or anew."""
    import students

    from jaxdiff.commands import run as runs
    from jaxdiff.data.fingerprint import digest
    from jaxdiff.interop import safetensors

    arrays = safetensors.flatten(teacher).values()
    first, steps = (8, dict.fromkeys(STEPS, 2)) if lab.smoke else (TEACHER_STEPS, STEPS)
    settings = {
        'first': first,
        'steps': steps,
        'rates': RATES,
        'grid_steps': GRID_STEPS,
        'batch': BATCH,
        'seed': SEED,
        'code': digest((lab.folder / 'students.py').read_bytes()),
        'teacher': digest(*(array.tobytes() for array in arrays)),
    }
    made = json.dumps(settings, sort_keys=True)

    def kept(name, learn):
        file = lab.out / f'{name.replace(" ", "_")}.safetensors'
        if file.exists():
            tree, told = safetensors.load(file)
            if told['settings'] == made:
                print(file, flush=True)
                return tree
        tree = learn()
        about = {'made_by': 'experiments/few_steps', **runs.origin(run)}
        told = {'settings': made, 'made': json.dumps(about)}
        safetensors.save(file.with_suffix('.new'), tree, told)
        file.with_suffix('.new').replace(file)
        return tree

    def halve():
        asked = first, steps['progressive'], RATES['progressive'], SEED
        found = students.distil_progressively(case, teacher, *asked)
        return {f'{n}_steps': params for n, params in found.items()}

    def consistent(teach):
        asked = GRID_STEPS, steps['consistency'], RATES['consistency'], None, SEED
        return students.learn_consistency(case, teacher, teach, *asked)

    halves = kept('progressive', halve)
    learned = {n: kept(n, lambda t=teach: consistent(t)) for n, teach in CONSISTENCY.items()}
    return {n: halves[f'{n}_steps'] for n in NUMBERS}, learned


def judging(lab, run, judge):
    """(images, labels) -> kernel distance from the training images, agreement, and diversity as a share of theirs.

    The first two say that a sample is like its class. A blurred average of all threes is surely a
    three; diversity sees that it is the same three each time.
    """
    from jaxdiff import build
    from jaxdiff.commands import judges, seen
    from jaxdiff.evaluation import classes, kernel

    dataset, of = build.dataset(run.config), judges.find(judge)
    look = seen.looker(of)
    _, labels = whole(dataset)
    reference = seen.of_data(of, dataset, len(labels))
    varied = classes.diversity(reference, labels).value

    def judged(images, labels):
        looked = look(images)
        lab.note('all', len(images), f'{dataset.fingerprint}, {len(reference)}')
        return {
            'kernel distance': kernel.distance(looked.features, reference).value,
            'agreement': classes.agreement(looked.logp, labels).value,
            'diversity': classes.diversity(looked.features, labels).value / varied,
        }

    return judged


def of_each(labels, classes):
    """The rows of two of each class, the first of all before the second ones."""
    rows = [np.flatnonzero(labels == k) for k in range(classes)]
    return np.concatenate([*zip(*(np.resize(found, 2) for found in rows if len(found)))])


def whole(dataset):
    """All its images and their labels."""
    from jaxdiff.data.source import read, stack

    found = stack(read(dataset.source, range(len(dataset.source))))
    return found['image'], found['label']


def picture(drawn, columns):
    """Two samples of each class: a row a method, a column a number of steps."""
    import matplotlib.figure

    from jaxdiff.viz import grid

    figure = matplotlib.figure.Figure((3.5 * columns, 1.1 * len(drawn)), layout='constrained')
    for line, (name, found) in zip(figure.subplots(len(drawn), columns), drawn.items()):
        for place, title in itertools.zip_longest(line, found):
            place.axis('off')
            if title is not None:
                place.imshow(grid.tile(found[title], len(found[title]) // 2, 4))
                place.set_title(f'{name}{title}', fontsize=9)
    return figure
