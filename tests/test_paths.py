from etils import epath

from jaxdiff.paths import in_bucket


def test_buckets_are_known_by_their_scheme():
    assert in_bucket(epath.Path('gs://bucket/run') / 'checkpoints')
    assert not in_bucket(epath.Path('runs/digits'))
