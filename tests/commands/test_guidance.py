"""Guidance by other runs, a weaker one and a classifier, and by several prompts."""

import functools
import shutil

import jax
import numpy as np
import pytest
import tiny
from etils import epath
from PIL import Image

from jaxdiff import build, config as configs
from jaxdiff.build import conditions
from jaxdiff.commands import export, plan, sample, train
from jaxdiff.viz import grid


@pytest.fixture(scope='module')
def classifier(tmp_path_factory):
    """A run of a classifier of noisy digits, and its picture."""
    workdir = tmp_path_factory.mktemp('classifier') / 'run'
    changes = {'model': 'classifier', 'classifier__channels': 8, 'train__steps': 60}
    changes |= {'train__log_every': 20, 'train__checkpoint_every': 60, 'sample__batch_size': 200}
    config = configs.load('digits', tiny.overrides(**changes))
    picture = train.run(train.prepare(config, str(workdir)))
    return str(workdir), picture


def keys(**values):
    return [(f'sample.{key}', str(value)) for key, value in values.items()]


def drawn(run, out, overrides, **options):
    job = sample.prepare(run, overrides, out=str(out), **options)
    sample.run(job)
    return np.load(f'{out}.npz')['samples'].astype(int), grid.read_made(epath.Path(f'{out}.png'))


def test_a_classifier_learns_and_its_picture_says_how_well(classifier):
    workdir, picture = classifier
    accuracy = grid.read_made(epath.Path(picture))['accuracy']
    assert accuracy['clean'] > 0.3 and accuracy['clean'] > accuracy['t=0.75']
    assert Image.open(picture).width > 10 * 48
    with pytest.raises(ValueError, match="model='classifier', which has no samples of its own"):
        sample.prepare(workdir, [])
    config = configs.load('digits', tiny.overrides(model='classifier', classifier__channels=8))
    assert any('operations' in line for line in plan.run(plan.prepare(config)))


def test_a_classifier_leads_to_its_label(random_run, classifier, tmp_path):
    asked = keys(steps=3, num=2, classifier=classifier[0])
    one, made = drawn(random_run, tmp_path / 'a', asked, labels=['3'])
    assert made['guides']['classifier']['workdir'] == classifier[0]
    stronger, _ = drawn(random_run, tmp_path / 'b', asked + keys(classifier_scale=20), labels=['3'])
    none, _ = drawn(random_run, tmp_path / 'c', asked + keys(classifier_scale=0), labels=['3'])
    plain, _ = drawn(random_run, tmp_path / 'd', keys(steps=3, num=2, grid='uniform'), labels=['3'])
    assert np.any(one != none) and np.any(one != stronger)
    # A scale of 0 leads nowhere; its walk begins a little later, where alpha is not 0.
    assert np.mean(np.abs(none - plain)) < 0.5 * np.mean(np.abs(stronger - plain)) + 1


def test_a_weaker_model_is_led_away_from(random_run, tmp_path):
    asked = keys(steps=3, num=4)
    plain, _ = drawn(random_run, tmp_path / 'a', asked)
    itself, _ = drawn(random_run, tmp_path / 'b', asked + keys(weaker=random_run, guidance=3))
    np.testing.assert_allclose(itself, plain, atol=1)  # nothing to be led away from
    older = asked + keys(weaker=random_run, weaker_step=3, guidance=3, guidance_rescale=0.5)
    led, made = drawn(random_run, tmp_path / 'c', older)
    assert np.any(led != plain) and made['guides']['weaker']['step'] == 3
    names = [sample.prepare(random_run, o).out.name for o in (asked, older)]
    assert len(set(names)) == 2


def test_guides_are_arguments_of_one_program(random_run, classifier):
    asked = keys(steps=2, num=2, weaker=random_run, guidance=2, classifier=classifier[0])
    job = sample.prepare(random_run, asked)
    assert set(job.params) == {'net', 'weaker', 'classifier'}
    given, random = {'class': np.zeros(2, np.int32)}, jax.random.split(jax.random.key(0), 2)
    pure = build.sampling(job.config, job.model, **job.guides.models())
    cond = {'label': np.zeros(2, np.int32)}
    program = jax.make_jaxpr(pure)(job.params, cond, random, None, given)
    assert max((np.size(c) for c in program.consts), default=0) < 100


