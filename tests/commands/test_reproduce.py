"""Experiments are run, and compared with what is expected of them."""

import json
import math
import os
import pathlib
import signal
import threading
import time

import pytest
from PIL import Image

from jaxdiff import cli
from jaxdiff.commands import reproduce, show

MEASURE = """
def measure(lab):
    return {'one': 1.05, 'two': 3.0 if lab.smoke else 2.0}
"""


@pytest.fixture
def experiment(tmp_path):
    """(measure, figures) -> the folder of an experiment."""

    def make(measure=MEASURE, less=(), **figures):
        folder = tmp_path / 'experiments' / 'some'
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'experiment.py').write_text(measure)
        each = {'tolerance': 0.1, 'source': 'measured by hand'}
        figures = {name: each | {'value': value} for name, value in figures.items()}
        (folder / 'expected.json').write_text(json.dumps({'figures': figures, 'less': less}))
        return str(folder)

    return make


def prepare(folder, tmp_path, **more):
    return reproduce.prepare(folder, str(tmp_path / 'runs'), **more)


def test_figures_within_their_tolerance_pass_and_are_kept(experiment, tmp_path, capsys):
    (path,) = reproduce.run(prepare(experiment(one=1.0, two=2.05), tmp_path))
    record = json.loads(open(path).read())
    assert record['figures'] == {'one': 1.05, 'two': 2.0}
    assert record['made']['versions']['jax'] and not record['made']['smoke']
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ['figure', 'expected', 'found', 'source']
    assert '1 ± 0.1' in lines[1] and '1.05' in lines[1] and 'measured by hand' in lines[1]


@pytest.mark.parametrize('two', [1.8, 2.2])
def test_a_figure_that_fell_out_fails_by_name(experiment, tmp_path, two, capsys):
    with pytest.raises(OSError, match='some: two are not as expected'):
        reproduce.run(prepare(experiment(one=1.0, two=two), tmp_path))
    assert 'OUT' in capsys.readouterr().out


def test_what_is_concluded_holds_or_fails_by_name(experiment, tmp_path, capsys):
    """Though each figure be within its tolerance."""
    reproduce.run(prepare(experiment(one=1.0, two=2.05, less=[['one', 'two']]), tmp_path))
    row = capsys.readouterr().out.splitlines()[3]
    assert row.split()[:6] == ['one', '<', 'two', 'less', '-0.95', 'ok']
    measure = "def measure(lab):\n    return {'one': 1.05, 'two': 1.0}\n"
    folder = experiment(measure, one=1.0, two=1.06, less=[['one', 'two']])
    with pytest.raises(OSError, match='some: one < two are not as expected'):
        reproduce.run(prepare(folder, tmp_path))
    reproduce.run(prepare(folder, tmp_path, smoke=True))
    for less, message in (
        ([['two', 'one']], 'expected below'),
        ([['one', 'three']], 'no figures of it'),
    ):
        with pytest.raises(ValueError, match=message):
            prepare(experiment(one=1.0, two=2.0, less=less), tmp_path)


def test_figures_may_be_written_as_words(experiment, tmp_path):
    job = prepare(experiment(one='1.0'), tmp_path)
    assert job.expected['one']['value'] == 1.0 and reproduce.run(job)


def test_a_figure_that_is_missing_or_not_a_number_fails(experiment, tmp_path):
    with pytest.raises(OSError, match='three are not'):
        reproduce.run(prepare(experiment(one=1.0, three=3.0), tmp_path))
    with pytest.raises(OSError, match='three are not'):
        reproduce.run(prepare(experiment(three=3.0), tmp_path, smoke=True))
    _, wrong = reproduce.compare(
        {'x': {'value': 1.0, 'tolerance': 9.0, 'source': ''}}, {'x': math.nan}
    )
    assert wrong == ['x']


