"""Checkpoints of a run, by Orbax.

Parameters, their average, the optimiser's state and the record of how they were made are separate
items, so that sampling reads only the parameters that it needs. Saving is asynchronous; what a kill
leaves half written is never listed.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers as policy

from jaxdiff.paths import in_bucket
from jaxdiff.training.state import TrainState

_ITEMS = ('params', 'ema', 'optimizer')


def manager(workdir: epath.Path, keep: int | None = None) -> ocp.CheckpointManager:
    """The checkpoints below `workdir`.

    With `keep` for writing: the newest `keep` and the best by loss are kept. Without for reading.
    """
    options = ocp.CheckpointManagerOptions(read_only=True)
    if keep is not None:
        preserve = policy.AnyPreservationPolicy(
            [
                policy.LatestN(keep),
                policy.BestN(
                    get_metric_fn=_loss, reverse=True, n=1, keep_checkpoints_without_metrics=False
                ),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=preserve,
            best_fn=_loss,  # only with it Orbax keeps the metrics beyond this process
            best_mode='min',
            cleanup_tmp_directories=True,
        )
    folder = workdir / 'checkpoints'
    folder = folder if in_bucket(folder) else folder.resolve()  # Orbax refuses relative paths
    return ocp.CheckpointManager(folder, options=options)


def save(checkpoints: ocp.CheckpointManager, state: TrainState, loss: float, made: dict) -> None:
    """Starts to save `state`; `made` is JSON that says how it was made (config, versions, data)."""
    items = {k: ocp.args.StandardSave(getattr(state, k)) for k in _ITEMS}
    items['made'] = ocp.args.JsonSave(made)
    step = int(state.step)
    checkpoints.save(step, args=ocp.args.Composite(**items), metrics={'loss': loss}, force=True)


def restore(checkpoints: ocp.CheckpointManager, step: int, like: dict[str, Any]) -> dict[str, Any]:
    """The items named in `like` of the checkpoint at `step`; shapes and dtypes as `like` has them."""
    items = {k: ocp.args.StandardRestore(_abstract(v)) for k, v in like.items()}
    return dict(checkpoints.restore(step, args=ocp.args.Composite(**items)).items())


def restore_state(checkpoints: ocp.CheckpointManager, like: TrainState) -> TrainState:
    """The whole state of the newest checkpoint, shaped as `like`."""
    step = checkpoints.latest_step()
    items = restore(checkpoints, step, {k: getattr(like, k) for k in _ITEMS})
    return TrainState(step=jnp.asarray(step, jnp.int32), **items)


def made(checkpoints: ocp.CheckpointManager, step: int) -> dict:
    """How the checkpoint at `step` was made."""
    return checkpoints.restore(step, args=ocp.args.Composite(made=ocp.args.JsonRestore())).made


def choose(checkpoints: ocp.CheckpointManager, step: int | None) -> int:
    """The given step, or the newest one; ValueError where there is none."""
    steps = [s for s in checkpoints.all_steps() if _whole(checkpoints.directory / str(s))]
    if not steps:
        raise ValueError(f'no checkpoint in {checkpoints.directory}: train first')
    if step is not None and step not in steps:
        raise ValueError(
            f'no checkpoint of step {step} in {checkpoints.directory}; '
            f'there are {", ".join(map(str, sorted(steps)))}'
        )
    return max(steps) if step is None else step


def _loss(metrics):
    return metrics['loss'] if math.isfinite(metrics['loss']) else math.inf


def _whole(folder):
    # A kill while an old checkpoint is being deleted leaves a part of it under its name.
    return all((folder / item).exists() for item in (*_ITEMS, 'made', '_CHECKPOINT_METADATA'))


def _abstract(tree):
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), tree)
