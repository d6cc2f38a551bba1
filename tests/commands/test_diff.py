"""In what two runs differ, of folders written by hand and of one that was sampled from."""

import copy
import json
import subprocess
import sys

import numpy as np
import pytest
import tiny
from etils import epath
from PIL import Image

from jaxdiff import cli, config as configs
from jaxdiff.commands import show
from jaxdiff.viz import grid

FIGURE = {'value': 12.0, 'low': 11.0, 'high': 13.0, 'count': 500, 'reference': 'r', 'features': 'f'}
START = {
    'time': '2026-01-01T00:00:00+00:00',
    'step': 0,
    'devices': {'kind': 'cpu', 'count': 2, 'processes': 1},
    'versions': {'python': '3.12.1', 'jaxdiff': '0.1.0', 'jax': '0.10.0', 'flax': '0.12.0'},
    'commit': 'a4cb9c0bb127b2511d881a7ab2e77239561f71da',
}


def losses(steps=range(10, 410, 10), scale=1.0):
    return [
        {'step': s, 'loss': scale * 100 / s, 'loss_logsnr_below_-6': scale, 'skipped_steps': 1}
        | {'steps_per_second': 5.0 if s == 10 else 20.0, 'data_wait_share': 0.1, 'rollbacks': 0}
        for s in steps
    ]


def write(folder, records=(), starts=(), evaluations=None, made=None, evaluated=None, **changes):
    """A run's folder without checkpoints."""
    folder.mkdir()
    config = configs.load('digits', tiny.overrides(**changes))
    data = {'name': 'digits', 'size': 1442, 'fingerprint': 'e6fe', 'shape': [8, 8, 1]}
    history = [START | {'changed': {}}, *starts]
    manifest = {'config': config.to_dict(), 'data': data} | history[-1] | (made or {})
    manifest |= {'history': history}
    (folder / 'manifest.json').write_text(json.dumps(manifest))
    (folder / 'metrics.jsonl').write_text(''.join(json.dumps(r) + '\n' for r in records))
    (folder / 'evaluations').mkdir()
    for name, (step, figures) in (evaluations or {}).items():
        told = {'step': step, 'figures': figures, 'made': (evaluated or {}).get(name, {})}
        (folder / 'evaluations' / name).write_text(json.dumps(told))
    return str(folder)


def diff(capsys, *given):
    capsys.readouterr()
    cli.main(['diff', *map(str, given)])
    return capsys.readouterr().out


def found(capsys, *given):
    return json.loads(diff(capsys, *given, '--json'))


def lines(text, start):
    """The words of the lines that start with a label."""
    return [
        line.strip().removeprefix(start).split()
        for line in text.splitlines()
        if line.strip().startswith(start)
    ]


def test_two_runs_alike_have_no_difference(tmp_path, capsys):
    for name, rate in (('a', 1.0), ('b', 3.0)):
        records = [r | {'steps_per_second': rate} for r in losses()]
        write(tmp_path / name, records, evaluations={'x.json': (400, {'frechet': FIGURE})})
    text = diff(capsys, tmp_path / 'a', tmp_path / 'b')
    assert 'no difference, speed and time aside' in text and 'config: no difference' in text
    assert lines(text, 'seed') == [['0', '=']] and lines(text, 'commit') == [['a4cb9c0', '=']]
    assert found(capsys, tmp_path / 'a', tmp_path / 'b')['differs'] == []


def test_what_differs_is_named_and_nothing_else(tmp_path, capsys):
    a = write(tmp_path / 'a', net__multipliers='(1, 2)')
    made = {'devices': {'kind': 'TPU v4', 'count': 8, 'processes': 2}, 'text': 'abcd'}
    made |= {'versions': START['versions'] | {'jax': '0.10.1'}, 'commit': None}
    made |= {'data': {'name': 'digits', 'size': 1442, 'fingerprint': 'other'}}
    b = write(tmp_path / 'b', made=made, seed=1, net__multipliers='(1, 4)')
    told = found(capsys, a, b)
    assert told['config'] == {'seed': [0, 1], 'net.multipliers': [[1, 2], [1, 4]]}
    wanted = ['config', 'seed', 'data', 'versions', 'devices', 'commit', 'text encoder']
    assert told['differs'] == wanted
    text = diff(capsys, a, b)
    assert '8 TPU v4 in 2 processes' in text and 'fingerprint other' in text
    assert lines(text, 'jax') == [['0.10.0', '0.10.1']] and 'flax' not in text


