from etils import epath

from jaxdiff.training import metrics


def test_a_run_that_goes_on_forgets_what_came_after_its_checkpoint(tmp_path):
    folder = epath.Path(tmp_path)
    log = metrics.MetricsLog(folder, 0)
    for step in (1, 2, 3):
        log.write(step, loss=float(step))
    log.close()
    with (folder / 'metrics.jsonl').open('a') as file:
        file.write('{"step": 4, "lo')  # killed in the middle of a line
    log = metrics.MetricsLog(folder, 2)
    log.write(3, loss=30.0)
    log.close()
    assert metrics.read(folder) == [
        {'step': 1, 'loss': 1.0},
        {'step': 2, 'loss': 2.0},
        {'step': 3, 'loss': 30.0},
    ]
    assert list((folder / 'tensorboard').glob('events*'))


def test_broken_lines_are_told_and_left_out(tmp_path, capsys):
    lines = ['{"step": 1, "loss": 1.0}', '{"step": 2, "lo', '[]', '\x00\x00', '{"step": 5}', '']
    (tmp_path / 'metrics.jsonl').write_text('\n'.join(lines))
    assert metrics.read(epath.Path(tmp_path)) == [{'step': 1, 'loss': 1.0}, {'step': 5}]
    told = capsys.readouterr().err.splitlines()
    assert [line.split(' of ')[0] for line in told] == [
        f'warning: line {number}' for number in (2, 3, 4)
    ]


def test_no_run_has_no_records(tmp_path):
    assert metrics.read(epath.Path(tmp_path)) == []
