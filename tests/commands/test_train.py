import json
import pathlib

import jax
import numpy as np
import pytest
import tiny
from etils import epath

from jaxdiff import build, config as configs
from jaxdiff.commands import train
from jaxdiff.data import prefetch
from jaxdiff.training import checkpoint, metrics
from jaxdiff.viz import grid


def start(workdir, **changes):
    config = configs.load('digits', tiny.overrides(**changes))
    return train.run(train.prepare(config, str(workdir)))


def params(workdir):
    checkpoints = checkpoint.manager(epath.Path(workdir))
    step = checkpoint.choose(checkpoints, None)
    return step, checkpoints.restore(step)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('runs') / 'whole'
    return workdir, start(workdir)


def test_what_stands_in_the_folder(run):
    workdir, picture = run
    assert [r['step'] for r in metrics.read(epath.Path(workdir))] == [1, 2, 3, 4, 5, 6]
    record = metrics.read(epath.Path(workdir))[-1]
    assert {'loss', 'grad_norm', 'steps_per_second', 'data_wait_share'} <= set(record)
    assert configs.loads((workdir / 'config.json').read_text()).train.steps == 6
    manifest = json.loads((workdir / 'manifest.json').read_text())
    assert manifest['data']['fingerprint'] and manifest['versions']['jax'] == jax.__version__
    assert manifest['devices']['count'] == 8
    step, items = params(workdir)
    assert step == 6 and items['made']['config'] == manifest['config']
    assert grid.read_made(epath.Path(picture))['step'] == 6
    assert (workdir / 'loss.png').exists()


def test_interrupted_and_resumed_it_ends_bit_for_bit_the_same(run, tmp_path, monkeypatch):
    def stop_after_5(stream, put):
        for i, batch in enumerate(prefetch(stream, put)):
            if i == 5:
                raise RuntimeError('stopped')
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(train.loop, 'prefetch', stop_after_5)
        with pytest.raises(RuntimeError, match='stopped'):
            start(tmp_path / 'run')
    start(tmp_path / 'run')
    (step, whole), (again, resumed) = params(run[0]), params(tmp_path / 'run')
    assert step == again == 6
    for item in ('params', 'ema', 'optimizer'):
        jax.tree.map(np.testing.assert_array_equal, whole[item], resumed[item])
    records = [metrics.read(epath.Path(w)) for w in (run[0], tmp_path / 'run')]
    assert [(r['step'], r['loss']) for r in records[0]] == [
        (r['step'], r['loss']) for r in records[1]
    ]


def test_a_finished_run_is_left_as_it_is(run):
    before = {p: p.stat().st_mtime for p in pathlib.Path(run[0], 'checkpoints').rglob('*')}
    assert start(run[0]) == run[1]
    assert before == {p: p.stat().st_mtime for p in pathlib.Path(run[0], 'checkpoints').rglob('*')}


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'net__channels': 16}, 'holds a run of another config .net.channels: 8 -> 16'),
        ({'seed': 1, 'ema__decay': 0.5}, 'seed: 0 -> 1, ema.decay: 0.999 -> 0.5'),
        ({'train__steps': 3}, 'stands at step 6 already'),
        ({'train__batch_size': 28}, 'train.batch_size=28 must be a multiple of 8 devices'),
        ({'net__multipliers': '(1, 2, 2, 2, 2)'}, 'another config|divisible by 16'),
    ],
)
def test_what_does_not_fit_the_folder_is_refused(run, changes, message):
    config = configs.load('digits', tiny.overrides(**({'optimizer__decay': 'constant'} | changes)))
    old = configs.load('digits', tiny.overrides(optimizer__decay='constant'))
    (run[0] / 'config.json').write_text(configs.dumps(old))
    with pytest.raises(ValueError, match=message):
        train.prepare(config, str(run[0]))


def test_other_data_is_refused(run):
    path = run[0] / 'manifest.json'
    text = path.read_text()
    fingerprint = json.loads(text)['data']['fingerprint']
    path.write_text(text.replace(fingerprint, 'something else'))
    with pytest.raises(ValueError, match='was trained on other data'):
        train.prepare(configs.loads((run[0] / 'config.json').read_text()), str(run[0]))
    path.write_text(text)


def test_keys_that_decide_nothing_may_change_and_are_recorded(tmp_path):
    start(tmp_path, optimizer__decay='constant', train__steps=2)
    start(tmp_path, optimizer__decay='constant', train__steps=4, train__log_every=2)
    history = json.loads((tmp_path / 'manifest.json').read_text())['history']
    assert history[1]['changed'] == {'train.steps': [2, 4], 'train.log_every': [1, 2]}
    assert params(tmp_path)[0] == 4


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'net__multipliers': '(1, 2, 2, 2, 2)'}, 'divisible by 16, got .8, 8.'),
        ({'data__name': '', 'data__path': '/nowhere'}, '/nowhere does not exist'),
        ({'train__batch_size': 12}, 'multiple of 8 devices'),
    ],
)
def test_a_run_that_cannot_be_writes_nothing(tmp_path, changes, message):
    config = configs.load('digits', tiny.overrides(**changes))
    with pytest.raises((ValueError, OSError), match=message):
        train.prepare(config, str(tmp_path / 'run'))
    assert not (tmp_path / 'run').exists()


def test_labels_are_needed_to_condition_on(tmp_path):
    np.savez(tmp_path / 'mine.npz', image=np.zeros((40, 8, 8, 1), np.uint8))
    config = configs.load('digits', tiny.overrides(data__name='', data__path=tmp_path / 'mine.npz'))
    with pytest.raises(ValueError, match="the data has no labels; set net.condition=''"):
        train.prepare(config, str(tmp_path / 'run'))


def test_cifar10_is_ddpms_network():
    model = build.model(configs.load('cifar10'), (32, 32, 3), 256, 10)
    shapes = jax.eval_shape(lambda key: build.init(model, key), jax.random.key(0))
    assert sum(x.size for x in jax.tree.leaves(shapes)) == 35_746_307
