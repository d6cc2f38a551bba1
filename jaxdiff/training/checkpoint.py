"""Checkpoints of a run, by Orbax.

Parameters, their averages, the optimiser's state and the record of how they were made are separate
items, so that sampling reads only the parameters that it needs. Saving is asynchronous; what a kill
leaves half written is never listed. Every checkpoint is committed together with the digests of its
files, see `digest`.
"""

import itertools
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

# The kinds of checkpoints, each in a folder of this name.
CHECKPOINTS = 'checkpoints'  # of the whole state
SNAPSHOTS = 'ema'  # of the averages by power functions, see `posthoc`


def folder(workdir: epath.Path, kind: str = CHECKPOINTS) -> epath.Path:
    """Where the checkpoints of a run lie."""
    place = workdir / kind
    return place if in_bucket(place) else place.resolve()  # Orbax refuses relative paths


class Writer:
    """Writes a run's checkpoints beside the training, in a thread.

    The thread has all of the work, since for many arrays Orbax's own part before it goes to the
    background takes longer than a step; there is one thread, since Orbax mixes up saves that run at
    once. In a job of many processes all make the same calls.

    Args:
      keep: how many of the newest are kept, the best by loss besides; 0 keeps all.
      kinds: the folders' names; all checkpoints are kept of those but the first.
    """

    def __init__(self, workdir: epath.Path, keep: int, kinds: tuple[str, ...] = (CHECKPOINTS,)):
        self._managers = {
            kind: _manager(folder(workdir, kind), 0 if i else keep, best=not i)
            for i, kind in enumerate(kinds)
        }
        self._thread = futures.ThreadPoolExecutor(1, 'checkpoint')
        self._saves = {}  # {kind: the last one}

    def save(
        self,
        step: int,
        items: dict[str, Any],
        made: dict,
        loss: float | None = None,
        kind: str = CHECKPOINTS,
    ) -> None:
        """Starts to save arrays by item, once the save before of this kind is done.

        Args:
          items: trees of arrays that nothing else will overwrite.
          made: JSON that says how they were made.
          loss: which the best has the lowest of; of the first kind.

        Raises: OSError where a save before failed.
        """
        futures.wait([self._saves[kind]] if kind in self._saves else [])
        self.check()
        args = {name: ocp.args.StandardSave(tree) for name, tree in items.items()}
        args = ocp.args.Composite(**args, made=ocp.args.JsonSave(made))
        metrics = None if loss is None else {'loss': loss}
        self._saves[kind] = self._thread.submit(_save, self._managers[kind], step, args, metrics)

    def saving(self) -> bool:
        """Whether a save is under way."""
        return not all(save.done() for save in self._saves.values())

    def check(self, wait: bool = False) -> None:
        """Raises OSError where a save has failed; with `wait` when all are done."""
        for kind, save in self._saves.items():
            if (wait or save.done()) and (error := save.exception()):  # Orbax's, TensorStore's …
                raise OSError(
                    f'a checkpoint could not be written to {self._managers[kind].directory} '
                    f'({type(error).__name__}: {" ".join(str(error).split())}); the older ones are '
                    'whole: where the disk is full or read-only make room or give write access, '
                    'and the same command goes on from them'
                ) from error

    def close(self) -> None:
        """Waits for what is under way; `check` tells whether it failed."""
        self._thread.shutdown()
        for kind, manager in self._managers.items():
            if kind not in self._saves or not self._saves[kind].exception():
                manager.close()  # else Orbax would raise it again


def _save(manager, step, args, metrics):
    manager.save(step, args=args, metrics=metrics, force=True)
    manager.wait_until_finished()


def _manager(place, keep, best):
    many = jax.process_count() > 1
    if distributed.primary():
        place.mkdir(parents=True, exist_ok=True)
    distributed.barrier(f'{place.name} made')
    options = ocp.CheckpointManagerOptions(
        preservation_policy=_newest_and_best(keep) if keep else policy.PreserveAll(),
        best_fn=_loss if best else None,  # only with it Orbax keeps the metrics beyond this process
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
    return _Manager(place, options=options)


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
    writer.save(int(state.step), _items(state), made, loss)


def _items(state):
    """The parts of a state; Orbax saves no empty ones."""
    parts = {name: getattr(state, name) for name in STATE}
    return {name: tree for name, tree in parts.items() if jax.tree.leaves(tree)}


def restore(place: epath.Path, step: int, like: dict[str, Any]) -> dict[str, Any]:
    """The items named in `like` of the checkpoint at `step`; shapes, dtypes and placement as there."""
    items = {name: ocp.args.StandardRestore(tree) for name, tree in like.items()}
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
    found, broken = _newest_whole(place, steps if step is None else [step], items)
    if found is None:
        raise ValueError(f'no whole checkpoint in {place} ({_listed(broken)})')
    return found


def settle(workdir: epath.Path, before: int | None = None) -> int | None:
    """Makes a run's checkpoints fit to go on from; returns the step to do so from, or None.

    That is the newest whole checkpoint, of those of earlier steps than `before` if there are any.
    Broken ones are moved to `workdir`/broken, with a warning, and whole ones that are newer, of
    either kind, deleted. Of those older only what Orbax reads of them, their metrics, is looked at.

    Raises: OSError where there are checkpoints and none is whole.
    """
    place = folder(workdir)
    steps = steps_in(place)
    usable = [s for s in steps if before is None or s < before] or steps[:1]
    found, broken = _newest_whole(place, usable, ITEMS)
    if usable and found is None:
        raise OSError(
            f'no checkpoint in {place} is whole ({_listed(broken)}): restore one from a copy, or '
            'give another --workdir to start anew'
        )
    for step in usable[: usable.index(found)] if usable else ():
        broken |= _newest_whole(place, [step], ('metrics',))[1]
    for step in broken:
        _set_aside(workdir, step)
    for kind in (CHECKPOINTS, SNAPSHOTS):
        _delete_after(folder(workdir, kind), found or 0)
    return found


def _set_aside(workdir, step):
    if distributed.primary():
        beside = workdir / 'broken'
        beside.mkdir(exist_ok=True)
        names = (beside / f'{step}_{number}' for number in itertools.count())
        (folder(workdir) / str(step)).rename(next(n for n in names if not n.exists()))
    distributed.barrier(f'set aside {step}')


def _delete_after(place, step):
    later = [s for s in steps_in(place) if s > step]
    if distributed.primary():
        for s in later:
            (place / str(s)).rmtree()
    distributed.barrier(f'deleted after {step}')


def steps_in(place: epath.Path) -> list[int]:
    """The steps of the checkpoints in a folder, whole or not, ascending; as process 0 sees them."""
    names = [p.name for p in place.iterdir()] if distributed.primary() and place.exists() else []
    steps = sorted(int(name) for name in names if name.isdecimal())
    return distributed.agree([s for s in steps if digest.committed(place / str(s))])


def problems(place: epath.Path, step: int, items: tuple[str, ...]) -> list[str]:
    """What isn't as it was written in the items of a checkpoint, with a warning on stderr."""
    found = digest.problems(place / str(step), items)
    if found:
        print(
            f'warning: the checkpoint {place / str(step)} is broken and not used: '
            f'{"; ".join(found[:3])}',
            file=sys.stderr,
        )
    return found


def _newest_whole(place, steps, items):
    """(the last of `steps` that is whole or None, {step: problems} of those after it)."""
    broken = {}
    for step in reversed(steps):
        if not (found := problems(place, step, items)):
            return step, broken
        broken[step] = found
    return None, broken


def _listed(broken):
    return '; '.join(f'step {step}: {found[0]}' for step, found in broken.items())
