"""Figures of a run's samples, from the command line."""

import json
import shutil

import jax
import numpy as np
import pytest
import tiny
from etils import epath
from PIL import Image

from jaxdiff import build, cli, config as configs, data, manifest
from jaxdiff.commands import diff, drawn, evaluate, figures, judges, sample, seen, show, written
from jaxdiff.evaluation import rows
from jaxdiff.evaluation.features import named
from jaxdiff.evaluation.figure import Figure, check_comparable
from jaxdiff.viz import grid


@pytest.fixture(scope='module')
def judge(tmp_path_factory):
    """A classifier's run, of parameters drawn at random."""
    changes = {'model': 'classifier', 'classifier__channels': 8}
    config = configs.load('digits', tiny.overrides(**changes))
    return tiny.random_run(tmp_path_factory.mktemp('judge') / 'seer', config)


def flags(**values):
    return [(f'sample.{key}', str(value)) for key, value in values.items()]


def asked(num=60, **more):
    return flags(num=num, batch_size=30, steps=2, **more)


@pytest.fixture(scope='module')
def evaluated(random_run, judge):
    """A run's figures: the job, and what it told."""
    job = evaluate.prepare(random_run, asked(), features=judge)
    return job, list(evaluate.run(job))


def test_all_that_apply_are_measured_and_say_by_what(evaluated):
    job, (table, path, picture) = evaluated
    record = json.loads(epath.Path(path).read_text())
    figures = record['figures']
    names = ['frechet_distance', 'kernel_distance', 'precision', 'recall', 'density', 'coverage']
    names += ['diversity', 'score', 'agreement']
    assert set(figures) == {f'{name}[seer]' for name in names} | {'copies'}
    for name, figure in figures.items():
        assert figure['low'] <= figure['value'] <= figure['high'] and figure['count'] == 60
        assert name in table and figure['features'] == job.features.digest
    assert figures['frechet_distance[seer]']['reference'].startswith(job.training.fingerprint)
    assert record['step'] == record['made']['step'] == 6
    assert record['made']['made_by'] == 'jaxdiff evaluate'
    assert record['made']['run']['config']['net']['channels'] == 8
    seconds = record['seconds']
    parts = sum(seconds[part] for part in ('sampling', 'features', 'metrics'))
    assert 0 < parts <= seconds['total'] + 0.2
    assert grid.read_made(epath.Path(picture))['step'] == 6
    told = show.text(path, show.read(path))
    assert f'evaluate --workdir {job.sampling.made["workdir"]} --step 6' in told
    assert f'--features {job.sampling.made["evaluated"]["features"]} --held-out test' in told
    assert '--metrics' not in told and '--config.sample.num=60' in told


def test_the_command_shown_has_what_the_run_says_too_where_evaluate_has_its_own_default(evaluated):
    made = show.read(evaluated[1][1])
    assert made['run']['config']['sample']['num'] == 10
    made |= {'changed': {}, 'sample': made['sample'] | {'num': 10}}
    assert '--config.sample.num=10' in show.command(made)  # it would draw 5,000
    prompts = f'--config.sample.prompts={made["sample"]["prompts"]}'  # as the run has them
    assert prompts in show.command(made | {'prompts': ['a cat']})
    assert prompts not in show.command(made | {'prompts': 'captions of emoji, train'})


def test_they_are_of_the_samples_that_sample_draws(evaluated, random_run, judge, tmp_path):
    job, (_, path, _) = evaluated
    labels = [str(label) for label in job.sampling.labels]
    sample.run(sample.prepare(random_run, asked(), labels=labels, out=str(tmp_path / 'a')))
    drawn = np.load(tmp_path / 'a.npz')
    found = seen.looker(judges.find(judge))(drawn['samples'])
    right = float(np.mean(found.logp.argmax(1) == drawn['labels']))
    figures = json.loads(epath.Path(path).read_text())['figures']
    assert figures['agreement[seer]']['value'] == pytest.approx(right)


