import pytest

from jaxdiff.data.digits import Digits
from jaxdiff.data.prepare import prepare


def test_the_first_to_be_done_is_kept(tmp_path, capfd):
    folder = tmp_path / 'digits' / '1.0.0'
    prepare(Digits, folder)
    assert capfd.readouterr() == ('', f'preparing digits in {folder}\n')
    kept = {file: file.stat().st_ino for file in folder.iterdir()}
    prepare(Digits, folder)
    assert {file: file.stat().st_ino for file in folder.iterdir()} == kept
    assert list(folder.parent.iterdir()) == [folder]


def test_a_failure_leaves_nothing(tmp_path):
    class Failing(Digits, skip_registration=True):
        def _generate_examples(self, images, labels):
            yield from list(super()._generate_examples(images, labels))[:10]
            raise OSError('disk full')

    with pytest.raises(OSError, match='disk full'):
        prepare(Failing, tmp_path / 'failing' / '1.0.0')
    assert list((tmp_path / 'failing').iterdir()) == []