def test_a_smoke_run_asks_for_figures_alone_and_works_elsewhere(experiment, tmp_path):
    folder = experiment(one=5.0)
    (path,) = reproduce.run(prepare(folder, tmp_path, smoke=True))
    assert pathlib.Path('smoke', 'some') == pathlib.Path(path).parent.relative_to(tmp_path / 'runs')
    assert json.loads(open(path).read())['figures']['two'] == 3.0


def test_a_smoke_run_compiles_in_haste_and_what_the_user_sets_stands(
    experiment, tmp_path, monkeypatch
):
    folder = experiment(
        "def measure(lab):\n    return {'level': lab.environment['XLA_FLAGS'][-1]}\n"
    )
    monkeypatch.setenv('XLA_FLAGS', '--xla_backend_optimization_level=1')
    cli.main(['reproduce', folder, '--runs', str(tmp_path / 'runs'), '--smoke'])
    level = '--xla_backend_optimization_level'
    assert os.environ['XLA_FLAGS'] == f'{level}=0 {level}=1'  # the last one holds
    found = json.loads((tmp_path / 'runs' / 'smoke' / 'some' / 'found.json').read_text())
    assert found['figures'] == {'level': 1.0}


def test_what_an_experiment_asks_of_the_library_in_vain_is_one_line(experiment, tmp_path):
    folder = experiment("def measure(lab):\n    raise ValueError('no such data')\n")
    with pytest.raises(OSError, match='some: no such data'):
        reproduce.run(prepare(folder, tmp_path))


def test_commands_are_run_and_shown_and_one_that_fails_ends_it(experiment, tmp_path, capfd):
    measure = "def measure(lab):\n    lab.train('a', 'digits', net__channels=3)\n    return {}\n"
    with pytest.raises(OSError, match='jaxdiff train --config digits .*ended with code 2'):
        reproduce.run(prepare(experiment(measure), tmp_path))
    out, err = capfd.readouterr()
    assert '+ jaxdiff train --config digits --workdir' in out and 'channels' in err


def test_a_training_that_was_stopped_is_not_measured(experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce.Lab, 'run', lambda *_: '')  # as of a run that was preempted
    measure = "def measure(lab):\n    lab.train('a', 'digits')\n    raise AssertionError\n"
    with pytest.raises(OSError, match='a was stopped before its last step: the same command'):
        reproduce.run(prepare(experiment(measure), tmp_path))


@pytest.mark.parametrize(
    'measure, message',
    [
        ('def measure(lab) {}', 'experiment.py cannot be read: SyntaxError'),
        ('x = 1', 'no function'),
    ],
)
def test_code_that_is_no_experiment_is_refused(experiment, tmp_path, measure, message):
    with pytest.raises(ValueError, match=message):
        prepare(experiment(measure), tmp_path)


def test_an_experiment_without_figures_fails(experiment, tmp_path):
    with pytest.raises(OSError, match='found no figures'):
        reproduce.run(prepare(experiment('def measure(lab):\n    return {}\n'), tmp_path))


@pytest.mark.parametrize('anew', [False, True])
def test_what_was_measured_is_read_or_measured_anew(experiment, tmp_path, monkeypatch, anew):
    ran = []

    def run(lab, *command):
        ran.append(command)
        figure = {'value': 1, 'count': 5, 'reference': 'b2'}
        (tmp_path / 'x.json').write_text(json.dumps({'figures': {'f[judge]': figure}}))
        return f'{tmp_path}/x.json\n'

    monkeypatch.setattr(reproduce.Lab, 'run', run)
    measure = "def measure(lab):\n    return lab.evaluate('a', num=5)\n"
    folder = experiment(measure, f=1.0)
    (path,) = reproduce.run(prepare(folder, tmp_path, anew=anew))
    assert json.loads(open(path).read())['measured'] == ['f: 5 against b2']
    expected = pathlib.Path(folder, 'expected.json')
    record = json.loads(expected.read_text()) | {'measured': ['f: 5 against a1']}
    expected.write_text(json.dumps(record))
    with pytest.raises(OSError, match='f: 5 against b2 instead of f: 5 against a1'):
        reproduce.run(prepare(folder, tmp_path, anew=anew))
    assert ran == 2 * [
        ('evaluate', '--workdir', 'a', '--num', '5', ('--reuse', '--overwrite')[anew])
    ]


