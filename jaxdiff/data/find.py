"""Finding a prepared TFDS set by its name."""

import difflib
from pathlib import Path

import tensorflow_datasets as tfds
from tensorflow_datasets.core import naming, read_only_builder

from jaxdiff.data.digits import Digits
from jaxdiff.data.fashion_mnist import FashionMnist
from jaxdiff.data.prepare import prepare

OWN = {builder.name: builder for builder in (Digits, FashionMnist)}


def find(name: str, root: Path) -> tfds.core.DatasetBuilder:
    """The builder of a set that is prepared as array_record; our own are prepared if they aren't.

    Without a version, ours is the one that stands in the code, of others the newest prepared one.

    Args:
      name: such as 'digits', 'mnist:3.0.1' or 'imagenet_resized/32x32'.
      root: the folder in which TFDS keeps prepared sets.

    Raises:
      FileNotFoundError: the set is not prepared.
      ValueError: no set has this name, or it is prepared in another format.
    """
    try:
        parsed, keywords = naming.parse_builder_name_kwargs(name)
    except ValueError:
        raise ValueError(
            f"{name!r} is not a data set's name: it must be like 'digits' or 'mnist:3.0.1'"
        ) from None
    own = OWN.get(str(parsed))
    if own and keywords.get('version') in (None, str(own.VERSION)):
        folder = root / own.name / str(own.VERSION)
        if not folder.exists():
            prepare(own, folder)
        builder = tfds.builder_from_directory(folder)
    else:
        try:
            builder = read_only_builder.builder_from_files(name, data_dir=root)
        except tfds.core.DatasetNotFoundError:
            raise _not_found(name, str(parsed), root) from None
    _check_format(name, builder)
    return builder


def _not_found(name, short, root):
    if short in OWN:
        return FileNotFoundError(
            f'{name} is not prepared in {root} (data_dir); '
            f'jaxdiff itself prepares {short}:{OWN[short].VERSION}'
        )
    known = {*OWN, *tfds.list_builders(with_community_datasets=False)}
    if short not in known:
        close = difflib.get_close_matches(short, known) or sorted(OWN)
        return ValueError(
            f'no data set is called {name!r}, nor lies one prepared in {root}: '
            f'did you mean {" or ".join(close)}?'
        )
    return FileNotFoundError(
        f'{name} is not prepared in {root} (data_dir): prepare it once, with a network and '
        f'TensorFlow, by python -c "import tensorflow_datasets as tfds; tfds.builder({name!r}, '
        f"file_format='array_record', data_dir={str(root)!r}).download_and_prepare()\""
    )


def _check_format(name, builder):
    formats = {str(form.value) for form in builder.info.available_file_formats()}
    if 'array_record' not in formats:
        raise ValueError(
            f'{name} is prepared as {", ".join(formats)}, array_record is needed: convert it once, '
            'where tensorflow, apache-beam and mlcroissant are installed, by tfds convert_format '
            f'--dataset_version_dir={builder.data_dir} --out_file_format=array_record'
        )
