import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jaxdiff import build, config as configs
from jaxdiff.build import names
from jaxdiff.commands import export, run as runs, sample
from jaxdiff.interop import safetensors, stablehlo


@pytest.mark.parametrize('options', [{}, {'ema': False}, {'step': 3}])
def test_the_parameters_are_the_checkpoints(random_run, tmp_path, options):
    job = export.prepare(random_run, str(tmp_path / 'model.safetensors'), **options)
    assert not list(tmp_path.iterdir())
    assert export.run(job) == [tmp_path / 'model.safetensors'] == list(tmp_path.iterdir())
    found, metadata = safetensors.load(tmp_path / 'model.safetensors', like=job.params)
    wanted = runs.parameters(runs.find(random_run, **options))
    jax.tree.map(np.testing.assert_array_equal, found, wanted)
    made = json.loads(metadata['made'])
    assert made['step'] == options.get('step', 6)
    assert made['parameters'] == ('ema' if options.get('ema', True) else 'params')
    assert made['run']['config']['net']['channels'] == 8 and made['versions']['jax']


FRESH = """
import importlib, json, sys
for name in ('jaxdiff', 'flax', 'optax', 'orbax', 'ml_collections', 'etils'):
    sys.modules[name] = None
    try:
        importlib.import_module(name)
    except ImportError:
        continue
    raise SystemExit(name + ' can be imported')
about = json.load(open('sampler.json'))
assert len(about['example']) == 6
exec('\\n'.join(about['example']))
keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(7), np.arange(3))
np.save('three.npy', draw(jax.random.key_data(keys), np.array([4, 4, 0], np.int32)))
"""


def drawn(job, labels, seed):
    """The samples of labels by the run's own sampler on one device, as one batch."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), np.arange(len(labels)))
    cond = {'label': np.asarray(labels, np.int32)}
    images, _ = sample.sampler(job.config, job.model)(job.params, cond, keys)
    return np.asarray(images)


def test_a_sampler_runs_in_a_process_without_jaxdiff_or_flax(random_run, tmp_path):
    """With any batch size; the same numbers, bit for bit, as here, and as `jaxdiff sample` gives."""
    overrides = [('sample.steps', '3'), ('sample.guidance', '2'), ('sample.eta', '0.5')]
    job = export.prepare(random_run, str(tmp_path / 'sampler.stablehlo'), overrides)
    assert not list(tmp_path.iterdir())
    assert [p.name for p in export.run(job)] == ['sampler.stablehlo', 'sampler.json']
    done = subprocess.run(
        [sys.executable, '-c', FRESH], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    sixteen = np.load(tmp_path / 'samples.npy')
    assert sixteen.shape == (16, 8, 8, 1) and sixteen.dtype == np.uint8 and sixteen.std() > 20
    np.testing.assert_array_equal(sixteen, drawn(job, np.arange(16) % 10, seed=0))
    np.testing.assert_array_equal(np.load(tmp_path / 'three.npy'), drawn(job, [4, 4, 0], seed=7))
    overrides += [('sample.num', '16'), ('sample.batch_size', '16')]
    sample.run(sample.prepare(random_run, overrides, out=str(tmp_path / 'own')))
    own = np.load(tmp_path / 'own.npz')['samples'].astype(int)
    assert np.abs(own - sixteen).max() <= 1  # its batch is split over the devices: other rounding
    about = json.loads((tmp_path / 'sampler.json').read_text())
    assert [x['shape'] for x in about['inputs']] == [['b', 2], ['b']]
    assert about['outputs'][0]['shape'] == ['b', 8, 8, 1]
    assert about['platforms'] == ['cpu', 'cuda', 'tpu']
    assert about['made']['step'] == 6 and about['made']['sample']['guidance'] == 2


class Net:
    """A network of one number, since what is asked is how a sampler is exported."""

    def apply(self, params, x, level, cond, dropout_keys=None):
        label = cond['label'].reshape(-1, 1, 1, 1) if cond else 0
        return params['scale'] * jnp.tanh(x + label) / (1 + level)[..., None, None, None]


def sampler(**changes):
    """(draw, model, params) of a config with the network in a number's place."""
    config = configs.load('digits', tiny.overrides(**changes))
    build.check(config)
    model = build.model(config, (8, 8, 1), 17, 10)._replace(net=Net())
    return build.sampling(config, model), model, {'scale': jnp.float32(0.7)}


@pytest.mark.parametrize('name', names.SAMPLERS)
def test_every_sampler_has_any_batch_size(name):
    draw, model, params = sampler(sample__sampler=name, sample__langevin_steps=2)
    call = jax.export.deserialize(bytearray(stablehlo.serialize(draw, params, True))).call
    keys, label = jax.random.split(jax.random.key(0), 3), jnp.arange(3)
    found = call(jax.random.key_data(keys), label)
    np.testing.assert_array_equal(found, jax.jit(draw)(params, {'label': label}, keys))


def test_a_model_without_classes_takes_keys_alone():
    draw, model, params = sampler(net__condition='')
    exported = jax.export.deserialize(bytearray(stablehlo.serialize(draw, params, False, ['tpu'])))
    assert [(a.dtype, str(a.shape)) for a in exported.in_avals] == [(jnp.uint32, '(b, 2)')]
    assert exported.platforms == ('tpu',)
    assert not any('label' in line or '%' in line for line in stablehlo.example('a'))


@pytest.mark.parametrize(
    'out, options, message',
    [
        ('a.onnx', {}, r'--out must end in .safetensors \(parameters\) or .stablehlo'),
        ('a.stablehlo', {'step': 5}, 'no checkpoint of step 5'),
        ('a.stablehlo', {'platforms': ['gpu']}, '--platforms must be some of cpu, cuda, tpu, rocm'),
        ('a.stablehlo', {'platforms': ['cpu', 'cpu']}, 'each once, got cpu cpu'),
        ('a.stablehlo', {'platforms': []}, '--platforms must be some of'),
        ('a.stablehlo', {'overrides': [('sample.eta', '2')]}, 'sample.eta must be between 0 and 1'),
        ('a.safetensors', {'overrides': [('sample.steps', '2')]}, 'are for a sampler'),
        ('a.safetensors', {'platforms': ['cpu']}, 'are for a sampler'),
    ],
)
def test_bad_requests_are_refused(random_run, tmp_path, out, options, message):
    with pytest.raises(ValueError, match=message):
        export.prepare(random_run, str(tmp_path / out), **options)
    assert not list(tmp_path.iterdir())


def test_no_run_and_too_large_a_sampler_are_refused(random_run, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match='no training run in'):
        export.prepare(str(tmp_path), str(tmp_path / 'a.safetensors'))
    monkeypatch.setattr(stablehlo, 'LARGEST', 1000)
    with pytest.raises(ValueError, match='at most 1,000 bytes .*export them as .safetensors'):
        export.prepare(random_run, str(tmp_path / 'a.stablehlo'))
    export.prepare(random_run, str(tmp_path / 'a.safetensors'))


@pytest.mark.parametrize('there', ['a.safetensors', 'a.stablehlo', 'a.json'])
def test_existing_files_are_not_replaced_silently(random_run, tmp_path, there):
    (tmp_path / there).write_text('mine')
    out = str(tmp_path / there.replace('json', 'stablehlo'))
    with pytest.raises(ValueError, match='exists: give another --out, or --overwrite'):
        export.prepare(random_run, out)
    assert (tmp_path / there).read_text() == 'mine'
    if there == 'a.safetensors':
        export.run(export.prepare(random_run, out, overwrite=True))
        assert (tmp_path / there).stat().st_size > 10_000
