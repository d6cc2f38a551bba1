"""How a file was made, in the file itself: what is written into it, and how it is read back.

What jaxdiff makes holds a dict as JSON: a PNG in its text under 'jaxdiff', a GIF as its comment, an
npz as the array 'made', safetensors as the metadata 'made', a StableHLO program in the JSON beside
it. Its 'command' is that of the command line, with all stated that depends on when it is run.

Nothing here imports jax, so that a file is read at once.
"""

import hashlib
import json
from collections.abc import Sequence

import numpy as np
from etils import epath
from PIL import Image

LEFT_OUT = '(left out)'
# Keys and flags that hold what a user asked for in words.
_WORDS = {'prompts', 'negative', 'source'}
_WORD_FLAGS = {'--prompt', '--negative', '--source-prompt', '--config.sample.prompts'}
# Flags with one value that say where a command ran and wrote, not what it made.
_OF_PLACE = {'--out', '--coordinator', '--num_processes', '--process_id'}
_LONGEST = 100_000_000  # bytes of the header that safetensors allow


def digest(config: dict) -> str:
    """SHA-256 of a config's nested dict, in hexadecimal."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def command(given: Sequence[str] | None, **stated: object) -> list[str] | None:
    """A command's arguments as given, but for where they write to, and with `stated` ones explicit.

    Args:
      given: ['sample', '--workdir', …]; None, and so the result, where no command was given.
      stated: flags with one value, such as step=900.
    """
    if given is None:
        return None
    explicit = {f'--{name}': str(value) for name, value in stated.items()}
    name, *rest = given
    kept = []
    while rest:
        argument = rest.pop(0)
        flag, equals, _ = argument.partition('=')
        if flag in explicit or flag in _OF_PLACE:
            rest = rest if equals else rest[1:]
        elif flag != '--overwrite':
            kept.append(argument)
    return [name, *(x for pair in explicit.items() for x in pair), *kept]


def without_words(made: dict) -> dict:
    """`made` with `LEFT_OUT` in place of each prompt, in its command and in the run's too."""
    found = {'words_left_out': True}
    for key, value in made.items():
        if key == 'command' and value:
            value = _command_without_words(value)
        elif key in _WORDS and value and any(value):
            value = LEFT_OUT
        elif isinstance(value, dict):
            value = {k: v for k, v in without_words(value).items() if k != 'words_left_out'}
        found[key] = value
    return found


def _command_without_words(arguments):
    found, hidden = [], False
    for argument in arguments:
        flag = argument.partition('=')[0]
        if flag in _WORD_FLAGS:
            found += [flag, LEFT_OUT]
            hidden = True
        elif not hidden or argument.startswith('--'):
            found.append(argument)
            hidden = False
    return found


def read(path: epath.Path) -> dict:
    """What a file says of how it was made.

    Raises: ValueError where there is no such file, it is broken, or says nothing.
    """
    place = path.with_suffix('.json') if path.suffix == '.stablehlo' else path
    if not place.exists():
        raise ValueError(f'there is no file {place}')
    if place.is_dir():
        raise ValueError(f'{place} is a folder: give a file')
    with place.open('rb') as file:
        head = file.read(9)
        file.seek(0)
        reader = _reader(head)
        if reader is None:
            raise ValueError(
                f'{place} is of no format that jaxdiff writes: png, gif, npz, safetensors, or '
                'stablehlo with its json'
            )
        try:
            text = reader(file)
        except Exception as error:  # of whatever reads the format
            raise ValueError(f'{place} is broken, or not the whole of it: {error}') from error
    try:
        made = json.loads(text) if isinstance(text, (str, bytes)) else text
    except ValueError:  # another program's
        made = None
    if not isinstance(made, dict) or 'made_by' not in made:
        raise ValueError(
            f'{place} does not say how it was made: jaxdiff did not write it, or another program '
            'removed its metadata'
        )
    return made


def _reader(head):
    """How a file that begins so is read, to JSON or a dict, or None where it says nothing."""
    if head.startswith(b'\x89PNG'):
        return lambda file: Image.open(file).text.get('jaxdiff')
    if head.startswith(b'GIF8'):
        return lambda file: Image.open(file).info.get('comment')
    if head.startswith(b'PK'):
        return _of_arrays
    if head.startswith(b'{'):
        return lambda file: json.load(file).get('made')
    if head[8:] == b'{' and int.from_bytes(head[:8], 'little') <= _LONGEST:
        return _of_safetensors
    return None


def _of_arrays(file):
    with np.load(file, allow_pickle=False) as arrays:
        return str(arrays['made']) if 'made' in arrays else None


def _of_safetensors(file):
    size = int.from_bytes(file.read(8), 'little')
    return json.loads(file.read(size)).get('__metadata__', {}).get('made')
