import functools
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
import tiny
from etils import epath

from jaxdiff import build, config as configs
from jaxdiff.commands import train
from jaxdiff.data import prefetch
from jaxdiff.training import metrics, throughput
from jaxdiff.viz import grid


def start(workdir, **changes):
    config = configs.load('digits', tiny.overrides(**changes))
    return train.run(train.prepare(config, str(workdir)))


def params(workdir):
    return tiny.newest(workdir)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('runs') / 'whole'
    return workdir, start(workdir, optimizer__decay='constant')


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
            start(tmp_path / 'run', optimizer__decay='constant')
    start(tmp_path / 'run', optimizer__decay='constant')
    (step, whole), (again, resumed) = params(run[0]), params(tmp_path / 'run')
    assert step == again == 6
    for item in ('params', 'ema', 'optimizer'):
        jax.tree.map(np.testing.assert_array_equal, whole[item], resumed[item])
    records = [metrics.read(epath.Path(w)) for w in (run[0], tmp_path / 'run')]
    assert [(r['step'], r['loss']) for r in records[0]] == [
        (r['step'], r['loss']) for r in records[1]
    ]


@pytest.mark.parametrize('ahead', [1, 2])
def test_steps_ahead_of_the_host_change_nothing(run, tmp_path, monkeypatch, ahead):
    """As on accelerators; on CPUs it waits for each."""
    assert train.loop.ahead() == 0
    monkeypatch.setattr(train.loop, 'ahead', lambda: ahead)
    start(tmp_path / 'run', optimizer__decay='constant')
    for item in ('params', 'ema', 'optimizer'):
        jax.tree.map(
            np.testing.assert_array_equal,
            params(run[0])[1][item],
            params(tmp_path / 'run')[1][item],
        )


def test_a_finished_run_is_left_as_it_is(run):
    before = {p: p.stat().st_mtime for p in pathlib.Path(run[0], 'checkpoints').rglob('*')}
    assert start(run[0], optimizer__decay='constant') == run[1]
    assert before == {p: p.stat().st_mtime for p in pathlib.Path(run[0], 'checkpoints').rglob('*')}


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'net__channels': 16}, 'holds a run of another config .net.channels: 8 -> 16'),
        ({'seed': 1, 'ema__decay': 0.5}, 'ema.decay: 0.999 -> 0.5, seed: 0 -> 1'),
        ({'train__steps': 3}, 'stands at step 6 already'),
        ({'train__batch_size': 40}, 'another config .train.batch_size: 32 -> 40'),
        ({'net__multipliers': '(1, 2, 2, 2, 2)'}, 'another config|divisible by 16'),
    ],
)
def test_what_does_not_fit_the_folder_is_refused(run, changes, message):
    config = configs.load('digits', tiny.overrides(**({'optimizer__decay': 'constant'} | changes)))
    with pytest.raises(ValueError, match=message):
        train.prepare(config, str(run[0]))


def test_other_data_is_refused(run, monkeypatch):
    config = configs.loads((run[0] / 'config.json').read_text())
    config.data.split = 'train[:50%]'
    with pytest.raises(ValueError, match="data.split: 'train' -> 'train.:50%.'"):
        train.prepare(config, str(run[0]))
    config.data.split = 'train'
    other = build.dataset(config)._replace(fingerprint='of other examples')
    monkeypatch.setattr(build, 'dataset', lambda config: other)
    with pytest.raises(ValueError, match='was trained on other data'):
        train.prepare(config, str(run[0]))


def test_keys_that_decide_nothing_may_change_and_are_recorded(run, tmp_path):
    again = shutil.copytree(run[0], tmp_path / 'again')
    start(again, optimizer__decay='constant', train__steps=8, train__log_every=2)
    history = json.loads((again / 'manifest.json').read_text())['history']
    assert history[0]['step'] == 0 and history[-1]['step'] == 6
    assert history[-1]['changed'] == {'train.steps': [6, 8], 'train.log_every': [1, 2]}
    assert params(again)[0] == 8


def test_a_run_at_its_end_stays_as_who_trained_it_says(run, tmp_path, monkeypatch):
    again = shutil.copytree(run[0], tmp_path / 'again')
    before = (again / 'manifest.json').read_text()
    monkeypatch.setattr(train.manifest, 'commit', lambda: 'of later code')
    start(again, optimizer__decay='constant')
    assert (again / 'manifest.json').read_text() == before
    start(again, optimizer__decay='constant', sample__steps=3)
    last = json.loads((again / 'manifest.json').read_text())['history'][-1]
    assert last['commit'] == 'of later code' and [*last['changed']] == ['sample.steps']


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


