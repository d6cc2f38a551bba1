"""`jaxdiff reproduce experiments/NAME`: runs an experiment and compares its figures with the expected ones.

An experiment is a folder with `experiment.py`, whose `measure(lab)` gives its figures by name, and
`expected.json`:

    {"figures": {"name": {"value": 1.0, "tolerance": 0.1, "source": "measured on …"}, …}}

Where a figure has "paper", what the paper says of the like stands beside it and is not compared.
"""

import importlib.util
import json
import math
import pathlib
import subprocess
import sys
import time
from typing import Any, NamedTuple

from jaxdiff import manifest
from jaxdiff.commands.tables import aligned

EXPERIMENT, EXPECTED, FOUND = 'experiment.py', 'expected.json', 'found.json'


class Job(NamedTuple):
    """A checked experiment."""

    folder: pathlib.Path
    module: Any  # with `measure(lab) -> {name: value}` and, at will, SMOKE
    expected: dict
    lab: 'Lab'


class Lab(NamedTuple):
    """What an experiment works with: commands of jaxdiff, each shown as it is run.

    In a smoke run all trainings are of a few steps, and settings are those of the experiment's SMOKE.
    """

    folder: pathlib.Path  # of the experiment, where pictures are written
    runs: pathlib.Path
    smoke: bool
    settings: dict  # {config key: value} that a smoke run changes in every training

    def train(self, name: str, config: str, **changes: Any) -> str:
        """Trains a run, or goes on with it; returns its folder. `net__channels=8` changes a key."""
        changes = {key.replace('__', '.'): value for key, value in changes.items()}
        changes |= self.settings if self.smoke else {}
        workdir = str(self.runs / name)
        flags = [f'--config.{key}={value}' for key, value in changes.items()]
        self.run('train', '--config', config, '--workdir', workdir, *flags)
        return workdir

    def evaluate(self, workdir: str, **flags: Any) -> dict[str, dict]:
        """{metric: figure} of a run's samples; `num=500, metrics=['kernel']` are flags.

        What was measured with the same settings is read.
        """
        flags |= {'num': 40, 'steps': 2, 'batch_size': 40} if self.smoke else {}
        given = []
        for key, value in flags.items():
            values = value if isinstance(value, (list, tuple)) else [value]
            given += [f'--{key.replace("_", "-")}', *map(str, values)]
        printed = self.run('evaluate', '--workdir', workdir, *given, '--reuse')
        (path,) = [line for line in printed.splitlines() if line.endswith('.json')]
        return json.loads(pathlib.Path(path).read_text())['figures']

    def run(self, *command: str) -> str:
        """Runs a command of jaxdiff in a process of its own; returns what it printed.

        Raises: OSError where it fails.
        """
        print('+ jaxdiff', *command, flush=True)
        done = subprocess.run(
            [sys.executable, '-m', 'jaxdiff', *command], stdout=subprocess.PIPE, text=True
        )
        print(done.stdout, end='', flush=True)
        if done.returncode:
            raise OSError(f'jaxdiff {" ".join(command)} ended with code {done.returncode}')
        return done.stdout


def prepare(folder: str, runs: str = 'runs', smoke: bool = False) -> Job:
    """Reads an experiment.

    Raises: FileNotFoundError or ValueError where it is none.
    """
    place = pathlib.Path(folder)
    for name in (EXPERIMENT, EXPECTED):
        if not (place / name).exists():
            raise FileNotFoundError(f'{folder} is no experiment: it has no {name}')
    try:
        expected = json.loads((place / EXPECTED).read_text())['figures']
        for figure in expected.values():
            float(figure['value']), float(figure['tolerance']), str(figure['source'])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{place / EXPECTED} must have figures of a value, a tolerance and a source: {error}'
        ) from error
    spec = importlib.util.spec_from_file_location(f'experiment_{place.name}', place / EXPERIMENT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    where = pathlib.Path(runs) / place.name
    if smoke:
        where = where.with_name(f'{place.name}_smoke')
    settings = dict(getattr(module, 'SMOKE', {}))
    return Job(place, module, expected, Lab(place, where, smoke, settings))


def run(job: Job) -> list[str]:
    """Measures and compares; returns the table, and leaves found.json in the experiment's runs.

    Raises:
      OSError: a command that failed, or figures that fell out of their tolerance.
    """
    began = time.monotonic()
    found = {name: float(value) for name, value in job.module.measure(job.lab).items()}
    rows, wrong = compare(job.expected, found, job.lab.smoke)
    job.lab.runs.mkdir(parents=True, exist_ok=True)
    made = {'versions': manifest.versions(), 'commit': manifest.commit()}
    made |= {'seconds': round(time.monotonic() - began), 'smoke': job.lab.smoke}
    text = json.dumps({'figures': found, 'made': made}, indent=1)
    (job.lab.runs / FOUND).write_text(text + '\n')
    print(aligned(rows, right={'found'}), flush=True)
    if wrong:
        raise OSError(f'{job.folder.name}: {", ".join(wrong)} are not as expected')
    return [str(job.lab.runs / FOUND)]


def compare(
    expected: dict, found: dict[str, float], smoke: bool = False
) -> tuple[list[dict], list[str]]:
    """The rows of the table, and the names of the figures that aren't as expected.

    In a smoke run a figure need only be there, and be a number.
    """
    rows, wrong = [], []
    for name in {**expected, **found}:
        value, due = found.get(name, math.nan), expected.get(name)
        row = {'figure': name, 'expected': '–', 'found': f'{value:.4g}', '': 'new', 'source': ''}
        rows.append(row)
        if due is None:
            continue
        near = abs(value - due['value']) <= due['tolerance']
        right = math.isfinite(value) if smoke else near
        if not right:
            wrong.append(name)
        paper = f'; paper: {due["paper"]}' if 'paper' in due else ''
        row['expected'] = f'{due["value"]:.4g} ± {due["tolerance"]:.2g}'
        row['source'] = due['source'] + paper
        row[''] = 'there' if smoke and right else 'ok' if right else 'OUT'
    return rows, wrong