def test_a_config_of_another_version_is_compared_by_defaults_and_by_what_is_unknown(
    tmp_path, capsys
):
    a, b = write(tmp_path / 'a'), write(tmp_path / 'b')
    manifest = json.loads((tmp_path / 'b' / 'manifest.json').read_text())
    del manifest['config']['net']['remat']
    manifest['config']['net']['newer'] = 3
    (tmp_path / 'b' / 'manifest.json').write_text(json.dumps(manifest))
    assert found(capsys, a, b)['config'] == {'net.newer': [None, 3]}


def test_what_changed_where_a_run_went_on(tmp_path, capsys):
    on = copy.deepcopy(START) | {'step': 6, 'changed': {'train.log_every': [1, 2]}}
    on['devices']['count'] = 4
    a, b = write(tmp_path / 'a', starts=[on]), write(tmp_path / 'b')
    told = found(capsys, a, b)
    assert told['differs'] == ['devices', 'changes at resumes'] and told['resumed']['b'] == []
    assert told['resumed']['a'][0]['changed'].keys() == {'train.log_every', 'devices'}
    assert 'step 6  train.log_every 1 -> 2; devices 2 cpu -> 4 cpu' in diff(capsys, a, b)


def test_curves_are_compared_at_the_steps_that_both_have(tmp_path, capsys):
    a = write(tmp_path / 'a', losses())
    b = write(tmp_path / 'b', losses(range(20, 820, 20), scale=3.0))
    curves = found(capsys, a, b)['curves']
    common = curves['common']
    assert [row['step'] for row in common] == [20, 120, 220, 300, 400]  # of 20, so no window
    for row in common:
        np.testing.assert_allclose(
            [row['a'], row['difference']], [100 / row['step'], 200 / row['step']]
        )
    assert curves['by_noise']['below_-6'] == {'step': 400, 'a': 1.0, 'b': 3.0, 'difference': 2.0}
    assert curves['a']['skipped_steps'] == 40 and curves['a']['steps_per_second'] == 20
    np.testing.assert_allclose(curves['a']['seconds'], 10 / 5 + 390 / 20)
    np.testing.assert_allclose(curves['a']['data_wait_share'], 0.1)
    last = (100 / 390 + 100 / 400) / 2  # of 40 records a twentieth is two
    np.testing.assert_allclose([curves['a']['loss'], curves['a']['lowest']], last)
    assert curves['a']['lowest_step'] == 400 and curves['b']['lowest_step'] == 800
    assert not curves['notes']
    c = write(tmp_path / 'c', losses(range(10, 4010, 10), scale=2.0))
    row = found(capsys, a, c)['curves']['common'][-1]  # the same window, though c is longer
    np.testing.assert_allclose([row['a'], row['b']], [last, 2 * last])
    text = diff(capsys, a, b)
    assert lines(text, 'loss at step 400') == [['0.25', '0.75', '+0.5']]
    assert lines(text, 'time in steps') == [['0', 'min', '22', 's', '0', 'min', '40', 's']]


def test_losses_that_cannot_be_compared_are_told(tmp_path, capsys):
    a = write(tmp_path / 'a', losses(range(10, 50, 20)))
    b = write(tmp_path / 'b', losses(range(20, 60, 20)), loss__weighting='min_snr')
    c = write(tmp_path / 'c', losses(), loss__weighting='eps')
    d = write(tmp_path / 'd', [{'step': 10, 'loss': float('nan')}])
    assert 'no step is recorded in both runs' in diff(capsys, a, b)
    assert 'losses may not be of one kind: loss.weighting differ' in diff(capsys, b, c)
    assert f'{d} has no losses' in diff(capsys, c, d)


