"""What files say of how they were made, and that the commands they give make them again."""

import json
import os
import pathlib
import shlex
import shutil
import signal
import sys

import numpy as np
import pytest
import tiny
from etils import epath
from PIL import Image

from jaxdiff import cli, config as configs, provenance
from jaxdiff.commands import noise, show
from jaxdiff.viz import grid


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    """Commands run in this process, and what they set for theirs is set back."""
    for name in ('XLA_FLAGS', 'NPROC'):
        monkeypatch.setenv(name, os.environ[name])
    handler, hook = signal.getsignal(signal.SIGTERM), sys.unraisablehook
    yield
    signal.signal(signal.SIGTERM, handler)
    sys.unraisablehook = hook


def jaxdiff(capsys, *given):
    """What a command prints."""
    capsys.readouterr()
    cli.main(list(map(str, given)))
    return capsys.readouterr().out


def again(capsys, path, which=-1):
    """The arguments of the command that `show` prints, as a shell reads them."""
    lines = jaxdiff(capsys, 'show', path).splitlines()
    found = [line for line in lines if line.startswith('jaxdiff ')]
    return shlex.split(found[which])[1:]


def test_the_command_makes_the_same_samples_whatever_the_run_became(random_run, tmp_path, capsys):
    """The run's newest checkpoint, and what its config says of sampling, are others by then."""
    run = tmp_path / "a run's"
    shutil.copytree(random_run, run)
    shutil.rmtree(run / 'checkpoints' / '6')
    config = configs.loads((run / 'config.json').read_text())
    config.sample.guidance, config.sample.num = 2.0, 5
    (run / 'config.json').write_text(configs.dumps(config))
    asked = ['--label', 3, 7, '--steps', 3, '--config.sample.clip', 'False', '--overwrite']
    jaxdiff(capsys, 'sample', '--workdir', run, f'--out={tmp_path}/a', *asked, '--film')
    shutil.copytree(pathlib.Path(random_run) / 'checkpoints' / '6', run / 'checkpoints' / '6')
    shutil.copy(pathlib.Path(random_run) / 'config.json', run)
    first = np.load(tmp_path / 'a.npz')
    names = ['a.png', 'a.npz', 'a_film.gif', 'a_film.png']
    command, *others = [again(capsys, tmp_path / name) for name in names]
    assert others == [command] * 3
    assert '--overwrite' not in command and command[command.index('--step') + 1] == '3'
    assert command[-1] == str(tmp_path / 'a_again')
    jaxdiff(capsys, *command, '--out', tmp_path / 'b')
    second = np.load(tmp_path / 'b.npz')
    assert len(second['samples']) == 5
    for part in ('samples', 'labels'):
        np.testing.assert_array_equal(first[part], second[part])
    plain = [x for x in command if not x.startswith('--config.sample.guidance')]
    jaxdiff(capsys, *plain, '--out', tmp_path / 'c')
    assert np.any(np.load(tmp_path / 'c.npz')['samples'] != first['samples'])
    told = jaxdiff(capsys, 'show', tmp_path / 'a.png')
    for words in ('step 3, averaged', '5, by ddim in 3 steps, guidance 2', '3, 7', 'by a model'):
        assert words in told
    made = json.loads(jaxdiff(capsys, 'show', '--json', tmp_path / 'a.npz'))
    assert made['config_digest'] == provenance.digest(made['run']['config']) and made['generated']
    assert 'trainedAlgorithmicMedia' in Image.open(tmp_path / 'a.png').text['XML:com.adobe.xmp']