def test_features_of_data_are_computed_once_and_are_those_of_the_images(judge, monkeypatch):
    dataset = data.load('digits')
    features = judges.find(judge)
    kept = seen.of_data(features, dataset, 300)
    chosen = seen.some(dataset, 300)
    expected = seen.looker(features)(seen.images(dataset, chosen))
    np.testing.assert_allclose(kept, expected.features, atol=1e-5)
    alone = jax.jit(features.apply)(features.params, seen.images(dataset, chosen[299:]))
    np.testing.assert_allclose(kept[299:], alone, atol=1e-4)
    monkeypatch.setattr(seen, 'looker', None)
    np.testing.assert_array_equal(seen.of_data(features, dataset, 300), kept)


def test_it_does_not_replace_what_is_there(evaluated, random_run, judge):
    with pytest.raises(ValueError, match='exists: give --overwrite'):
        evaluate.prepare(random_run, asked(), features=judge)
    other = evaluate.prepare(random_run, asked(), ['kernel'], judge)
    more = evaluate.prepare(random_run, asked(guidance=2), features=judge)
    assert len({evaluated[0].out, other.out, more.out}) == 3


def test_held_out_images_that_tell_no_copies_are_refused_before_samples_are_drawn(
    random_run, judge, monkeypatch, capsys
):
    monkeypatch.setattr(seen, 'of_data', lambda of, dataset, num: np.eye(of.width))
    monkeypatch.setattr(drawn, 'draw', None)
    command = ['evaluate', '--workdir', random_run, '--features', judge, '--metrics', 'copies']
    with pytest.raises(SystemExit) as error:
        cli.main([*command, '--num', '40'])
    assert error.value.code == 3
    told = '--held-out test: copies are told by 99 held-out images or more that are not in the'
    assert told in capsys.readouterr().err
    job = evaluate.prepare(random_run, asked(num=41), features=judge)
    assert figures.usual(job, np.eye(4), np.eye(4)) is None
    assert f'warning: without copies, {told}' in capsys.readouterr().err


def test_the_nearest_training_images_stand_beside_those_nearest_to_them(
    random_run, judge, monkeypatch
):
    """Of 500 of the training images, which are not the first ones; looked for batch by batch."""
    monkeypatch.setattr(rows, 'BLOCK', 32)
    job = evaluate.prepare(random_run, asked(), ['copies'], judge, most=500)
    training = seen.of_data(job.features, job.training, 500)
    took = dict.fromkeys(('sampling', 'features', 'metrics'), 0.0)
    found = drawn.draw(job.sampling, None, job.features, None, False, took)
    assert found.samples is None and found.closest is None
    _, _, picture = evaluate.run(job)
    apart = np.linalg.norm(found.looked.features[:, None] - training, axis=2)
    order = np.argsort(apart.min(1))[:32]
    near = seen.some(job.training, 500)[apart.argmin(1)[order]]
    whole = drawn.draw(job.sampling, None, None, None, True, took).samples
    beside = seen.images(job.training, near)
    expected = written.beside((beside,), whole[order])
    np.testing.assert_array_equal(np.asarray(Image.open(picture)), expected)


def test_bits_per_dimension_need_no_features_and_are_those_of_held_out_images(random_run):
    """Of all but the last batch of a number that is no multiple of it, by the images' own labels."""
    job = evaluate.prepare(random_run, asked(num=50), ['bound'])
    table, path = evaluate.run(job)
    figure = json.loads(epath.Path(path).read_text())['figures']['bits_per_dim_bound']
    test, model = data.load('digits', split='test'), job.sampling.model
    chosen = [test.source[int(i)] for i in seen.some(test, 50)]
    images, labels = (np.stack([x[key] for x in chosen]) for key in ('image', 'label'))
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), np.arange(50))
    measure = jax.jit(build.bits_per_dim(model, test.levels, 'bound'))
    bits = measure(job.sampling.params, keys, images, {'label': labels})
    assert figure['count'] == 50 and 'bits_per_dim_bound' in table
    assert figure['value'] == pytest.approx(float(np.mean(bits)), rel=1e-4)


