"""One run is the same run on any devices, by either driver."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jaxdiff import build, config as configs, data
from jaxdiff.training import parallel, state as states

STEPS = 60


def train(driver, devices, fsdp=1, steps=STEPS, **changes):
    """(first state, last state, losses) of a run with dropout and accumulation, as NumPy trees."""
    changes = {
        'net__dropout': 0.1,
        'train__accumulate': 2,
        'train__parallel': driver,
        'train__fsdp': fsdp,
        'ema__profiles': (0.1,),
    } | changes
    config = configs.load('digits', tiny.overrides(**changes))
    build.check(config)
    dataset = build.dataset(config)
    model = build.model(config, dataset.shape, dataset.levels, len(dataset.class_names))
    step = build.train_step(config, model, jax.random.key(1), jax.devices())
    made = build.driver(config, step, jax.devices()[:devices])
    batches = data.batches(dataset, config.train.batch_size, config.seed)
    params = build.init(model, jax.random.key(0))
    state = states.init(params, build.optimizer(config), len(config.ema.profiles))
    first = jax.tree.map(np.array, state)
    state = made.put_state(jax.device_put(state, parallel.shardings(made.layout(state))))
    losses = []
    for i in range(steps):
        state, metrics = made.step(state, made.put_batch(batches[i]))
        losses.append(float(made.get(metrics)['loss']))
    return first, jax.device_get(made.get(state)), losses


def norm(tree):
    """Of all real numbers of a state: parameters, averages, the optimiser's moments."""
    leaves = (
        np.asarray(x, np.float64)
        for x in jax.tree.leaves(tree)
        if jnp.issubdtype(x.dtype, jnp.floating)
    )
    return np.sqrt(sum(np.sum(x**2) for x in leaves))


def assert_the_same_run(one, other, tolerance):
    first, last, _ = one
    travelled = norm(jax.tree.map(np.subtract, last, first))
    apart = norm(jax.tree.map(np.subtract, other[1], last))
    print(f'apart / travelled: {apart / travelled:.1e}')
    assert travelled > 1 and apart <= tolerance * travelled
    assert other[1].step == last.step == STEPS and other[1].health.skipped == 0


@pytest.fixture(scope='module')
def alone():
    return train('pmap', 1)


BETWEEN_ANY_TWO = 1e-4  # of the distance travelled; each is compared with one alone

TOPOLOGIES = [
    pytest.param('pmap', 2, 1, marks=pytest.mark.slow),
    pytest.param('pmap', 4, 1, marks=pytest.mark.slow),
    pytest.param('pmap', 8, 1, marks=pytest.mark.slow),
    pytest.param('mesh', 8, 8, marks=pytest.mark.slow),
    pytest.param('mesh', 8, 4),
    pytest.param('mesh', 8, 1, marks=pytest.mark.slow),
    pytest.param('mesh', 1, 1, marks=pytest.mark.slow),
]


@pytest.mark.parametrize('driver, devices, fsdp', TOPOLOGIES)
def test_all_end_at_the_same_state(alone, driver, devices, fsdp):
    """The mesh is devices / fsdp x fsdp."""
    assert_the_same_run(alone, train(driver, devices, fsdp), BETWEEN_ANY_TWO / 2)
    assert np.ptp(alone[2]) > 0.1  # it learns: the agreement isn't one of constants


@pytest.fixture(scope='module')
def alone_in_double():
    with jax.enable_x64(True):
        return train('pmap', 1, net__dtype='float64')


@pytest.mark.slow
@pytest.mark.parametrize('driver, devices, fsdp', [p.values for p in TOPOLOGIES])
def test_in_double_precision_all_agree_to_rounding(alone_in_double, x64, driver, devices, fsdp):
    other = train(driver, devices, fsdp, net__dtype='float64')
    assert_the_same_run(alone_in_double, other, 1e-10)


@pytest.mark.slow
def test_remat_changes_nothing(alone):
    assert_the_same_run(alone, train('mesh', 2, 2, net__remat=True), 1e-4)


def test_each_device_keeps_its_share():
    """Of the bytes that are sharded at most an eighth and 10 % on each of eight devices."""
    config = configs.load('digits', [('train.parallel', 'mesh'), ('train.fsdp', '8')])
    dataset = build.dataset(config)
    model = build.model(config, dataset.shape, dataset.levels, len(dataset.class_names))
    optimizer = build.optimizer(config)
    driver = build.driver(config, lambda *args: None, jax.devices())
    shapes = jax.eval_shape(
        lambda key: states.init(build.init(model, key), optimizer), jax.random.key(0)
    )
    placed = driver.layout(shapes)
    zeros = jax.tree.map(lambda x: jax.device_put(np.zeros(x.shape, x.dtype), x.sharding), placed)
    total = sum(x.nbytes for x in jax.tree.leaves(zeros))
    for device in jax.devices():
        held = sum(
            shard.data.nbytes
            for x in jax.tree.leaves(zeros)
            for shard in x.addressable_shards
            if shard.device == device
        )
        assert held <= total / 8 * 1.1


def test_small_arrays_and_those_that_nothing_divides_stand_everywhere():
    grid = parallel.mesh_of(jax.devices(), 8)
    assert parallel.sharding((3, 3, 64, 128), grid).spec == jax.P(None, None, None, 'fsdp')
    assert parallel.sharding((512, 9), grid).spec == jax.P('fsdp')
    for shape in ((), (8,), (8, 8), (1001, 33)):
        assert parallel.sharding(shape, grid).is_fully_replicated