def test_noise_and_exports_say_how_they_were_made(random_run, tmp_path, capsys):
    """And the command that they give asks for the same, with the step that was the newest."""
    asked = ['--workdir', random_run, '--out', tmp_path / 'm.v2.safetensors', '--no-ema']
    made = jaxdiff(capsys, 'export', *asked)
    command = again(capsys, made.strip())
    assert command == [
        *('export', '--workdir', random_run, '--step', '6', '--no-ema'),
        *('--out', str(tmp_path / 'm.v2_again.safetensors')),
    ]
    asked = ['--config', 'digits', *tiny.flags(), '--num', 2, '--out', tmp_path / 'n']
    jaxdiff(capsys, 'noise', *asked, '--seed', 4)
    command = again(capsys, tmp_path / 'n.gif')
    assert command == again(capsys, tmp_path / 'n.png')
    jaxdiff(capsys, *command)
    for ending in ('.png', '.gif'):
        drawn = [
            np.asarray(Image.open(f'{path}{ending}')) for path in (tmp_path / 'n', command[-1])
        ]
        np.testing.assert_array_equal(*drawn)
    config, given = configs.load('digits', tiny.overrides()), ['noise', '--workdir', random_run]
    both = noise.prepare(config, random_run, str(tmp_path / 'b'), command=given).made
    assert both['generated'] and both['content'].endswith('and samples of a model')
    assert both['command'][1:] == ['--seed', '0', '--workdir', random_run, '--step', '6']


def test_words_are_left_out_of_all_that_is_said():
    made = {
        'command': ['sample', '--prompt', 'red', '-1', '--seed', '3', '--negative=blue'],
        'prompts': ['red', '-1'],
        'negative': None,
        'sample': {'prompts': ['red'], 'steps': 3},
        'run': {'config': {'sample': {'prompts': ['']}}, 'command': None},
    }
    made['run']['command'] = ['train', "--config.sample.prompts=('red',)", '--config', 'x']
    found = provenance.without_words(made)
    assert 'red' not in str(found) and 'blue' not in str(found) and '-1' not in str(found)
    hidden = provenance.LEFT_OUT
    assert found['command'] == ['sample', '--prompt', hidden, '--seed', '3', '--negative', hidden]
    assert found['negative'] is None and found['run']['config']['sample']['prompts'] == ['']
    assert made['prompts'] == ['red', '-1'] and found['sample']['steps'] == 3


def test_a_command_is_kept_but_for_its_place():
    given = ['sample', '--step=9', '--out', 'x', '--overwrite', '--config.sample.grid', 'karras']
    given += ['--workdir', 'a b', '--process_id', '1', '--coordinator=h:1', '--label', '1', '2']
    found = provenance.command(given, step=7, workdir='a b')
    assert found == [
        *('sample', '--step', '7', '--workdir', 'a b'),
        *('--config.sample.grid', 'karras', '--label', '1', '2'),
    ]


def test_files_that_say_nothing_are_one_line(tmp_path, capsys):
    picture = np.zeros((4, 4, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / 'bare.png')
    Image.fromarray(picture).save(tmp_path / 'bare.gif')
    np.savez(tmp_path / 'bare.npz', samples=picture)
    (tmp_path / 'bare.json').write_text('{"a": 1}')
    grid.save_png(epath.Path(tmp_path / 'cut.png'), picture, {'made_by': 'x'})
    whole = (tmp_path / 'cut.png').read_bytes()
    (tmp_path / 'cut.png').write_bytes(whole[:40])
    (tmp_path / 'cut.npz').write_bytes((tmp_path / 'bare.npz').read_bytes()[:60])
    (tmp_path / 'text.txt').write_text('words')
    (tmp_path / 'bad.safetensors').write_bytes((9).to_bytes(8, 'little') + b'{"a":')
    for name, message in {
        'bare.png': 'does not say how it was made',
        'bare.gif': 'does not say how it was made',
        'bare.npz': 'does not say how it was made',
        'bare.json': 'does not say how it was made',
        'cut.png': 'is broken, or not the whole of it',
        'cut.npz': 'is broken, or not the whole of it',
        'bad.safetensors': 'is broken, or not the whole of it',
        'text.txt': 'is of no format that jaxdiff writes',
        'none.png': 'there is no file',
        'none.stablehlo': 'none.json',
        '.': 'is a folder',
    }.items():
        with pytest.raises(SystemExit) as ended:
            cli.main(['show', str(tmp_path / name)])
        line = capsys.readouterr().err.strip()
        assert ended.value.code == 2 and message in line and '\n' not in line, line
    with pytest.raises(ValueError, match='no file'):
        show.show(str(tmp_path / 'none.png'))