def test_a_task_is_measured_by_how_near_each_comes_to_its_own_image(tmp_path, monkeypatch):
    """Where the i-th of 40 is wrong by i + 1 in one of 64 pixels."""
    config = configs.load('digits', tiny.overrides(task='denoise', degradation__noise=0.5))
    run = tiny.random_run(tmp_path / 'run', config)
    job = evaluate.prepare(run, asked(num=40), ['psnr'])
    test = data.load('digits', split='test')
    samples = seen.images(test, seen.some(test, 40))
    wrong = samples[:, 0, 0, 0].astype(int)
    samples[:, 0, 0, 0] = np.where(
        wrong < 128, wrong + 1 + np.arange(40), wrong - 1 - np.arange(40)
    )
    made = drawn.Drawn(samples, None, None, None)
    monkeypatch.setattr(drawn, 'draw', lambda *_: made)
    _, path = evaluate.run(job)
    figure = json.loads(epath.Path(path).read_text())['figures']['psnr']
    expected = 10 * np.log10(255**2 * 64 / np.arange(1, 41) ** 2)
    assert figure['count'] == 40 and figure['value'] == pytest.approx(expected.mean(), rel=1e-5)


def test_what_is_seen_and_how_near_it_comes_are_measured_together(judge, tmp_path):
    config = configs.load('digits', tiny.overrides(task='denoise', degradation__noise=0.5))
    run = tiny.random_run(tmp_path / 'run', config)
    near = {'psnr'}  # and of images as small as these no SSIM
    assert {*evaluate.prepare(run, asked()).metrics} == near
    metrics = evaluate.prepare(run, asked(), features=judge).metrics
    assert near | {'kernel', 'agreement'} < {*metrics} and 'ssim' not in metrics
    job = evaluate.prepare(run, asked(num=40), ['kernel', 'copies', 'psnr'], judge)
    figures = json.loads(epath.Path(list(evaluate.run(job))[1]).read_text())['figures']
    task, told = figures['psnr']['reference'], [f['reference'] for f in figures.values()]
    assert len(told) == 3 and all(reference.split()[-1] == task for reference in told)
    assert not near & {*evaluate.prepare(run, asked(), features=judge, real='test').metrics}
    with pytest.raises(ValueError, match='of models of images alone, not of a task'):
        evaluate.prepare(run, asked(), ['bound'])
    with pytest.raises(ValueError, match='--num 1: an interval needs two'):
        evaluate.prepare(run, asked(num=1), ['psnr'])


def test_the_least_that_a_frechet_distance_needs_is_told_and_suffices(random_run, judge):
    width = judges.find(judge).width
    least = max(40, width + 1)
    if least > 40:
        with pytest.raises(ValueError, match='needs more samples and references than that'):
            evaluate.prepare(random_run, asked(num=least - 1), ['frechet'], judge)
    job = evaluate.prepare(random_run, asked(num=least), ['frechet'], judge, overwrite=True)
    assert list(evaluate.run(job))


def test_a_folder_that_keeps_no_features_costs_no_samples(random_run, judge, monkeypatch, capsys):
    def full(*_):
        raise OSError('the features cannot be kept')

    monkeypatch.setattr(seen.kept, 'write', full)
    job = evaluate.prepare(random_run, asked(num=45), ['kernel'], judge, split='train[:400]')
    assert list(evaluate.run(job))
    assert 'warning: the features cannot be kept; they are computed' in capsys.readouterr().err


@pytest.mark.parametrize(
    'given, message',
    [
        ({'metrics': ['fid']}, '--metrics fid: there are frechet'),
        ({'seed': -1}, '--seed must lie between'),
        ({'overrides': asked(num=1), 'metrics': ['bound']}, '--num 1: an interval needs two'),
        ({'held_out': 'test[:1]', 'metrics': ['bound']}, '--held-out .* needs two'),
        ({}, 'Give --features'),
        ({'metrics': ['kernel']}, 'kernel need --features'),
        ({'metrics': ['psnr']}, 'trained for a task'),
        ({'features': 'nowhere'}, 'no training run in nowhere'),
        ({'overrides': asked(num=30), 'features': 'JUDGE'}, 'needs 40 samples or more'),
        ({'most': 10, 'features': 'JUDGE'}, 'needs more samples and references than that'),
        ({'features': 'LARGE'}, 'sees images of 16x16x1, and the samples are 8x8x1'),
        ({'split': 'no', 'features': 'JUDGE'}, 'no'),
    ],
    ids=lambda value: None,
)
def test_what_cannot_be_measured_is_refused_before_anything_is_drawn(
    given, message, random_run, judge, tmp_path
):
    if given.get('features') == 'LARGE':
        changes = {'model': 'classifier', 'data__image_size': 16}
        config = configs.load('digits', tiny.overrides(**changes))
        given = given | {'features': tiny.random_run(tmp_path / 'large', config)}
    if given.get('features') == 'JUDGE':
        given = given | {'features': judge}
    given = {'overrides': asked(), 'overwrite': True} | given
    with pytest.raises(ValueError, match=message):
        evaluate.prepare(random_run, **given)


