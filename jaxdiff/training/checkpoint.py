"""Checkpoints of a run, by Orbax.

Parameters, their averages, the optimiser's state and the record of how they were made are separate
items, so that sampling reads only the parameters that it needs. Saving is asynchronous; what a kill
leaves half written is never listed. Every checkpoint is committed together with the digests of its
files, see `digest`.
"""

import json
import math
import sys
from concurrent import futures
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy as policy

from jaxdiff import distributed
from jaxdiff.paths import in_bucket
from jaxdiff.training import digest, parallel
from jaxdiff.training.state import TrainState

STATE = ('params', 'ema', 'profiles', 'optimizer', 'health')
ITEMS = (*STATE, 'made', 'metrics')


def folder(workdir: epath.Path, name: str = 'checkpoints') -> epath.Path:
    """Where the checkpoints of a run lie; `name` is another kind of them."""
    place = workdir / name
    return place if in_bucket(place) else place.resolve()  # Orbax refuses relative paths


class Writer:
    """Writes checkpoints to a folder beside the training, each in a thread.

    The thread has all of the work, since for many arrays Orbax's own part before it goes to the
    background takes longer than a step. In a job of many processes all make the same calls.

    Args:
      keep: how many of the newest are kept, the best by loss besides; 0 keeps all.
    """

    def __init__(self, place: epath.Path, keep: int):
        many = jax.process_count() > 1
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy.PreserveAll() if keep == 0 else _newest_and_best(keep),
            best_fn=_loss,  # only with it Orbax keeps the metrics beyond this process
            best_mode='min',
            cleanup_tmp_directories=True,
            create=False,
            async_options=digest.while_saving(place),
            # Else its barriers are programs on the devices, among those of the training.
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                active_processes=set(range(jax.process_count())) if many else None,
                barrier_sync_key_prefix=place.name if many else None,
            ),
        )
        self.place = place
        if distributed.primary():
            place.mkdir(parents=True, exist_ok=True)
        distributed.barrier(f'{place.name} made')
        self._manager = _Manager(place, options=options)
        self._thread = futures.ThreadPoolExecutor(1, 'checkpoint')
        self._saving, self._failed = None, False

    def save(self, step: int, items: dict[str, Any], loss: float, made: dict) -> None:
        """Starts to save arrays by item, once the save before is done.

        Args:
          items: trees of arrays that nothing else will overwrite.
          made: JSON that says how they were made.

        Raises: OSError where the save before failed.
        """
        self.check(wait=True)
        args = {name: ocp.args.StandardSave(tree) for name, tree in items.items()}
        args = ocp.args.Composite(**args, made=ocp.args.JsonSave(made))
        self._saving = self._thread.submit(self._save, step, args, {'loss': loss})

    def _save(self, step, args, metrics):
        try:
            self._manager.save(step, args=args, metrics=metrics, force=True)
            self._manager.wait_until_finished()
        except Exception:
            self._failed = True
            raise

    def saving(self) -> bool:
        """Whether a save is under way."""
        return self._saving is not None and not self._saving.done()

    def check(self, wait: bool = False) -> None:
        """Raises OSError where the last save failed; with `wait` once it is done, else if it is."""
        if self._saving is None or (self.saving() and not wait):
            return
        saving, self._saving = self._saving, None
        if error := saving.exception():  # of many kinds: Orbax's, TensorStore's
            raise OSError(
                f'a checkpoint could not be written to {self.place} '
                f'({" ".join(str(error).split())}); the older ones are whole: make room or give '
                'write access, and the same command goes on from them'
            ) from error

    def delete(self, step: int) -> None:
        """Deletes a checkpoint."""
        self.check(wait=True)
        self._manager.delete(step)

    def close(self) -> None:
        """Waits for a save that is under way; `check` tells whether it failed."""
        self._thread.shutdown()
        if not self._failed:  # else Orbax would raise it again
            self._manager.close()


class _Manager(ocp.CheckpointManager):
    def reached_preemption(self, step: int) -> bool:
        # The loop asks JAX at each step; from a thread, about an earlier one, it would lose count.
        return False


def _newest_and_best(keep):
    best = policy.BestN(
        get_metric_fn=_loss, reverse=True, n=1, keep_checkpoints_without_metrics=False
    )
    return policy.AnyPreservationPolicy([policy.LatestN(keep), best])


