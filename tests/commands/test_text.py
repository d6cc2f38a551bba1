"""From captions to samples by prompt, as a user does it."""

import json
import shlex
import shutil

import numpy as np
import pytest
import tiny
from etils import epath
from PIL import Image

from jaxdiff import arguments, build, config as configs
from jaxdiff.commands import export, noise, sample, show, train
from jaxdiff.viz import grid

COLOURS = {'black': 0, 'grey': 128, 'white': 255}
TEXT = {
    'data__name': '',
    'net__condition': 'text',
    'net__multipliers': '(1,)',
    'text__length': 24,
    'text__width': 16,
    'text__layers': 1,
    'sample__num': 6,
    'sample__guidance': 2,
}


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    """A folder of squares of one grey value, each with a caption that names it."""
    folder = tmp_path_factory.mktemp('squares')
    lines = []
    for i in range(24):
        name = list(COLOURS)[i % 3]
        Image.fromarray(np.full((8, 8), COLOURS[name], np.uint8)).save(folder / f'{i}.png')
        lines.append(json.dumps({'file_name': f'{i}.png', 'text': f'a {name} square'}))
    (folder / 'metadata.jsonl').write_text('\n'.join(lines) + '\n')
    return folder


def trained(pictures, workdir, **changes):
    changes = {'data__path': pictures} | TEXT | changes
    config = configs.load('digits', tiny.overrides(**changes))
    picture = train.run(train.prepare(config, str(workdir)))
    return workdir, picture


@pytest.fixture(scope='module')
def run(pictures, tmp_path_factory):
    workdir = tmp_path_factory.mktemp('text') / 'run'
    return str(trained(pictures, workdir)[0])


def drawn(run, out, **options):
    job = sample.prepare(run, [], out=str(out), **options)
    sample.run(job)
    return np.load(f'{out}.npz')


def test_prompts_are_drawn_in_turn_and_told(run, tmp_path):
    prompts = ['a black square', 'a white square']
    found = drawn(run, tmp_path / 'a', prompts=prompts, negative='a grey square')
    assert found['prompts'].tolist() == prompts * 3
    made = grid.read_made(epath.Path(tmp_path / 'a.png'))
    assert made['prompts'] == prompts and made['negative'] == 'a grey square'
    other = drawn(run, tmp_path / 'b', prompts=prompts)
    assert np.any(other['samples'] != found['samples'])
    names = [sample.prepare(run, [], prompts=p).out.name for p in (prompts, prompts[:1], None)]
    assert len(set(names)) == 3


def test_a_sample_is_of_its_own_prompt(run, tmp_path):
    """Whatever the others are."""
    both = drawn(run, tmp_path / 'a', prompts=['a black square', 'a white square'])['samples']
    one = drawn(run, tmp_path / 'b', prompts=['a black square'])['samples']
    np.testing.assert_allclose(both[::2].astype(int), one[::2], atol=1)
    assert np.any(both[1::2] != one[1::2])


def test_prompts_with_weights_are_all_in_each_sample(run, tmp_path):
    prompts, weights = ['a black square', 'a white square'], [('sample.weights', '(1.0, -0.5)')]
    job = sample.prepare(run, weights, prompts=prompts, out=str(tmp_path / 'a'))
    sample.run(job)
    found = np.load(tmp_path / 'a.npz')
    assert found['prompts'].tolist() == ['1 a black square + -0.5 a white square'] * 6
    made = grid.read_made(epath.Path(tmp_path / 'a.png'))
    assert made['sample']['weights'] == [1.0, -0.5] and made['prompts'] == prompts
    names = [
        sample.prepare(run, [('sample.weights', w)], prompts=prompts).out.name
        for w in ('(1.0, -0.5)', '(1.0, 0.5)', '()')
    ]
    assert len(set(names)) == 3
    for given in (prompts[:1], None):
        with pytest.raises(ValueError, match='are one for each of as many prompts'):
            sample.prepare(run, weights, prompts=given)


@pytest.mark.parametrize(
    'options, message',
    [
        ({'prompts': ['red', ' ']}, 'text 2 of 2 is empty'),
        ({'prompts': ['']}, '--prompt is empty'),
        ({'prompts': ['x' * 30]}, 'has 32 tokens, and the context holds 24'),
        ({'negative': ''}, 'text 1 of 1 is empty'),
        ({'labels': ['1']}, '--label: this model is'),
    ],
)
def test_a_prompt_that_cannot_be_is_one_line(run, options, message):
    with pytest.raises(ValueError, match=message) as refused:
        sample.prepare(run, [], **options)
    assert '\n' not in str(refused.value)


def test_another_tokenizer_than_in_training_is_refused(run, monkeypatch):
    """Such as one whose file has changed."""
    real = build.model.__globals__['text_encoder']

    def other(config):
        return real(config)._replace(digest='another')

    monkeypatch.setitem(build.model.__globals__, 'text_encoder', other)
    with pytest.raises(ValueError, match='another one than the run was trained with .*now another'):
        sample.prepare(run, [])