@pytest.mark.parametrize(
    'name, message',
    [('inception', 'needs its weights'), ('inception:no.pth', 'there is no no.pth')],
)
def test_features_by_name(name, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        judges.find(name)


def test_agreement_needs_labels(judge, tmp_path):
    config = configs.load('digits', tiny.overrides(net__condition=''))
    run = tiny.random_run(tmp_path / 'run', config)
    with pytest.raises(ValueError, match='not conditioned on labels'):
        evaluate.prepare(run, asked(), ['agreement'], judge)
    job = evaluate.prepare(run, asked(), features=judge)
    assert 'agreement' not in job.metrics and 'score' in job.metrics


def test_the_command(random_run, judge, capsys):
    command = ['evaluate', '--workdir', random_run, '--features', judge, '--num', '50', '--steps']
    cli.main([*command, '2', '--metrics', 'kernel', 'diversity', '--seed', '3'])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ['metric', 'value', '95', '%', 'interval', 'count']
    assert printed[1].startswith('kernel_distance[seer]') and printed[-1].endswith('.json')
    with pytest.raises(SystemExit) as error:
        cli.main([*command, '2', '--metrics', 'kernel', 'diversity', '--seed', '3'])
    assert error.value.code == 2


def test_a_judge_is_the_same_in_whatever_folder(judge, tmp_path):
    moved = judges.find(str(shutil.copytree(judge, tmp_path / 'moved')))
    assert moved.name == 'moved' and moved.digest == judges.find(judge).digest


@pytest.fixture
def committed(monkeypatch):
    """As if there were no changes since a commit."""
    monkeypatch.setattr(manifest, 'commit', lambda: 'abc')


def test_figures_are_reused_only_where_they_are_the_same(
    evaluated, random_run, judge, tmp_path, capsys, committed
):
    _, (table, path, _) = evaluated
    record = json.loads(epath.Path(path).read_text())
    record['made'] |= {'commit': 'abc'}
    epath.Path(path).write_text(json.dumps(record))
    job = evaluate.prepare(random_run, asked(), features=judge, reuse=True)
    assert list(evaluate.run(job)) == [table, path]
    assert not capsys.readouterr().err
    changed = {'commit': 'abc+'}, {'devices': record['made']['devices'] | {'kind': 'other'}}
    for change in changed:
        older = record | {'made': record['made'] | change}
        epath.Path(path).write_text(json.dumps(older))
        assert not evaluate.prepare(random_run, asked(), features=judge, reuse=True).reuse
        (key,) = change
        assert f'measured with {key} {change[key]}, and is' in capsys.readouterr().err
    for key in ('guides', 'evaluated', 'against', 'sample', 'run', 'seed'):
        was = record['made'][key]
        other = was | {'another': 7} if isinstance(was, dict) else 7
        epath.Path(path).write_text(json.dumps(record | {'made': record['made'] | {key: other}}))
        with pytest.raises(ValueError, match='other features or settings: --overwrite'):
            evaluate.prepare(random_run, asked(), features=judge, reuse=True)
    epath.Path(path).write_text(json.dumps(record))
    changes = {'model': 'classifier', 'classifier__channels': 16}
    config = configs.load('digits', tiny.overrides(**changes))
    other = tiny.random_run(tmp_path / 'seer', config)  # of the same name
    with pytest.raises(ValueError, match='other features or settings: --overwrite'):
        evaluate.prepare(random_run, asked(), features=other, reuse=True)


def test_real_images_are_measured_in_the_place_of_samples(random_run, judge, capsys):
    held_out = data.load('digits', split='test')
    elements = [held_out.source[int(i)] for i in seen.some(held_out, 100)]
    look = seen.looker(judges.find(judge))
    found = look(np.stack([e['image'] for e in elements]))
    right = np.mean(found.logp.argmax(1) == [e['label'] for e in elements])
    asked = ['evaluate', '--workdir', random_run, '--features', judge, '--real', 'test']
    cli.main([*asked, '--num', '100'])
    path = capsys.readouterr().out.splitlines()[-1]
    record = json.loads(epath.Path(path).read_text())
    assert 'copies' not in record['figures']  # told by images of this split
    figure = record['figures']['agreement[seer]']
    assert figure['value'] == pytest.approx(right) and figure['count'] == 100
    assert not record['made']['generated']
    assert '--real test' in show.text(path, show.read(path))
    with pytest.raises(SystemExit):
        cli.main([*asked, '--metrics', 'bound'])
    assert '--real: bound are not all' in capsys.readouterr().err


def test_real_images_by_class_and_without_are_other_figures(random_run, judge, tmp_path):
    plain = configs.load('digits', tiny.overrides(net__condition=''))
    runs = random_run, tiny.random_run(tmp_path / 'plain', plain)
    jobs = [evaluate.prepare(run, asked(), ['diversity'], judge, real='test') for run in runs]
    assert [job.sampling.made['against']['classes'] for job in jobs] == [True, False]


def test_features_that_were_cut_off_are_one_line(judge, tmp_path):
    dataset = data.load('digits')._replace(place=str(tmp_path))
    seen.of_data(judges.find(judge), dataset, 50)
    (file,) = tmp_path.iterdir()
    for length in (500, 0):
        file.write_bytes(file.read_bytes()[:length])
        with pytest.raises(OSError, match='does not hold the features of this data: delete it'):
            seen.of_data(judges.find(judge), dataset, 50)


def test_two_files_of_figures_are_compared_by_them(evaluated, tmp_path):
    path = epath.Path(evaluated[1][1])
    record = json.loads(path.read_text())
    record['figures']['agreement[seer]']['value'] += 0.25
    (tmp_path / 'other.json').write_text(json.dumps(record))
    found = diff.prepare(str(path), str(tmp_path / 'other.json')).found
    apart = {row['name']: row['difference'] for row in found['figures']}
    assert found['differs'] == ['figures'] and apart['agreement[seer]'] == pytest.approx(0.25)
    assert {*apart.values()} == {0.0, apart['agreement[seer]']} and len(apart) == 10


def test_features_of_arrays_are_kept_nowhere(judge, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = data.load('digits')._replace(place='')
    assert seen.of_data(judges.find(judge), dataset, 50).shape == (50, 16)
    assert not list(tmp_path.iterdir())


def test_samples_have_labels_as_frequent_as_in_the_training_set_each_drawn_alone(judge, tmp_path):
    """Of 90 zeros and 10 ones, sorted: not half of each, and not in turn."""
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (100, 8, 8, 1), np.uint8)
    np.savez(tmp_path / 'mine.npz', image=images, label=np.repeat([0, 1], [90, 10]))
    config = configs.load('digits', tiny.overrides(data__name='', data__path=tmp_path / 'mine.npz'))
    run = tiny.random_run(tmp_path / 'run', config)

    def labels(**more):
        return evaluate.prepare(run, asked(**more), ['kernel'], judge).sampling.labels

    found = labels(num=400)
    assert 0.85 < np.mean(found == 0) < 0.95
    np.testing.assert_array_equal(labels(num=100), found[:100])  # each by its number alone
    assert any(found[::10] != found[0])


def test_neighbours_are_looked_for_among_all_of_a_sorted_set(random_run, judge, tmp_path):
    """Of a reference sorted by class, as folders are, the first ones would all be zeros."""
    digits = data.load('digits')
    found = [digits.source[i] for i in range(800)]
    order = np.argsort([e['label'] for e in found], kind='stable')
    images, labels = (np.stack([found[i][key] for i in order]) for key in ('image', 'label'))
    np.savez(tmp_path / 'sorted.npz', image=images, label=labels)
    dataset = data.load('', str(tmp_path / 'sorted.npz'))
    job = evaluate.prepare(random_run, asked(num=100), ['density'], judge)
    x = seen.looker(job.features)(np.stack([digits.source[i]['image'] for i in range(800, 1000)]))
    reference = seen.of_data(job.features, dataset, 800)
    seen_as = drawn.Drawn(None, x, None, None)
    coverage = figures.of_features(job._replace(reference=dataset), seen_as, reference)[
        'coverage[seer]'
    ]
    assert coverage.value > 0.7
    assert coverage.reference == f'{dataset.fingerprint}, 200 of 800'


@pytest.mark.parametrize(
    'given, message',
    [
        ({'real': 'train[:500]'}, '--real train.:500. would be measured against images of its own'),
        ({'real': 'train+test'}, 'images of its own'),
        ({'metrics': ['copies'], 'held_out': 'train[1000:]'}, 'has images of the training set'),
        ({'metrics': ['copies'], 'real': 'test[:200]'}, '--real has images of --held-out test'),
        ({'metrics': ['copies'], 'held_out': 'test[:98]'}, 'has 98 images, and 99 are needed'),
        ({'metrics': ['kernel'], 'most': 2}, '2 images are too few to measure against'),
    ],
)
def test_images_that_are_measured_against_themselves_are_refused(given, message, random_run, judge):
    with pytest.raises(ValueError, match=message):
        evaluate.prepare(random_run, asked(), features=judge, overwrite=True, **given)


def test_splits_that_have_nothing_in_common_are_told_apart():
    def some(split):
        return data.load('digits', split=split)

    assert data.overlap(some('train[:500]'), some('train[499:]'))
    assert data.overlap(some('train+test'), some('test[10:20]'))
    assert not data.overlap(some('train[:500]'), some('train[500:]'))
    assert not data.overlap(some('train'), some('test'))


def test_a_classifier_of_other_classes_agrees_with_nothing(random_run, judge, monkeypatch):
    features = judges.find(judge)._replace(class_names=tuple('abcdefghij'))
    monkeypatch.setattr(judges, 'find', lambda name: features)
    with pytest.raises(ValueError, match='no agreement: seer knows other classes, a, b, c'):
        evaluate.prepare(random_run, asked(), ['agreement'], judge)
    job = evaluate.prepare(random_run, asked(num=70), features=judge)
    assert 'agreement' not in job.metrics and 'score' in job.metrics


def test_samples_that_are_not_finite_are_told_beside_their_figures(random_run, judge, capsys):
    job = evaluate.prepare(random_run, asked(num=45), ['score'], judge)
    lost = jax.tree.map(lambda x: x * np.nan, job.sampling.params)
    _, path = evaluate.run(job._replace(sampling=job.sampling._replace(params=lost)))
    told = 'not finite, but black or white, 45 of 45: 0, 1, 2, 3, 4, 5, 6, 7, …'
    assert told in capsys.readouterr().err
    assert json.loads(epath.Path(path).read_text())['made']['not_finite'] in told
    _, again = evaluate.run(job._replace(reuse=True))
    assert again == path and told in capsys.readouterr().err


def test_a_tasks_model_is_asked_for_the_labels_of_what_it_restores(judge, tmp_path):
    """All held-out images where there are fewer than samples are asked for."""
    config = configs.load('digits', tiny.overrides(task='denoise', degradation__noise=0.5))
    run = tiny.random_run(tmp_path / 'run', config)
    held_out = data.load('digits', split='test')
    job = evaluate.prepare(run, asked(num=1000), ['agreement', 'psnr'], judge)
    expected = [held_out.source[i]['label'] for i in range(len(held_out.source))]
    np.testing.assert_array_equal(job.sampling.labels, expected)
    *_, path = evaluate.run(job)
    figures = json.loads(epath.Path(path).read_text())['figures']
    assert figures['psnr']['count'] == 355
    other = configs.load('digits', tiny.overrides(task='deblur'))
    other = tiny.random_run(tmp_path / 'other', other)
    *_, path = evaluate.run(evaluate.prepare(other, asked(num=1000), ['psnr']))
    one, two = (
        Figure(**f)
        for f in (figures['psnr'], json.loads(epath.Path(path).read_text())['figures']['psnr'])
    )
    with pytest.raises(ValueError, match='different references'):
        check_comparable(one, two)


def test_a_run_called_inception_measures_no_fid(judge, tmp_path):
    shutil.copytree(judge, tmp_path / 'inception')
    assert named('frechet_distance', judges.find(str(tmp_path / 'inception'))) != 'FID'


def test_a_models_own_prompts_are_for_its_pictures_and_not_for_its_figures(judge, tmp_path):
    images, lines = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8), []
    (tmp_path / 'data').mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / 'data' / f'{i}.png')
        lines.append({'file_name': f'{i}.png', 'text': f'number {i}', 'label': f'{i % 2}'})
    (tmp_path / 'data' / 'metadata.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    changes = {'data__name': '', 'data__path': tmp_path / 'data', 'text__encoder': 'trained'}
    changes |= {'net__condition': 'class+text', 'sample__prompts': "('always',)"}
    run = tiny.random_run(tmp_path / 'run', configs.load('digits', tiny.overrides(**changes)))
    job = evaluate.prepare(run, asked(), ['kernel'], judge)
    numbers = np.array([int(prompt.split()[1]) for prompt in job.sampling.prompts])
    assert len(set(numbers)) > 20
    np.testing.assert_array_equal(numbers % 2, job.sampling.labels)  # of one example each
    assert job.sampling.made['prompts'].startswith('captions of')
    wanted = evaluate.prepare(run, asked(prompts="('number 3',)"), ['kernel'], judge).sampling
    assert {*wanted.prompts} == {'number 3'} and wanted.made['prompts'] == ['number 3']


def test_diversities_of_other_classes_are_not_compared(random_run, judge, tmp_path):
    config = configs.load('digits', tiny.overrides(net__condition=''))
    other = tiny.random_run(tmp_path / 'run', config)

    def diversity(run, **more):
        job = evaluate.prepare(run, asked(), ['diversity'], judge, overwrite=True, **more)
        *_, path = evaluate.run(job)
        return Figure(**json.loads(epath.Path(path).read_text())['figures']['diversity[seer]'])

    def score(run):
        job = evaluate.prepare(run, asked(num=41), ['score'], judge)
        *_, path = evaluate.run(job)
        return Figure(**json.loads(epath.Path(path).read_text())['figures']['score[seer]'])

    check_comparable(score(random_run), score(other))
    free = diversity(other)
    with pytest.raises(ValueError, match='different references'):
        check_comparable(diversity(random_run), free)
    real = diversity(other, real='test')
    check_comparable(real, free)  # of all classes together, as the samples are
    assert real.value > diversity(random_run, real='test').value


def test_real_images_beside_a_tasks_model(judge, tmp_path):
    changes = {
        'task': 'denoise',
        'degradation__noise': 0.5,
        'loss__condition_dropout': 0.0,
    }  # and without the null label
    run = tiny.random_run(tmp_path / 'run', configs.load('digits', tiny.overrides(**changes)))
    job = evaluate.prepare(run, asked(), ['kernel'], judge, real='test')
    assert list(evaluate.run(job))
    job = evaluate.prepare(run, asked(num=400), ['kernel'], judge, held_out='test+train[:30]')
    assert len(job.sampling.labels) == 385


def test_figures_of_an_earlier_method_are_measured_anew(random_run, judge, monkeypatch, committed):
    def prepared():
        return evaluate.prepare(random_run, asked(num=44), ['kernel'], judge, reuse=True)

    now = evaluate.METHOD
    monkeypatch.setattr(evaluate, 'METHOD', 0)
    list(evaluate.run(prepared()))
    assert prepared().reuse
    monkeypatch.setattr(evaluate, 'METHOD', now)
    assert not prepared().reuse
    list(evaluate.run(prepared()))
    assert prepared().reuse