@pytest.mark.parametrize(
    'values, message',
    [
        ({'weaker': '/nowhere', 'guidance': 2}, 'no training run in /nowhere'),
        ({'weaker': 'RUN'}, 'needs sample.guidance other than 1'),
        ({'weaker': 'CLASSIFIER', 'guidance': 2}, 'it must be diffusion'),
        ({'classifier': 'RUN'}, 'it must be classifier'),
        ({'weaker_step': 3}, 'is of sample.weaker'),
        ({'classifier': 'CLASSIFIER', 'cfgpp': 'true'}, 'goes without sample.cfgpp'),
        ({'classifier': 'CLASSIFIER', 'grid': 'trailing'}, "sample.grid='trailing'"),
        ({'weights': '(1.0,)'}, 'sample.weights are of prompts'),
    ],
    ids=str,
)
def test_guides_that_cannot_be_are_one_line(random_run, classifier, values, message):
    places = {'RUN': random_run, 'CLASSIFIER': classifier[0]}
    asked = keys(**{k: places.get(v, v) for k, v in values.items()})
    with pytest.raises(ValueError, match=message) as error:
        sample.prepare(random_run, asked)
    assert '\n' not in str(error.value)


def test_guides_of_another_kind_are_refused(random_run, classifier, tmp_path):
    shutil.copytree(random_run, tmp_path / 'run')
    other = configs.load('digits', tiny.overrides(net__condition='', train__steps=1))
    train.run(train.prepare(other, str(tmp_path / 'other')))
    asked = keys(weaker=tmp_path / 'other', guidance=2)
    with pytest.raises(ValueError, match='conditioned on something else'):
        sample.prepare(random_run, asked)
    with pytest.raises(ValueError, match='holds one model'):
        export.prepare(random_run, str(tmp_path / 'a.stablehlo'), keys(classifier=classifier[0]))
    config = configs.load('digits', tiny.overrides(sample__weaker=random_run, sample__guidance=2))
    with pytest.raises(ValueError, match='sample.weaker is for jaxdiff sample'):
        train.prepare(config, str(tmp_path / 'new'))


TEXT = {
    'net__condition': 'text',
    'net__multipliers': '(1,)',
    'text__length': 12,
    'text__width': 8,
    'text__layers': 1,
    'text__heads': 2,
    'sample__steps': 3,
}


def test_prompts_weigh_as_much_as_they_are_said_to():
    """One of weight 1 is that prompt; weights of 0 are none; both prompts lead."""
    found = {}
    for weights, prompts in (
        ((1.0,), ['red']),
        ((1.0, 0.0), ['red', 'a cat']),
        ((1.0, 1.0), ['red', 'a cat']),
        ((), ['red']),
    ):
        config = configs.load('digits', tiny.overrides(**TEXT, sample__weights=weights))
        build.check(config)
        model = build.model(config, (8, 8, 1), 17, 10)
        params = jax.jit(functools.partial(build.init, model))(jax.random.key(0))
        draws = np.random.default_rng(0)
        params = jax.tree.map(
            lambda x: x + 0.1 * draws.standard_normal(x.shape, np.float32), params
        )
        each = [conditions.of_texts(model, [prompt] * 2) for prompt in prompts]
        cond = jax.tree.map(lambda *x: np.stack(x, 1), *each) if weights else each[0]
        random = jax.random.split(jax.random.key(0), 2)
        found[weights] = np.asarray(jax.jit(build.sampling(config, model))(params, cond, random))
        found[weights] = found[weights].astype(int)
    np.testing.assert_allclose(found[1.0,], found[()], atol=1)
    np.testing.assert_allclose(found[1.0, 0.0], found[()], atol=1)
    assert np.abs(found[1.0, 1.0] - found[()]).max() > 1