def test_a_model_without_text_takes_no_prompt(random_run):
    with pytest.raises(ValueError, match='--prompt: this model knows no text'):
        sample.prepare(random_run, [], prompts=['red'])
    with pytest.raises(ValueError, match='--negative: this model knows no text'):
        sample.prepare(random_run, [], negative='red')


def test_captions_that_are_too_long_are_cut_and_prompts_refused_before_work_starts(
    pictures, tmp_path
):
    assert trained(pictures, tmp_path / 'run', text__length=6, train__steps=1)[1].exists()
    changes = {'data__path': pictures} | TEXT | {'sample__prompts': ('x' * 30,)}
    with pytest.raises(ValueError, match='has 32 tokens, and the context holds 24'):
        train.prepare(configs.load('digits', tiny.overrides(**changes)), str(tmp_path / 'new'))
    without = tiny.overrides(sample__prompts=('red',))
    with pytest.raises(ValueError, match='this model knows no text'):
        train.prepare(configs.load('digits', without), str(tmp_path / 'new'))


def test_data_without_captions_cannot_train_it(tmp_path):
    config = configs.load('digits', tiny.overrides(**TEXT | {'data__name': 'digits'}))
    with pytest.raises(ValueError, match="net.condition='text', but digits has no captions"):
        train.prepare(config, str(tmp_path / 'run'))


def test_a_sampler_with_text_is_not_exported(run, tmp_path):
    with pytest.raises(ValueError, match='a text goes through a tokenizer'):
        export.prepare(run, str(tmp_path / 'a.stablehlo'))
    assert export.run(export.prepare(run, str(tmp_path / 'a.safetensors')))


def test_both_ways_are_shown(run, pictures, tmp_path):
    config = configs.load('digits', tiny.overrides(**{'data__path': pictures} | TEXT))
    assert noise.run(noise.prepare(config, run, str(tmp_path / 'n'), 2, 0, False))


@pytest.mark.slow
def test_what_is_asked_for_is_drawn(pictures, tmp_path):
    """After some hundred steps a square's value is that of its prompt."""
    changes = {'train__steps': 300, 'train__log_every': 50, 'train__checkpoint_every': 300}
    changes |= {'optimizer__warmup': 10, 'sample__steps': 10, 'sample__guidance': 1}
    run, _ = trained(pictures, tmp_path / 'run', **changes)
    found = drawn(str(run), tmp_path / 'a', prompts=[f'a {name} square' for name in COLOURS])
    means = found['samples'].reshape(2, 3, -1).mean((0, 2))
    np.testing.assert_allclose(means, list(COLOURS.values()), atol=40)


def test_prompts_are_left_out_of_what_is_written_where_that_is_asked(run, tmp_path):
    words = {'prompts': ['a black square'], 'negative': 'a white square'}
    job = sample.prepare(run, [], words=False, film=True, out=str(tmp_path / 'a'), **words)
    files = sample.run(job)
    assert len(files) == 4 and 'black' not in sample.prepare(run, [], words=False, **words).out.name
    for file in files:
        content = file.read_bytes()
        if file.suffix == '.npz':
            with np.load(file) as arrays:
                content = b''.join(str(arrays[name]).encode() for name in arrays)
        assert b'black' not in content and b'white' not in content
    made = show.read(str(tmp_path / 'a.png'))
    assert 'left out on request' in show.text('a.png', made)
    assert show.command(made).count('…') == 2
    with_words = np.array(drawn(run, tmp_path / 'b', **words)['samples'])
    np.testing.assert_array_equal(np.load(tmp_path / 'a.npz')['samples'], with_words)


def test_prompts_that_a_config_says_are_left_out_too(run, tmp_path):
    """Also where the run is its own weaker guide; and names tell prompts apart all the same."""
    copy = tmp_path / 'run'
    shutil.copytree(run, copy)
    config = configs.loads((copy / 'config.json').read_text())
    config.sample.prompts = ('a black square',)
    (copy / 'config.json').write_text(configs.dumps(config))
    for words in (True, False):
        job = sample.prepare(str(copy), [('sample.weaker', str(copy))], words=words)
        assert ('a black square' in json.dumps(job.made)) == words
    changed = [('sample.sampler', 'heun'), ('sample.variable', 't')]
    names = {sample.prepare(run, changed, prompts=[f'a {x} square']).out.name for x in COLOURS}
    assert len(names) == len(COLOURS)


def test_a_training_grid_says_how_to_draw_it_alone(run, tmp_path):
    """Here of captions; and the curves beside it say what run they are of."""
    path = f'{run}/samples/step_00000006.png'
    made = show.read(path)
    (line,) = (x for x in show.text(path, made).splitlines() if x.startswith('alone'))
    given = arguments.parse(shlex.split(line)[2:])
    assert given.prompt and given.step == 6 and given.workdir == run and not given.overrides
    drawn(run, tmp_path / 'a', prompts=given.prompt, seed=given.seed, step=6)
    grids = [np.asarray(Image.open(each)) for each in (path, tmp_path / 'a.png')]
    np.testing.assert_array_equal(*grids)
    curves = show.read(f'{run}/loss.png')
    assert 'curves of a training run' in show.text('loss.png', curves)
    assert show.command(curves) == show.command(made)
