"""`jaxdiff reproduce experiments/NAME`: runs an experiment and compares its figures with the expected ones.

An experiment is a folder with `experiment.py`, whose `measure(lab)` gives its figures by name, and
`expected.json`:

    {"figures": {"name": {"value": 1.0, "tolerance": 0.1, "source": "measured on …"}, …},
     "less": [["one name", "another"], …], "measured": ["kernel_distance: 500 against …", …]}

Where a figure has "paper", what the paper says of the like stands beside it and is not compared.
"less" is what is concluded: the first figure is less than the second, whatever the tolerances allow.
"measured" are the counts and references of what was measured, as `found.json` has them; where they are
others, figures are not compared.
"""

import importlib.util
import itertools
import json
import math
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxdiff import config as configs, manifest
from jaxdiff.commands.tables import aligned
from jaxdiff.configs import default
from jaxdiff.data.fingerprint import digest
from jaxdiff.viz import grid

EXPERIMENT, EXPECTED, FOUND, PICTURES = 'experiment.py', 'expected.json', 'found.json', 'pictures'
SMOKE = {  # what a smoke run changes in every training
    'net.channels': 8,
    'net.width': 32,
    'net.depth': 1,
    'net.heads': 1,
    'classifier.channels': 8,
    'autoencoder.channels': 8,
    'train.steps': 2,
    'train.batch_size': 16,
    'train.checkpoint_every': 2,
    'train.sample_every': 0,
    'sample.steps': 2,
    'sample.num': 10,
    'sample.batch_size': 10,
}


class Job(NamedTuple):
    """A checked experiment."""

    name: str
    module: Any  # with `measure(lab) -> {name: value}`
    expected: dict
    less: list[list[str]]  # pairs of figures, of which the first is to be less
    measured: list[str]  # how the expected figures were, [] where it is not told
    labs: list['Lab']  # one, or one for each point of a sweep


class Lab(NamedTuple):
    """What an experiment works with: commands of jaxdiff, each shown as it is run.

    Runs of the same name are shared by all experiments. In a smoke run all is tiny.
    """

    folder: pathlib.Path  # of the experiment
    runs: pathlib.Path
    out: pathlib.Path  # of this experiment, among the runs
    smoke: bool
    environment: dict[str, str]  # of the commands, whatever the experiment does to its own
    where: pathlib.Path  # of all runs, as it was asked for
    trained: list[str]  # the runs that were asked for so far, by folder
    measured: list[str]  # the figures so far: their metrics, counts and references
    anew: bool = False  # whether what was measured before is measured again
    point: dict = {}  # {config key: value} that this point of a sweep changes

    def train(self, name: str, config: str, **changes: Any) -> str:
        """Trains a run, or goes on with it; returns its folder. `net__channels=8` changes a key."""
        return self._train(self.out.parent / name, config, changes, self.point)

    def judge(self, name: str, config: str, **changes: Any) -> str:
        """`train` of what samples are seen by, which is the same at every point of a sweep."""
        return self._train(self.runs / name, config, changes, {})

    def _train(self, workdir, config, changes, point):
        changes = {key.replace('__', '.'): value for key, value in changes.items()}
        if both := sorted(changes.keys() & point.keys()):
            raise OSError(f'--sweep {both[0]}: what it is in {workdir.name} the experiment decides')
        changes |= (SMOKE if self.smoke else {}) | point
        flags = [f'--config.{key}={value}' for key, value in changes.items()]
        picture = self.run('train', '--config', config, '--workdir', str(workdir), *flags)
        if not picture:  # what a preempted run ends without, and with code 0
            raise OSError(f'{workdir} was stopped before its last step: the same command goes on')
        if str(workdir) not in self.trained:
            self.trained.append(str(workdir))
        return str(workdir)

    def evaluate(self, workdir: str, **flags: Any) -> dict[str, float]:
        """{figure, without the name of its features: value} of a run's samples; `num=500, metrics=['kernel']` are flags.

        What was measured so by the same commit is read, but where all is to be measured anew.
        """
        if self.smoke:
            most = 500 if 'real' in flags else 40  # of every class enough
            flags |= {'steps': 2, 'num': most, 'batch_size': 40}
        again = '--overwrite' if self.anew else '--reuse'
        printed = self.run('evaluate', '--workdir', workdir, *_given(flags), again)
        (path,) = [line for line in printed.splitlines() if line.endswith('.json')]
        figures = json.loads(pathlib.Path(path).read_text())['figures']
        figures = {name.partition('[')[0]: figure for name, figure in figures.items()}
        for name, figure in figures.items():
            self.note(name, figure['count'], figure['reference'])
        return {name: figure['value'] for name, figure in figures.items()}

    def note(self, metric: str, count: int, reference: str) -> None:
        """Keeps by how many samples and against what a figure was measured; `evaluate` does so itself."""
        told = f'{metric}: {count} against {reference or "nothing"}'
        if told not in self.measured:
            self.measured.append(told)

    def sample(self, workdir: str, name: str, **flags: Any) -> np.ndarray:
        """A few samples for a picture, uint8 [n, h, w, c]; `steps=50, guidance=3` are flags."""
        flags |= {'steps': 2} if self.smoke else {}
        out = ['--out', str(self.out / name), '--overwrite']
        self.run('sample', '--workdir', workdir, *_given(flags), *out)
        return np.load(self.out / f'{name}.npz')['samples']

    def show(self, figure: Any, name: str) -> None:
        """Keeps a figure of matplotlib as `name`.png; beside the experiment, if all figures are as expected."""
        place = self.out / PICTURES
        place.mkdir(exist_ok=True)
        generated = any(axes.images for axes in figure.axes)  # more than curves
        about = grid.about(self.made() | {'generated': generated})
        figure.savefig(place / f'{name}.png', dpi=100, pil_kwargs={'pnginfo': about})
        print(place / f'{name}.png', flush=True)

    def made(self) -> dict:
        """By what the figures and pictures are made: the experiment's code, and the runs' manifests."""
        code = {path.name: digest(path.read_bytes()) for path in sorted(self.folder.glob('*.py'))}
        made = {'made_by': 'jaxdiff reproduce', 'content': f'of the experiment {self.folder.name}'}
        made |= {'experiment': str(self.folder), 'code': code, 'where': str(self.where)}
        made |= {'sweep': self.point, 'smoke': self.smoke}
        made |= {'versions': manifest.versions(), 'commit': manifest.commit(), 'runs': []}
        for folder in self.trained:
            run = json.loads((pathlib.Path(folder) / 'manifest.json').read_text())
            run = {key: value for key, value in run.items() if key != 'history'}
            made['runs'].append({'workdir': folder, 'run': run})
        return made

    def run(self, *command: str) -> str:
        """Runs a command of jaxdiff in a process of its own; returns what it printed.

        Raises: OSError where it fails.
        """
        print('+ jaxdiff', *command, flush=True)
        how = {'stdout': subprocess.PIPE, 'text': True, 'env': self.environment}
        with subprocess.Popen([sys.executable, '-m', 'jaxdiff', *command], **how) as process:
            # A notice of preemption is the command's, which may have something to save.
            before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
            try:
                printed, _ = process.communicate()
            finally:
                signal.signal(signal.SIGTERM, before)
        print(printed, end='', flush=True)
        if process.returncode:
            raise OSError(
                f'jaxdiff {" ".join(command)} ended with code {process.returncode}. Where a run of that '
                'name has other settings, --runs names another folder, to begin anew'
            )
        return printed