@pytest.mark.parametrize('channels', [2, 5])
def test_images_that_no_picture_can_show_are_refused(tmp_path, channels):
    np.savez(tmp_path / 'mine.npz', image=np.zeros((40, 8, 8, channels), np.uint8))
    changes = {'data__name': '', 'data__path': tmp_path / 'mine.npz', 'net__condition': ''}
    with pytest.raises(ValueError, match=f'must have 1, 3 or 4 channels, they have {channels}'):
        train.prepare(configs.load('digits', tiny.overrides(**changes)), str(tmp_path / 'run'))


def test_a_colour_set_without_labels_trains(tmp_path):
    """An image of one colour, 40 times: the model of it must be unconditional."""
    np.savez(tmp_path / 'mine.npz', image=np.full((40, 8, 8, 3), (200, 30, 90), np.uint8))
    changes = {'data__name': '', 'data__path': tmp_path / 'mine.npz', 'net__condition': ''}
    picture = start(tmp_path / 'run', **changes, train__steps=2)
    assert picture.exists()


def test_training_tells_which_samples_are_not_finite(tmp_path, capsys):
    changes = {'sample__guidance': 1e30, 'sample__clip': False, 'train__sample_every': 3}
    picture = start(tmp_path / 'run', **changes)
    shown = grid.read_made(epath.Path(picture))
    num = shown['sample']['num']
    assert shown['not_finite'].startswith(f'{num} of {num}: 0, 1')
    assert capsys.readouterr().err.count('samples are not finite') == 2


def test_a_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(ValueError, match='file is a file'):
        train.prepare(configs.load('digits', tiny.overrides()), str(tmp_path / 'file' / 'run'))


def test_the_share_of_peak_counts_the_models_operations(monkeypatch):
    monkeypatch.setitem(throughput._PEAK, 'cpu', 1e12)
    meter = throughput.Meter(32, lambda: 1e6)
    meter.wait(dict)
    found = meter.read()
    share = 1e6 * found['steps_per_second'] / (1e12 * jax.device_count())
    assert found['flop_share_of_peak'] == pytest.approx(share)


def test_the_share_of_peak_is_left_out_where_operations_are_not_counted(monkeypatch):
    monkeypatch.setitem(throughput._PEAK, 'cpu', 1e12)
    meter = throughput.Meter(32, lambda: None)
    meter.wait(dict)
    assert 'flop_share_of_peak' not in meter.read()


def test_too_little_memory_is_told_in_one_line(tmp_path, monkeypatch):
    def run(*_, **__):
        raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory.\nAnd more.')

    monkeypatch.setattr(train.loop, 'run', run)
    with pytest.raises(MemoryError, match='^RESOURCE_EXHAUSTED: Out of memory: give [^\n]*$'):
        start(tmp_path / 'run')


SMALL = {'net.channels': '32', 'net.multipliers': '(1, 2)', 'net.blocks': '1'}
AT_THE_LAST = {'net.attention': '(14,)'}  # in full there is a third level, of 7
STAND_IN = {'codec.name': 'pixels'}  # of the latents' shape
# Parameters of the papers' networks, counted in the papers' code where they don't say, and what ours
# have more or less: see the configs.
PUBLISHED = {
    'cifar10': 35_746_307,
    'cifar10_ddpmpp': 61_804_419,
    'cifar10_ncsnpp': 62_758_787,
    'cifar10_edm': 55_732_739,
    'cifar10_vdm': 30_578_179 + 67 * 128 - 512,
    'imagenet64_edm': 295_899_267 + 768,
    'imagenet256_dit': 675_129_632 - 294_912,
}


@pytest.mark.parametrize(
    'name, shape, changes',
    [
        # Of two levels and few blocks; what they are in full is traced below.
        pytest.param('digits', (8, 8, 1), {}, marks=pytest.mark.slow),
        pytest.param('fashion_mnist', (28, 28, 1), SMALL | AT_THE_LAST, marks=pytest.mark.slow),
        ('cifar10', (32, 32, 3), SMALL),
        ('imagenet256_dit', (32, 32, 4), STAND_IN | {'net.depth': '2', 'net.width': '192'}),
    ],
    ids=lambda x: x if isinstance(x, str) else '',
)
def test_every_config_takes_one_real_step(name, shape, changes):
    """On stand-in images of the right shape, in a small batch; the other published ones are slow.

    And a few more, after which every part of the network has a way to the loss.
    """
    one_real_step(name, shape, changes)