def test_a_notice_of_preemption_is_passed_on(experiment, tmp_path, monkeypatch):
    """A command that has something to save does so, and the experiment ends after it."""
    waits = tmp_path / 'waits'
    waits.write_text(
        '#!/bin/sh\ntrap "echo saved; exit 5" TERM\ntouch "$READY"\n'
        'for i in $(seq 200); do sleep 0.1; done\n'
    )
    waits.chmod(0o755)
    monkeypatch.setenv('READY', str(tmp_path / 'ready'))
    monkeypatch.setattr(reproduce.sys, 'executable', str(waits))
    (lab,) = prepare(experiment(), tmp_path).labs

    def notice():
        while not (tmp_path / 'ready').exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, ignored := lambda *_: None)
    try:
        threading.Thread(target=notice).start()
        with pytest.raises(OSError, match='ended with code 5'):
            lab.run('train')
        assert signal.getsignal(signal.SIGTERM) is ignored
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    'expected, message',
    [
        (None, 'has no expected.json'),
        ('{}', 'must have figures'),
        ('[', 'must have figures'),
        ('{"figures": {"one": {"value": 1, "tolerance": -1, "source": ""}}}', 'one is .*-1.0'),
        ('{"figures": {"one": {"value": 1, "tolerance": NaN, "source": ""}}}', 'one is .*nan'),
    ],
)
def test_what_is_no_experiment_is_refused(experiment, tmp_path, expected, message):
    folder = experiment(one=1.0)
    path = tmp_path / 'experiments' / 'some' / 'expected.json'
    path.unlink() if expected is None else path.write_text(expected)
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        prepare(folder, tmp_path)


def test_the_command_ends_with_3_where_a_figure_falls_out(experiment, tmp_path, capsys):
    folder = experiment(one=9.0)
    with pytest.raises(SystemExit) as error:
        cli.main(['reproduce', folder, '--runs', str(tmp_path / 'runs')])
    assert error.value.code == 3 and 'one are not as expected' in capsys.readouterr().err


def test_a_sweep_measures_at_every_point_with_the_same_judge(
    experiment, tmp_path, monkeypatch, capsys
):
    ran = []

    def run(lab, *command):
        ran.append(command)
        folder = pathlib.Path(command[4])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'manifest.json').write_text('{"history": [1], "config": {}}')
        return 'picture.png\n'

    monkeypatch.setattr(reproduce.Lab, 'run', run)
    measure = """
def measure(lab):
    lab.judge('judge', 'digits_judge')
    run = lab.train('model', 'digits', train__steps=5)
    return {'one': len(run)}
"""
    sweep = [['net.channels', '8', '24'], ['seed', '1']]
    paths = reproduce.run(prepare(experiment(measure, one=0.0), tmp_path, sweep=sweep))
    assert len(paths) == len(set(paths)) == 2
    judges, models = ran[::2], ran[1::2]
    assert judges[0] == judges[1]
    assert '--config.net.channels=8' in models[0] and '--config.net.channels=24' in models[1]
    assert all('--config.train.steps=5' in command for command in models)
    assert all('--config.seed=1' in command for command in models)
    assert models[0][4] != models[1][4], 'each point has its own run'
    made = json.loads(open(paths[1]).read())['made']
    assert made['sweep'] == {'net.channels': '24', 'seed': '1'} and made['code']['experiment.py']
    assert [of['workdir'] for of in made['runs']] == [judges[1][4], models[1][4]]
    assert all(of['run'] == {'config': {}} for of in made['runs'])
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ['net.channels', 'seed', 'one'] and len(rows) == 2


