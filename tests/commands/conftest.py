"""What the tests of the commands share."""

import functools

import jax
import numpy as np
import pytest
import tiny
from etils import epath

from jaxdiff import build, config as configs, manifest
from jaxdiff.training import checkpoint


@pytest.fixture(scope='session')
def random_run(tmp_path_factory):
    """A run of parameters drawn at random: its samples depend on each input of the network."""
    config = configs.load('digits', tiny.overrides())
    dataset = build.dataset(config)
    model = build.model(config, dataset.shape, dataset.levels, len(dataset.class_names))
    like = jax.eval_shape(functools.partial(build.init, model), jax.random.key(0))
    draws = np.random.default_rng(0)
    params = jax.tree.map(lambda x: draws.normal(0, 0.3, x.shape).astype(x.dtype), like)
    path = epath.Path(tmp_path_factory.mktemp('run'))
    writer = checkpoint.Writer(path, keep=2)
    for step in (3, 6):
        items = {
            'params': params,
            'ema': jax.tree.map(lambda x, s=step: x * (1 - 0.01 * s), params),
        }
        writer.save(step, items, manifest.manifest(config, dataset), loss=1.0)
        writer.check(wait=True)
    writer.close()
    (path / 'config.json').write_text(configs.dumps(config))
    return str(path)
