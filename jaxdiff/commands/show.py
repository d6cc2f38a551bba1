"""`jaxdiff show`: what made a file, and the command that makes it again."""

import json
import shlex
import zipfile
from typing import Any

import numpy as np
import safetensors
from etils import epath
from PIL import Image

from jaxdiff import config as configs
from jaxdiff.configs import default

_DAMAGED = OSError, ValueError, AttributeError, zipfile.BadZipFile, safetensors.SafetensorError
_LEFT_OUT = '…'  # stands where words were left out


def read(file: str) -> dict:
    """How a file that jaxdiff wrote was made: a .png, .gif, .npz, .safetensors or a sampler's .json.

    Raises: ValueError where it can't be read or doesn't say; FileNotFoundError where there is none.
    """
    path = epath.Path(file)
    if path.suffix == '.stablehlo':  # which says it in the file beside it
        path = path.with_suffix('.json')
    if not path.exists():
        raise FileNotFoundError(f'there is no file {path}')
    if path.suffix not in _READERS:
        raise ValueError(f'{file}: what says how it was made ends in {", ".join(_READERS)}')
    try:
        made = _READERS[path.suffix](path)
    except _DAMAGED as error:
        raise ValueError(f'{file} cannot be read: {error}') from error
    if not isinstance(made, dict) or 'made_by' not in made:
        raise ValueError(
            f'{file} does not say how it was made: jaxdiff did not write it, or not so'
        )
    return made


def text(file: str, made: dict) -> str:
    """The lines that say how a file was made, the command last."""
    rows = [('file', f'{file}: {_kind(made)}'), ('made by', made_by(made))]
    model = made if 'workdir' in made else made.get('run') or {}
    if 'workdir' in model:
        rows.append(('model', f'{model["workdir"]}, step {model["step"]}, {model["parameters"]}'))
    elif 'step' in made:
        rows.append(('model', f'step {made["step"]} of the run itself'))
    for of in made['runs'] if 'runs' in made else [{'run': trained(made)}]:
        where = f'{of["workdir"]}, ' if 'workdir' in of else ''
        if 'config' in of['run']:  # what a script draws needs no run
            rows.append(('run', where + _run(of['run'])))
    rows += [(key, words) for key in _SHOWN if (words := _words(made.get(key)))]
    for name, guide in (made.get('guides') or {}).items():
        rows.append((name, f'{guide["workdir"]}, step {guide["step"]}, {guide["parameters"]}'))
    if made.get('words_left_out'):
        rows.append(('prompts', 'left out on request'))
    if 'sample' in made:
        c = made['sample']
        rows.append(('sampling', f'{c["sampler"]}, {c["steps"]} steps, guidance {c["guidance"]:g}'))
    grid = made['made_by'] == 'jaxdiff train' and made.get('generated')
    if grid and not trained(made)['config'].get('task'):
        rows.append(('alone', shlex.join(['jaxdiff', *_grid(made)])))
    rows.append(('again', shlex.join(command(made))))
    width = max(len(label) for label, _ in rows)
    return '\n'.join(f'{label:<{width}}  {value}' for label, value in rows)


def trained(made: dict) -> dict:
    """The manifest of the run that something comes from; of what comes from none, all it says."""
    return trained(made['run']) if made.get('run') else made


def command(made: dict) -> list[str]:
    """The command that makes it again, as it would be typed now.

    Words that were left out stand as '…'. What was sampled with is compared with what the run's
    folder, where it is still there, says now.
    """
    if made['made_by'].endswith('.py'):  # a script of the repository
        return ['python', made['made_by']]
    return ['jaxdiff', *_COMMANDS[made['made_by']](made)]


def _sample(made):
    out = ['sample', '--workdir', made['workdir'], *_which(made), '--seed', str(made['seed'])]
    if made.get('labels'):
        out += ['--label', *made['labels']]
    left_out = made.get('words_left_out', ())
    for flag, words in (('prompt', made.get('prompts')), ('negative', made.get('negative'))):
        words = [words] if isinstance(words, str) else words or ()
        out += [f'--{flag}', *words] if any(words) else []
        out += [f'--{flag}', _LEFT_OUT] if f'{flag}' in left_out else []
    images = made.get('images') or {}
    for flag, given in (('image', images.get('files')), ('mask', images.get('mask'))):
        out += [f'--{flag}', *given] if given else []
    out += ['--examples', images['examples']] if 'examples' in images else []
    out += ['--degrade'] if images.get('degraded_here') else []
    for flag, word in zip(('label', 'prompt'), made.get('source') or ()):
        out += [f'--source-{flag}', word] if word is not None else []
    out += ['--source-prompt', _LEFT_OUT] if 'source-prompt' in left_out else []
    out += ['--film'] if made.get('film') else []
    out += ['--no-words'] if left_out else []
    return [*out, *_changes(made)]


def _evaluate(made):
    asked = made['evaluated']
    out = ['evaluate', '--workdir', made['workdir'], *_which(made), '--seed', str(made['seed'])]
    for flag, words in asked.items():
        words = words if isinstance(words, list) else [words]
        out += [f'--{flag.replace("_", "-")}', *map(str, words)] if words != [None] else []
    # Whose defaults are not the run's: 5,000 samples, by the captions of the data.
    said = ['sample.num', *['sample.prompts'] * isinstance(made.get('prompts'), list)]
    return [*out, *_changes(made, said)]


def _export(made):
    out = ['export', '--workdir', made['workdir'], *_which(made), '--out', made['out']]
    return [*out, *(_changes(made) if made['out'].endswith('.stablehlo') else ())]