def _given(flags):
    """Flags as the command line has them; `sample__churn=0` is the config's."""
    given = []
    for key, value in flags.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        if '__' in key:
            given.append(f'--config.{key.replace("__", ".")}={value}')
        else:
            given += [f'--{key.replace("_", "-")}', *map(str, values)]
    return given


def prepare(
    folder: str,
    runs: str = 'runs',
    smoke: bool = False,
    sweep: list[list[str]] = (),
    anew: bool = False,
) -> Job:
    """Reads an experiment.

    Args:
      sweep: [key of the config, value, value, …] each; the experiment is run at every point of their grid.
      anew: measure again what was measured before, from the same checkpoints.

    Raises: FileNotFoundError or ValueError where it is none, or can't be swept so.
    """
    place = pathlib.Path(folder)
    for name in (EXPERIMENT, EXPECTED):
        if not (place / name).exists():
            raise FileNotFoundError(f'{folder} is no experiment: it has no {name}')
    try:
        record = json.loads((place / EXPECTED).read_text())
        expected, less, measured = (record.get(k, []) for k in ('figures', 'less', 'measured'))
        for name, figure in expected.items():
            numbers = {key: float(figure[key]) for key in ('value', 'tolerance')}
            if not (math.isfinite(numbers['value']) and 0 <= numbers['tolerance'] < math.inf):
                raise ValueError(f'{name} is {numbers}')
            figure.update(numbers, source=str(figure['source']))
        for first, second in less:
            if unknown := {first, second} - expected.keys():
                raise ValueError(f'"less" names {sorted(unknown)}, which are no figures of it')
            if not expected[first]['value'] < expected[second]['value']:
                raise ValueError(f'"less" has {first!r} before {second!r}, which is expected below')
        if not isinstance(measured, list):
            raise ValueError(f'"measured" is a list, got {measured!r}')
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{place / EXPECTED} must have figures of a value, a tolerance and a source: {error}'
        ) from error
    module = _load(place / EXPERIMENT)
    where = pathlib.Path(runs) / 'smoke' if smoke else pathlib.Path(runs)
    given = dict(os.environ), pathlib.Path(runs), [], [], anew
    lab = Lab(place, where, where / place.name, smoke, *given)
    labs = [_at(lab, point) for point in _points(sweep)]
    return Job(place.name, module, expected, less, measured, labs)


def _load(path):
    """The module of an experiment's code."""
    spec = importlib.util.spec_from_file_location(f'experiment_{path.parent.name}', path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError, NameError) as error:
        raise ValueError(f'{path} cannot be read: {type(error).__name__}, {error}') from error
    if not callable(getattr(module, 'measure', None)):
        raise ValueError(f'{path} has no function measure(lab)')
    return module


