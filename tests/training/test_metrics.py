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


def test_no_run_has_no_records(tmp_path):
    assert metrics.read(epath.Path(tmp_path)) == []
