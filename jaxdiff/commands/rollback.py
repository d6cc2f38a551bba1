"""What follows on steps without finite numbers: another order of the data, or an explanation."""

import grain
import jax
import numpy as np
from ml_collections import ConfigDict

from jaxdiff import build, data
from jaxdiff.data import order
from jaxdiff.training import health, parallel
from jaxdiff.training.state import TrainState
from jaxdiff.training.step import step_key


def another_order(state: TrainState, rollbacks: int) -> TrainState:
    """The state to go on from with the order of the data, and the draws, after so many rollbacks."""
    where = state.health.rollbacks.sharding
    now = {'in_row': 0, 'rollbacks': rollbacks}
    now = {name: parallel.scalar(value, where) for name, value in now.items()}
    return state._replace(health=state.health._replace(**now))


def explain(
    config: ConfigDict,
    model: build.Model,
    dataset: data.Dataset,
    batches: grain.MapDataset,
    key: jax.Array,
    bad: health.Unhealthy,
    rollbacks: int,
) -> str:
    """Why training stops: the step, the examples and the noise levels of the first bad step.

    Args:
      batches: of this order, whole ones.
      key: the run's training key.
    """
    step = bad.first - 1
    batch = batches[step]
    positions = step * config.train.batch_size + batch['index'].astype(np.int64)
    examples = order.examples(config.seed, positions, len(dataset.source), order=rollbacks)
    loss = build.training_loss(config, model)
    key = step_key(key, step, rollbacks)
    found = health.explain(loss, bad.params, batch, key, examples)
    return (
        f'{bad}, after {rollbacks} rollbacks to other orders of the data. At step {bad.first}: '
        f'{found}. Look at these examples, or lower optimizer.learning_rate; the checkpoints from '
        'before stand'
    )