@pytest.mark.slow
@pytest.mark.parametrize('name', PUBLISHED)
def test_a_published_config_takes_one_real_step_in_full(name):
    """The largest of them in 20 GiB."""
    shapes = {'imagenet64_edm': (64, 64, 3), 'imagenet256_dit': (32, 32, 4)}
    changes = STAND_IN if name == 'imagenet256_dit' else {}
    one_real_step(name, shapes.get(name, (32, 32, 3)), changes)


def one_real_step(name, shape, changes):
    soon = {'train.batch_size': '4', 'optimizer.warmup': '0', 'optimizer.weight_decay': '0.0'}
    config = configs.load(name, [*soon.items(), *changes.items()])
    classes = 1000 if name.startswith('imagenet') else 10
    model = build.model(config, shape, 256, classes)
    state = jax.jit(functools.partial(build.train_state, config, model))(jax.random.key(0))
    images = np.random.default_rng(0).integers(0, 256, (4, *shape), np.uint8)
    index = np.arange(4, dtype=np.int32)
    batch = {'image': images, 'label': index, 'index': index}
    before = jax.tree.map(np.array, state.params)
    step = build.train_step(config, model, jax.random.key(1), jax.devices())
    step = jax.jit(step, donate_argnums=0)
    state, numbers = step(state, batch)
    state, numbers = step(state, batch)
    loss, norm = numbers['loss'], numbers['grad_norm']
    expected = 10 if config.loss.name == 'variational' else 1  # bits, of a net that knows nothing
    assert loss == pytest.approx(expected, rel=0.4) and norm > 0
    for _ in range(5):  # layers that begin at zero let no gradient through to those before them
        state, _ = step(state, batch)
    moved = jax.tree.map(lambda a, b: float(abs(a - b).max()), state.params, before)
    still = [jax.tree_util.keystr(k) for k, x in jax.tree.leaves_with_path(moved) if x == 0]
    assert not still


@pytest.mark.parametrize(
    'name, shape, changes',
    [
        ('fashion_mnist', (28, 28, 1), {}),
        ('cifar10', (32, 32, 3), {}),
        ('imagenet256_dit', (32, 32, 4), STAND_IN),
    ],
    ids=lambda x: x if isinstance(x, str) else '',
)
def test_every_config_is_traced_in_full(name, shape, changes):
    config = configs.load(name, [*changes.items()])
    model = build.model(config, shape, 256, 1000 if name.startswith('imagenet') else 10)
    init = functools.partial(build.train_state, config, model)
    state = jax.eval_shape(init, jax.random.key(0))
    step = build.train_step(config, model, jax.random.key(1), jax.devices())
    after, _ = jax.eval_shape(step, state, build.batch_shapes(config, model, True))
    assert jax.tree.map(lambda x: x.shape, after) == jax.tree.map(lambda x: x.shape, state)


@pytest.mark.parametrize('name', PUBLISHED)
def test_a_published_config_has_the_parameters_of_its_paper(name):
    changes, shape = {
        'imagenet64_edm': ({}, (64, 64, 3)),
        'imagenet256_dit': (STAND_IN, (32, 32, 4)),
    }.get(name, ({}, (32, 32, 3)))
    config = configs.load(name, [*changes.items()])
    model = build.model(config, shape, 256, 1000 if config.net.condition else 0)
    params = jax.eval_shape(functools.partial(build.init, model), jax.random.key(0))
    net = params['net'] if model.schedule is None else params  # the schedule learns too
    assert sum(x.size for x in jax.tree.leaves(net)) == PUBLISHED[name]


@pytest.mark.parametrize('name, half', [('cifar10_edm', 0.5e6), ('imagenet64_edm', 50e6)])
def test_edm_trains_at_all_levels_that_it_samples_at_and_halves_its_average_as_published(
    name, half
):
    config = configs.load(name, [])
    sampled = config.sample.sigma_min / config.diffusion.sigma_max  # the schedule's time
    assert config.loss.t_min < sampled
    assert config.ema.decay ** (half / config.train.batch_size) == pytest.approx(0.5, rel=0.01)
    assert config.optimizer.warmup * config.train.batch_size == pytest.approx(10e6, rel=1e-3)
