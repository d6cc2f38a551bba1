"""Finding a prepared TFDS set by its name."""

import difflib
from pathlib import Path

import tensorflow_datasets as tfds
from tensorflow_datasets.core import naming, read_only_builder

from jaxdiff.data.digits import Digits
from jaxdiff.data.emoji import Emoji
from jaxdiff.data.fashion_mnist import FashionMnist
from jaxdiff.data.mnist5k import Mnist5k
from jaxdiff.data.prepare import prepare

OWN = {builder.name: builder for builder in (Digits, Emoji, FashionMnist, Mnist5k)}


def find(name: str, root: Path) -> tfds.core.DatasetBuilder:
    """The builder of a set that is prepared as array_record.

    Our own are prepared if they aren't, but for those whose files a client must bring first. Without a version, ours is the one that stands in the code, of others the newest prepared one.

    Args:
      name: such as 'digits', 'mnist:3.0.1' or 'imagenet_resized/32x32'.
      root: the folder in which TFDS keeps prepared sets.

    Raises:
      FileNotFoundError: the set is not prepared.
      ValueError: no set has this name, or it is prepared in another format.
    """
    found = own(name)
    if found:
        folder = own_folder(*found, root)
        if not folder.exists() and found[0].PACKAGES:
            raise FileNotFoundError(
                f'{name} is not prepared in {root} (data_dir): run jaxdiff prepare {name} '
                f'--dir {root}'
            )
        if not folder.exists():
            prepare(found[0], folder)
        builder = tfds.builder_from_directory(folder)
    else:
        try:
            builder = read_only_builder.builder_from_files(name, data_dir=root)
        except tfds.core.DatasetNotFoundError:
            raise _not_found(name, str(_parse(name)[0]), root) from None
    _check_format(name, builder)
    return builder


def own(name: str) -> tuple[type[tfds.core.GeneratorBasedBuilder], str] | None:
    """The builder and the config's name ('' where it has none) of a set of ours, by its name.

    None where the name is another set's, or another version's than the one in the code.

    Raises: ValueError where it is no name, or the set has no such config.
    """
    short, keywords = _parse(name)
    builder = OWN.get(str(short))
    if not builder or keywords.get('version') not in (None, str(builder.VERSION)):
        return None
    configs = [config.name for config in builder.BUILDER_CONFIGS] or ['']
    config = keywords.get('config') or configs[0]
    if config not in configs:
        allowed = ' or '.join('/'.join(filter(None, (str(short), known))) for known in configs)
        raise ValueError(f'no data set is called {name!r}: it must be {allowed}')
    return builder, config


def own_folder(builder: type[tfds.core.GeneratorBasedBuilder], config: str, root: Path) -> Path:
    """Where a set of ours lies below the folder in which TFDS keeps prepared sets."""
    return root / builder.name / config / str(builder.VERSION)


def _parse(name):
    try:
        return naming.parse_builder_name_kwargs(name)
    except ValueError:
        raise ValueError(
            f"{name!r} is not a data set's name: it must be like 'digits' or 'mnist:3.0.1'"
        ) from None


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