def _train(made):
    return ['train', *_config((made.get('run') or made)['config']), '--workdir', 'NEW_FOLDER']


def _grid(made):
    """Training's grid from its checkpoint, while the run keeps that."""
    words = made.get('prompts') or []
    if any(made['sample']['prompts']):  # which the config says
        words = []
    turn = next((n for n in range(1, len(words)) if words[n:] == words[:-n]), len(words))
    return _sample(made | {'prompts': words[:turn]})


def _noise(made):
    out = ['noise', *_config(made['config']), '--seed', str(made['seed'])]
    out += ['--num', str(len(made['examples']))]
    run = made.get('run')
    return out + (['--workdir', run['workdir'], '--step', str(run['step'])] if run else [])


def _diff(made):
    return ['diff', *(of['workdir'] for of in made['runs'])]


def _reproduce(made):
    out = ['reproduce', made['experiment'], '--runs', made['where'], *['--smoke'] * made['smoke']]
    return out + [part for key, value in made['sweep'].items() for part in ('--sweep', key, value)]


_COMMANDS = {
    'jaxdiff diff': _diff,
    'jaxdiff reproduce': _reproduce,
    'jaxdiff evaluate': _evaluate,
    'jaxdiff sample': _sample,
    'jaxdiff train': _train,
    'jaxdiff noise': _noise,
    'jaxdiff export': _export,
}


def _which(made):
    """The flags of a checkpoint and its parameters."""
    which = made['parameters']
    out = ['--step', str(made['step'])]
    if which == 'params':
        return [*out, '--no-ema']
    return out if which == 'ema' else [*out, '--ema-width', which.removeprefix('ema')]


def _changes(made, said=()):
    """The flags of what differs from the run, as its folder says it now, and of what must be said."""
    config = epath.Path(made['workdir']) / 'config.json'
    stands = json.loads(config.read_text()) if config.exists() else made['run']['config']
    stands = configs.flat(configs.loads(json.dumps(stands)))
    wanted = {f'sample.{key}': value for key, value in made['sample'].items()} | made['changed']
    if made.get('words_left_out'):
        wanted.pop('sample.prompts', None)  # emptied, and told by --prompt
    return [
        f'--config.{key}={value}'
        for key, value in wanted.items()
        if key in said or (key in stands and _plain(stands[key]) != _plain(value))
    ]


def _config(config):
    """The flags of a config, against the default one."""
    loaded = configs.loads(json.dumps(config))
    changed = configs.differences(default.get_config(), loaded)
    return ['--config', 'default', *(f'--config.{key}={new}' for key, (_, new) in changed.items())]


def _plain(value: Any):
    return list(value) if isinstance(value, (tuple, list)) else value


_SHOWN = (
    'seed',
    'labels',
    'prompts',
    'negative',
    'images',
    'source',
    'psnr',
    'ssim',
    'accuracy',
    'nearness',
    'not_finite',
)


def _kind(made):
    if 'content' in made:
        return made['content']
    if made['made_by'] == 'jaxdiff noise':
        return 'real examples under noise' + (', and generated ones' if made.get('run') else '')
    if made['made_by'] == 'jaxdiff export':
        return 'parameters of a model, or its sampler'
    return 'generated by a model' if made.get('generated') else 'real images as a model sees them'


def _run(run):
    data, digest = run['data'], configs.digest(run['config'])
    return f'config {digest}, data {data["name"]}, code {run.get("commit") or "unknown"}'


def made_by(made: dict) -> str:
    """What wrote a file, in which versions, where, from which code."""
    found = made if 'versions' in made else made['run']
    versions = found['versions']
    parts = [
        f'{name} {versions[name]}' for name in ('jaxdiff', 'jax', 'python') if name in versions
    ]
    if 'devices' in found:
        parts += [f'on {devices(found)}', f'code {commit(found)}']
    return ', '.join([made['made_by'], *parts])


def devices(made: dict) -> str:
    """The devices of a manifest in words, such as '8 TPU v5e in 2 processes'."""
    found = made['devices']
    processes = f' in {found["processes"]} processes' if found['processes'] > 1 else ''
    return f'{found["count"]} {found["kind"]}{processes}'


def commit(made: dict) -> str:
    """The commit of a manifest, short, '+' where the code was changed since; '?' for none."""
    found = made.get('commit') or '?'
    return found[:7] + '+' * found.endswith('+')


def _words(value):
    """A value in words; none for what is not there."""
    if isinstance(value, dict):
        told = {key: _words(inner) for key, inner in value.items()}
        return '; '.join(f'{key} {words}' for key, words in told.items() if words)
    if isinstance(value, list):
        return ', '.join(_words(inner) for inner in value if inner is not None)
    if value is None or value is False:
        return ''
    return f'{value:.4g}' if isinstance(value, float) else str(value)


def _png(path):
    with path.open('rb') as file, Image.open(file) as image:
        return json.loads(image.text.get('jaxdiff', 'null'))


def _gif(path):
    with path.open('rb') as file, Image.open(file) as image:
        comment = image.info.get('comment', b'')
        return json.loads(comment) if comment.startswith(b'{') else None


def _npz(path):
    with path.open('rb') as file, np.load(file) as arrays:
        return json.loads(str(arrays['made'])) if 'made' in arrays else None


def _safetensors(path):
    with safetensors.safe_open(path, 'numpy') as file:
        return json.loads((file.metadata() or {}).get('made', 'null'))


_READERS = {
    '.png': _png,
    '.gif': _gif,
    '.npz': _npz,
    '.safetensors': _safetensors,
    '.json': lambda path: json.loads(path.read_text()).get('made'),
}
