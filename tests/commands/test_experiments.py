"""The experiments of this repository ask for what the commands can do, and find what is expected of them.

Nothing is trained: each command is read and its config checked as the command itself would.
"""

import json
import pathlib
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest

from jaxdiff import arguments, build, cli, config as configs
from jaxdiff.commands import evaluate, reproduce

EXPERIMENTS = pathlib.Path(__file__).resolve().parents[2] / 'experiments'
OF_COMMANDS = (  # the others open the runs themselves
    'ddim_steps',
    'digits_ddpm',
    'guidance',
    'predictions_and_schedules',
    'score_sde',
)
FIGURES = {  # of a metric, where they are not named as it is
    'frechet': ['frechet_distance'],
    'kernel': ['kernel_distance'],
    'precision': ['precision', 'recall'],
    'density': ['density', 'coverage'],
    'bound': ['bits_per_dim_bound'],
    'flow': ['bits_per_dim_flow'],
}


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Commands that do nothing but check what they are given, and leave numbers; those that were run."""
    trained, done = {}, []

    def run(lab, *command):
        args = arguments.parse(list(command))
        done.append(args.command)
        if args.command == 'train':
            trained[args.workdir] = (args.config, args.overrides)
            build.check(configs.load(*trained[args.workdir]))
            pathlib.Path(args.workdir).mkdir(parents=True, exist_ok=True)
            pathlib.Path(args.workdir, 'manifest.json').write_text('{}')
            return 'a picture\n'
        name, settings = trained[args.workdir]
        build.check(configs.load(name, settings + cli._of_sampling(args)))
        if args.command == 'sample':
            np.savez(args.out, samples=np.zeros((args.num, 8, 8, 1), np.uint8))
            return ''
        assert args.features is None or args.features in trained
        names = [n for m in args.metrics or evaluate.METRICS for n in FIGURES.get(m, [m])]
        path = tmp_path / f'evaluation_{len(done)}.json'
        figure = {'value': len(done), 'count': args.num, 'reference': ''}
        figures = {f'{name}[judge]': figure for name in names}
        path.write_text(json.dumps({'figures': figures}))
        return f'a table\n{path}\n'

    monkeypatch.setattr(reproduce.Lab, 'run', run)
    return done


@pytest.mark.parametrize('smoke', [False, True], ids=['whole', 'smoke'])
@pytest.mark.parametrize('name', OF_COMMANDS)
def test_what_an_experiment_asks_for_can_be_done(name, smoke, commands, tmp_path):
    job = reproduce.prepare(str(EXPERIMENTS / name), str(tmp_path / 'runs'), smoke=smoke)
    (lab,) = job.labs
    lab.out.mkdir(parents=True)
    found = job.module.measure(lab)
    assert found and all(np.isfinite([*found.values()]))
    assert {'train', 'evaluate'} <= {*commands}
    assert not job.expected or {*job.expected} <= {*found}
    for picture in (lab.out / reproduce.PICTURES).glob('*.png'):
        assert np.ptp(matplotlib.image.imread(picture)) > 0


@pytest.mark.parametrize(
    'name', sorted(path.parent.name for path in EXPERIMENTS.glob('*/experiment.py'))
)
def test_every_experiment_can_be_begun(name, tmp_path):
    job = reproduce.prepare(str(EXPERIMENTS / name), str(tmp_path / 'runs'))
    assert job.name == name and callable(job.module.measure)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['few_steps', 'precision', 'restoration', 'latent_emoji'])
def test_those_that_open_the_runs_themselves_run_to_their_end(name, tmp_path):
    command = [sys.executable, '-m', 'jaxdiff', 'reproduce', str(EXPERIMENTS / name), '--smoke']
    done = subprocess.run([*command, '--runs', tmp_path], capture_output=True, text=True)
    if 'jaxdiff prepare' in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / 'smoke' / name / 'found.json').read_text())['measured']
    for picture in (tmp_path / 'smoke' / name / 'pictures').glob('*.png'):
        assert np.ptp(matplotlib.image.imread(picture)) > 0


def test_every_experiment_has_an_entry_in_the_list():
    listed = (EXPERIMENTS / 'README.md').read_text()
    missing = [
        path.parent.name
        for path in EXPERIMENTS.glob('*/experiment.py')
        if f'`{path.parent.name}`' not in listed
    ]
    assert not missing