@pytest.mark.slow
def test_a_sweep_that_was_stopped_goes_on(experiment, tmp_path, monkeypatch):
    measure = "def measure(lab):\n    return {'n': len(lab.train('m', 'digits_judge'))}\n"
    folder, runs = experiment(measure), tmp_path / 'runs' / 'smoke' / 'sweep'
    sweep = [['seed', '1', '2']]
    run = reproduce.Lab.run

    def stopped(lab, *command):
        if lab.point['seed'] == '2':
            raise OSError('stopped')
        return run(lab, *command)

    monkeypatch.setattr(reproduce.Lab, 'run', stopped)
    with pytest.raises(OSError, match='stopped'):
        reproduce.run(prepare(folder, tmp_path, smoke=True, sweep=sweep))
    first, second = (runs / f'seed={i}' / 'm' for i in (1, 2))
    trained = (first / 'metrics.jsonl').read_bytes()
    assert trained and not second.exists()
    monkeypatch.undo()
    assert len(reproduce.run(prepare(folder, tmp_path, smoke=True, sweep=sweep))) == 2
    assert (first / 'metrics.jsonl').read_bytes() == trained  # nothing was trained again
    assert (second / 'metrics.jsonl').read_bytes()


@pytest.mark.parametrize(
    'sweep, message',
    [
        ([['net.width_of_it', '1']], 'no such key'),
        ([['seed']], 'needs values'),
        ([['seed', '1', '1']], 'values that differ'),
        ([['seed', '1', 'x']], 'seed'),
        ([['loss.t_min', '0.1', '1e-1']], 'values that differ'),
        ([['sample.steps', '1', '2']], 'the experiment decides'),
        ([['seed', '1'], ['seed', '2']], 'given once'),
    ],
)
def test_an_impossible_sweep_is_refused(experiment, tmp_path, sweep, message):
    with pytest.raises(ValueError, match=message):
        prepare(experiment(one=1.0), tmp_path, sweep=sweep)


def test_what_the_experiment_varies_itself_is_not_swept(experiment, tmp_path):
    measure = "def measure(lab):\n    lab.train('a', 'digits', net__channels=8)\n    return {}\n"
    job = prepare(experiment(measure), tmp_path, sweep=[['net.channels', '16', '24']])
    with pytest.raises(OSError, match='--sweep net.channels: what it is in a the experiment'):
        reproduce.run(job)


def test_commands_have_the_environment_from_before_and_pictures_come_last(
    experiment, tmp_path, monkeypatch
):
    measure = """
import os
import matplotlib.figure


def measure(lab):
    os.environ['XLA_FLAGS'] = 'changed'
    assert lab.environment.get('XLA_FLAGS') != 'changed'
    lab.show(matplotlib.figure.Figure(), 'picture')
    figure = matplotlib.figure.Figure()
    figure.subplots().imshow([[0.0]])
    lab.show(figure, 'drawn')
    return {'one': float(os.environ['SOME_ONE'])}
"""
    monkeypatch.setenv('XLA_FLAGS', 'before')
    monkeypatch.setenv('SOME_ONE', '9')
    folder = experiment(measure, one=1.0)
    with pytest.raises(OSError, match='not as expected'):
        reproduce.run(prepare(folder, tmp_path))
    assert not pathlib.Path(folder, 'picture.png').exists()
    monkeypatch.setenv('XLA_FLAGS', 'before')
    monkeypatch.setenv('SOME_ONE', '1')
    reproduce.run(prepare(folder, tmp_path))
    picture = str(pathlib.Path(folder, 'picture.png'))
    told = show.text(picture, show.read(picture))
    assert 'made by  jaxdiff reproduce, jaxdiff' in told and f'jaxdiff reproduce {folder}' in told
    for name, generated in (('picture', False), ('drawn', True)):
        with Image.open(pathlib.Path(folder, f'{name}.png')) as image:
            assert (
                'trainedAlgorithmicMedia' in image.text.get('XML:com.adobe.xmp', '')
            ) is generated
