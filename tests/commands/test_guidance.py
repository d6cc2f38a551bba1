"""Guidance by other runs, a weaker one and a classifier, from the command line."""

import jax
import numpy as np
import pytest
import tiny
from etils import epath
from PIL import Image

from jaxdiff import build, config as configs
from jaxdiff.commands import export, sample, show, train
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


def test_a_classifier_learns_and_its_picture_says_how_well(classifier):
    workdir, picture = classifier
    accuracy = grid.read_made(epath.Path(picture))['accuracy']
    assert accuracy['clean'] > 0.3 and accuracy['clean'] > accuracy['t=0.75']
    assert Image.open(picture).width > 10 * 48
    with pytest.raises(ValueError, match="model='classifier', which has no samples of its own"):
        sample.prepare(workdir, [])
    config = configs.load('digits', tiny.overrides(model='classifier', classifier__channels=8))
    assert build.flops(config, build.model(config, (8, 8, 1), 17, 10)) > 1e6


def test_both_lead_in_one_program_of_which_neither_is_a_constant(random_run, classifier, tmp_path):
    """And the file says who led, and the command that makes it again."""
    asked = keys(steps=2, num=2, weaker=random_run, weaker_step=3, guidance=2)
    asked += keys(guidance_rescale=0.5, guidance_to=0.2, classifier=classifier[0])
    job = sample.prepare(random_run, asked, labels=['3'], out=str(tmp_path / 'a'))
    assert set(job.params) == {'net', 'weaker', 'classifier'}
    sample.run(job)
    found = np.load(tmp_path / 'a.npz')
    assert found['samples'].shape == (2, 8, 8, 1) and found['labels'].tolist() == [3, 3]
    made = grid.read_made(epath.Path(tmp_path / 'a.png'))
    guides = made['guides']
    assert guides['weaker']['step'] == 3 and guides['weaker']['run']['config']
    assert guides['classifier']['workdir'] == classifier[0]
    command = show.command(made)
    assert '--config.sample.weaker_step=3' in command
    assert '--config.sample.classifier_step=60' in command  # whatever is the newest by then

    pure = build.sampling(job.config, job.model, **job.guides.models())
    random = jax.random.split(jax.random.key(0), 2)
    given = {'class': np.zeros(2, np.int32)}
    program = jax.make_jaxpr(pure)(job.params, job.cond, random, None, given)
    assert max((np.size(c) for c in program.consts), default=0) < 100


def test_other_guides_are_other_files(random_run, classifier):
    weaker = {'weaker': random_run, 'guidance': 2}
    asked = [
        {},
        {'guidance': 2},
        weaker,
        weaker | {'weaker_step': 3},
        {'classifier': classifier[0]},
        {'classifier': classifier[0], 'classifier_scale': 2},
    ]
    names = [sample.prepare(random_run, keys(**each)).out.name for each in asked]
    assert len(set(names)) == len(names) and not any('/' in name for name in names)


@pytest.mark.parametrize(
    'values, message',
    [
        ({'weaker': '/nowhere', 'guidance': 2}, 'no training run in /nowhere'),
        ({'weaker': 'RUN'}, 'needs sample.guidance other than 1'),
        ({'weaker': 'RUN', 'guidance': 2, 'weaker_step': 4}, 'no checkpoint of step 4'),
        ({'weaker': 'CLASSIFIER', 'guidance': 2}, 'it must be diffusion'),
        ({'classifier': 'RUN'}, 'it must be classifier'),
        ({'weaker_step': 3}, 'is of sample.weaker'),
        ({'classifier_scale': 3}, 'are of sample.classifier, which is not given'),
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


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'net__condition': ''}, 'is conditioned on something else'),
        ({'diffusion__schedule': 'flow'}, "diffusion.schedule='flow', this run has 'cosine'"),
        ({'diffusion__prediction': 'eps'}, "'eps' says nothing about x0 at t=1"),
        ({'data__split': 'test'}, 'was trained on other data'),
        ({'data__image_size': 16}, 'was trained on other data'),
        ({'codec__dequantize': True}, 'has another codec.dequantize'),
    ],
)
def test_a_weaker_run_of_another_kind_is_refused(random_run, tmp_path, changes, message):
    other = tiny.random_run(tmp_path, configs.load('digits', tiny.overrides(**changes)), (1,))
    with pytest.raises(ValueError, match=message) as error:
        sample.prepare(random_run, keys(weaker=other, guidance=2))
    assert '\n' not in str(error.value)


def test_a_classifier_of_other_noise_is_refused(random_run, tmp_path):
    changes = {'model': 'classifier', 'classifier__channels': 8, 'diffusion__schedule': 'flow'}
    other = tiny.random_run(tmp_path, configs.load('digits', tiny.overrides(**changes)), (1,))
    with pytest.raises(ValueError, match="diffusion.schedule='flow', this run has 'cosine'"):
        sample.prepare(random_run, keys(classifier=other))


def test_what_holds_one_model_takes_no_guides(random_run, classifier, tmp_path):
    with pytest.raises(ValueError, match='holds one model'):
        export.prepare(random_run, str(tmp_path / 'a.stablehlo'), keys(classifier=classifier[0]))
    config = configs.load('digits', tiny.overrides(sample__weaker=random_run, sample__guidance=2))
    with pytest.raises(ValueError, match='sample.weaker is for jaxdiff sample'):
        train.prepare(config, str(tmp_path / 'new'))