def test_figures_stand_side_by_side_and_what_cannot_be_compared_says_why(tmp_path, capsys):
    better = FIGURE | {'value': 9.0, 'low': 8.0, 'high': 10.0}
    near = FIGURE | {'value': 12.5, 'low': 11.5, 'high': 13.5}
    a = {
        'step_300.json': (300, {'frechet': near}),
        'step_400.json': (400, {'frechet': FIGURE, 'recall': FIGURE, 'kernel': FIGURE}),
    }
    b = {
        'step_300.json': (300, {'frechet': FIGURE}),
        'step_800.json': (800, {'frechet': better, 'recall': better | {'count': 1000}}),
        'step_900.json': (900, {'frechet': better | {'features': 'other'}}),
    }
    a = write(tmp_path / 'a', evaluations=a)
    b = write(tmp_path / 'b', evaluations=b)
    rows = found(capsys, a, b)['figures']
    told = [(r['name'], r['a'] and r['a']['step'], r['b'] and r['b']['step']) for r in rows]
    assert told == [
        ('frechet', 300, 300),  # files of one name
        ('frechet', 400, 800),  # the newest seen by the same features
        ('recall', 400, 800),
        ('kernel', 400, None),
    ]
    assert [r['difference'] for r in rows] == [-0.5, -3.0, None, None]
    assert [r['intervals_overlap'] for r in rows] == [True, False, None, None]
    text = diff(capsys, a, b)
    assert 'different counts of samples' in text and '(500 and 1000)' in text
    assert '12 [11, 13] of 500, step 400' in text and '-3, intervals apart' in text
    assert 'only A has it' in text


def test_features_are_the_same_in_whatever_folder(tmp_path, capsys):
    other = FIGURE | {'features': 'others'}
    a = {'seer.json': (300, {'recall[seer]': FIGURE})}
    b = {'x.json': (300, {'recall[moved]': FIGURE}), 'y.json': (300, {'recall[seer]': other})}
    rows = found(
        capsys, write(tmp_path / 'a', evaluations=a), write(tmp_path / 'b', evaluations=b)
    )['figures']
    assert [(row['name'], row['b']['file'], row['difference']) for row in rows] == [
        ('recall[seer]', 'x.json', 0.0)
    ]
    both = {'x.json': a['seer.json'], 'y.json': b['x.json']}  # measured before it moved, and after
    both = write(tmp_path / 'both', evaluations=both)
    rows = found(capsys, both, both)['figures']
    assert {row['name']: row['difference'] for row in rows} == {
        'recall[seer]': 0.0,
        'recall[moved]': 0.0,
    }


def test_samples_are_told_apart_by_how_they_were_drawn_and_real_images_are_none(tmp_path, capsys):
    made = {'sample': {'guidance': 1.0, 'steps': 5}, 'seed': 0, 'evaluated': {'real': None}}
    strong = made | {'sample': {'guidance': 4.0, 'steps': 5}}
    real = {'evaluated': {'real': 'test'}}
    of = {name: (300, {'recall': FIGURE}) for name in ('real.json', 'drawn.json')}
    a = write(tmp_path / 'a', evaluations=of, evaluated={'real.json': real, 'drawn.json': made})
    b = {'drawn.json': (300, {'recall': FIGURE})}
    b = write(tmp_path / 'b', evaluations=b, evaluated={'drawn.json': strong})
    (row,) = found(capsys, a, b)['figures']
    assert row['a']['file'] == 'drawn.json' and row['drawn'] == {'guidance': [1.0, 4.0]}
    assert '+0, intervals overlap; guidance 1.0 -> 4.0' in diff(capsys, a, b)
    anew = {'drawn.json': (300, {'recall': FIGURE})}
    anew = write(tmp_path / 'n', evaluations=anew, evaluated={'drawn.json': made | {'method': 2}})
    assert 'measured in other ways, by other versions' in diff(capsys, b, anew)
    c = write(
        tmp_path / 'c', evaluations={'real.json': of['real.json']}, evaluated={'real.json': real}
    )
    text = diff(capsys, b, c)
    assert 'figures of real images and of samples cannot be compared' in text
    assert 'of 500, real images, test' in text