def _loss(metrics):
    return metrics['loss'] if math.isfinite(metrics['loss']) else math.inf


def save_state(writer: Writer, state: TrainState, loss: float, made: dict) -> None:
    """Starts to save a whole state."""
    writer.save(int(state.step), _items(state), loss, made)


def _items(state):
    """The parts of a state; Orbax saves no empty ones."""
    parts = {name: getattr(state, name) for name in STATE}
    return {name: tree for name, tree in parts.items() if jax.tree.leaves(tree)}


def restore(place: epath.Path, step: int, like: dict[str, Any]) -> dict[str, Any]:
    """The items named in `like` of the checkpoint at `step`; shapes, dtypes and placement as there.

    Shapes without a sharding are read to the first device of each process.
    """
    one = parallel.copy_in_each_process()
    items = {
        name: ocp.args.StandardRestore(
            parallel.placed(tree, lambda x: getattr(x, 'sharding', None) or one)
        )
        for name, tree in like.items()
    }
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
        return dict(reader.restore(place / str(step), args=ocp.args.Composite(**items)).items())


def restore_state(place: epath.Path, step: int, like: TrainState) -> TrainState:
    """The whole state of the checkpoint at `step`, shaped and placed as `like`."""
    items = like._asdict() | restore(place, step, _items(like))
    return TrainState(**items | {'step': parallel.scalar(step, like.step.sharding)})


def made(place: epath.Path, step: int) -> dict:
    """How the checkpoint at `step` was made."""
    return json.loads((place / str(step) / 'made' / 'metadata').read_text())


def choose(place: epath.Path, step: int | None, items: tuple[str, ...] = ITEMS) -> int:
    """The given step, or the newest one whose `items` are as they were written.

    Broken ones are named on stderr.

    Raises: ValueError where there is none, or the given one is not there or broken.
    """
    steps = steps_in(place)
    if step is not None and step not in steps:
        there = f'; there are {", ".join(map(str, steps))}' if steps else ''
        raise ValueError(f'no checkpoint of step {step} in {place}{there}')
    if not steps:
        raise ValueError(f'no checkpoint in {place}: train first')
    found, broken = _newest_whole(place, reversed(steps) if step is None else [step], items)
    if found is None:
        raise ValueError(f'no whole checkpoint in {place} ({_listed(broken)})')
    return found


def settle(workdir: epath.Path) -> int | None:
    """Makes a run's checkpoints fit to go on from; returns the newest whole one's step, or None.

    Broken ones are moved to `workdir`/broken, with a warning. Of those older than the newest whole
    one only what Orbax reads of them, their metrics, is looked at.

    Raises: OSError where there are checkpoints and none is whole.
    """
    place = folder(workdir)
    steps = steps_in(place)
    found, broken = _newest_whole(place, reversed(steps), ITEMS)
    if steps and found is None:
        raise OSError(
            f'no checkpoint in {place} is whole ({_listed(broken)}): restore one from a copy, or '
            'give another --workdir to start anew'
        )
    for step in steps[: steps.index(found)] if steps else ():
        broken |= _newest_whole(place, [step], ('metrics',))[1]
    for step in broken:
        _set_aside(workdir, step)
    return found


def _set_aside(workdir, step):
    if distributed.primary():
        beside = workdir / 'broken'
        beside.mkdir(exist_ok=True)
        number = sum(1 for _ in beside.iterdir())
        (folder(workdir) / str(step)).rename(beside / f'{step}_{number}')
    distributed.barrier(f'set aside {step}')


def steps_in(place: epath.Path) -> list[int]:
    """The steps of the checkpoints in a folder, whole or not, ascending."""
    if not place.exists():
        return []
    return sorted(int(p.name) for p in place.iterdir() if p.name.isdecimal())


def _newest_whole(place, steps, items):
    """(first of `steps` that is whole, {step: problems} of those before it)."""
    broken = {}
    for step in steps:
        problems = digest.problems(place / str(step), items)
        if not problems:
            return step, broken
        broken[step] = problems
        print(
            f'warning: the checkpoint {place / str(step)} is broken and not used: '
            f'{"; ".join(problems[:3])}',
            file=sys.stderr,
        )
    return None, broken


def _listed(broken):
    return '; '.join(f'step {step}: {problems[0]}' for step, problems in broken.items())