def _points(sweep):
    keys, known = [key for key, *_ in sweep], configs.flat(default.get_config())
    for key, *values in sweep:
        if key not in known:
            raise ValueError(f'--sweep {key}: the config has no such key')
        if key.startswith('sample.'):
            raise ValueError(f'--sweep {key}: how samples are drawn the experiment decides')
        parsed = {configs.flat(configs.load('default', [(key, value)]))[key] for value in values}
        if not values or keys.count(key) > 1 or len(parsed) < len(values):
            raise ValueError(
                f'--sweep {key} needs values that differ, and to be given once: {key} 1 2'
            )
    return [dict(zip(keys, values)) for values in itertools.product(*(v for _, *v in sweep))]


def _at(lab, point):
    if not point:
        return lab
    name = ','.join(f'{key}={value}' for key, value in point.items())
    return lab._replace(
        out=lab.runs / 'sweep' / name / lab.out.name, trained=[], measured=[], point=point
    )


def run(job: Job) -> list[str]:
    """Measures and compares; prints the table and returns the path of what was found, found.json.

    Of a sweep the table has a row for each point, and nothing is compared.

    Raises:
      OSError: a command that failed, what the library refused, or figures that fell out of their
        tolerance.
    """
    manifest.commit()  # of the code that is about to run
    all_found, paths = [], []
    for lab in job.labs:
        began = time.monotonic()
        lab.out.mkdir(parents=True, exist_ok=True)
        for picture in (lab.out / PICTURES).glob('*.png'):  # of an experiment as it was
            picture.unlink()
        try:
            found = {name: float(value) for name, value in job.module.measure(lab).items()}
        except (ValueError, ImportError) as error:  # what an experiment asks of the library itself
            raise OSError(f'{job.name}: {error}') from error
        made = lab.made() | {'seconds': round(time.monotonic() - began)}
        record = {'figures': found, 'measured': lab.measured, 'made': made}
        if not found:
            raise OSError(f'{job.name}: measure(lab) found no figures')
        new = lab.out / f'{FOUND}.new'
        new.write_text(json.dumps(record, indent=1) + '\n')
        new.replace(lab.out / FOUND)
        all_found.append(found)
        paths.append(str(lab.out / FOUND))
    if job.labs[0].point:
        names = dict.fromkeys(name for found in all_found for name in found)
        rows = [
            lab.point | {name: f'{found[name]:.4g}' if name in found else '–' for name in names}
            for lab, found in zip(job.labs, all_found)
        ]
        print(aligned(rows, right=set(names)), flush=True)
        return paths
    rows, wrong = compare(job.expected, all_found[0], job.labs[0].smoke, job.less)
    print(aligned(rows, right={'found'}), flush=True)
    if job.measured and not job.labs[0].smoke:
        _check_measured_alike(job)
    if not job.expected:
        print(f'nothing is expected of {job.name} yet', flush=True)
    if wrong:
        raise OSError(f'{job.name}: {", ".join(wrong)} are not as expected')
    if not job.labs[0].smoke:
        for picture in (job.labs[0].out / PICTURES).glob('*.png'):
            shutil.copy(picture, job.labs[0].folder)
    return paths


def _check_measured_alike(job):
    found, due = {*job.labs[0].measured}, {*job.measured}
    if found != due:
        raise OSError(
            f'{job.name}: the figures cannot be compared with those expected, they were measured by other '
            f'counts or references: {", ".join(sorted(found - due))} instead of '
            f'{", ".join(sorted(due - found))}'
        )


def compare(
    expected: dict, found: dict[str, float], smoke: bool = False, less: Sequence[list[str]] = ()
) -> tuple[list[dict], list[str]]:
    """The rows of the table, and the names of the figures and conclusions that aren't as expected.

    In a smoke run a figure need only be there, and be a number.
    """
    rows, wrong = [], []
    for name in {**expected, **found}:
        value, due = found.get(name, math.nan), expected.get(name)
        row = {'figure': name, 'expected': '–', 'found': f'{value:.4g}', '': 'new', 'source': ''}
        right = math.isfinite(value)
        if due is not None:
            right &= smoke or abs(value - due['value']) <= due['tolerance']
            paper = f'; paper: {due["paper"]}' if 'paper' in due else ''
            row['expected'] = f'{due["value"]:.4g} ± {due["tolerance"]:.2g}'
            row['source'] = due['source'] + paper
            row[''] = 'there' if smoke else 'ok'
        if not right:
            wrong.append(name)
            row[''] = 'OUT'
        rows.append(row)
    for first, second in [] if smoke else less:
        name = f'{first} < {second}'
        apart = found.get(second, math.nan) - found.get(first, math.nan)
        right = apart > 0
        wrong += [] if right else [name]
        row = {
            'figure': name,
            'expected': 'less',
            'found': f'{-apart:.4g}',
            '': ('OUT', 'ok')[right],
        }
        rows.append(row | {'source': 'what the README concludes'})
    return rows, wrong