def test_the_picture_shows_both_and_says_how_it_was_made(tmp_path, capsys):
    a = write(tmp_path / 'a', losses())
    b = write(tmp_path / 'b', losses(scale=3.0), seed=1)
    out = tmp_path / 'new' / 'both'
    assert diff(capsys, a, b, '--out', out).splitlines()[-1] == f'{out}.png'
    made = grid.read_made(epath.Path(f'{out}.png'))
    assert [of['run']['config']['seed'] for of in made['runs']] == [0, 1]
    assert made['devices']['count'] and made['versions']['jax'] and 'commit' in made
    picture = np.asarray(Image.open(f'{out}.png').convert('RGB')).reshape(-1, 3).tolist()
    assert [31, 119, 180] in picture and [255, 127, 14] in picture  # a line each
    text = show.text(f'{out}.png', show.read(f'{out}.png'))
    assert f'jaxdiff diff {a} {b}' in text and f'{b}, config' in text
    assert json.loads(diff(capsys, a, b, '--json', '--out', out, '--overwrite'))['picture']


def test_files_and_runs_of_checkpoints_alone_are_compared_by_how_they_were_made(
    random_run, tmp_path, capsys
):
    for name, seed in (('a', 0), ('b', 7)):
        flags = ['--num', '2', '--seed', str(seed), '--out', str(tmp_path / name)]
        cli.main(['sample', '--workdir', random_run, '--config.sample.clip=false', *flags])
    told = found(capsys, tmp_path / 'a.png', tmp_path / 'b.npz')
    assert told['differs'] == ['seed'] and told['made']['seed'] == [0, 7]
    assert told['config'] == {} and told['curves'] == {}
    assert diff(capsys, random_run, random_run).count('no difference') == 2
    told = found(capsys, random_run, tmp_path / 'a.png')
    assert told['config'] == {'sample.clip': [True, False], 'sample.num': [10, 2]}


def test_another_autoencoder_of_the_same_name_is_seen(tmp_path, capsys):
    from jaxdiff.interop import safetensors

    folders = [write(tmp_path / name) for name in 'abc']
    for folder, value, made in zip(folders, (1.0, 1.0, 2.0), ('here', 'there', 'here')):
        tree = {'w': np.full(3, value, np.float32)}
        safetensors.save(f'{folder}/codec.safetensors', tree, {'made': made})
    assert found(capsys, *folders[:2])['differs'] == []
    assert found(capsys, *folders[1:])['differs'] == ['autoencoder']


@pytest.mark.parametrize(
    'name, content, message',
    [
        (None, None, 'no training run in'),
        ('manifest.json', '{', 'manifest.json cannot be read'),
        ('manifest.json', '{"config": {}}', 'it has no data, versions, devices'),
        ('evaluations/x.json', '{"step": 3}', 'x.json cannot be read: KeyError'),
        ('evaluations/x.json', '{"step": 3, "figures": {"f": {}}}', 'x.json cannot be read'),
    ],
)
def test_what_is_no_run_or_damaged_is_one_line(tmp_path, capsys, name, content, message):
    a, b = write(tmp_path / 'a'), tmp_path / 'b'
    b.mkdir() if name is None else write(b)
    if name:
        (b / name).write_text(content)
    refused(capsys, message, a, b)


def refused(capsys, message, *given):
    with pytest.raises(SystemExit) as stopped:
        cli.main(['diff', *map(str, given)])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and message in error and error.count('\n') == 1, error


def test_bad_requests_are_one_line_and_write_nothing(tmp_path, capsys):
    a, b = write(tmp_path / 'a', losses()), write(tmp_path / 'b')
    refused(capsys, 'no run and no file at', a, tmp_path / 'missing')
    refused(capsys, f'{b} has no losses', a, b, '--out', tmp_path / 'p')
    assert not (tmp_path / 'p.png').exists()
    (tmp_path / 'p.png').touch()
    refused(capsys, 'exists: give another --out', a, a, '--out', tmp_path / 'p')


def test_it_leaves_jax_and_pictures_alone(tmp_path):
    a, b = write(tmp_path / 'a', losses()), write(tmp_path / 'b')
    code = (
        'import sys; from jaxdiff.commands import diff; list(diff.run(diff.prepare(*sys.argv[1:])))'
    )
    code += '; assert not {"jax", "orbax", "matplotlib"} & sys.modules.keys()'
    done = subprocess.run([sys.executable, '-c', code, a, b], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
