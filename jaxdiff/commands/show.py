"""`jaxdiff show`: how a file was made, and the command that makes it again."""

import json
import shlex

from etils import epath

from jaxdiff import config as configs, provenance

_PARAMETERS = {'ema': 'averaged parameters', 'params': 'last parameters'}


def show(file: str, whole: bool = False) -> str:
    """What a file says of how it was made: in short with the commands, or `whole`, as JSON.

    Raises: ValueError where it can't be read, or says nothing.
    """
    path = epath.Path(file)
    made = provenance.read(path)
    if whole:
        return json.dumps(made, indent=2)
    lines = [f'{path.name}: {made.get("content", "made")} by {made["made_by"]}']
    lines += [f'  {name:<10}{text}' for name, text in _told(made) if text]
    for what, arguments in again(made, path):
        lines += [f'{what}:', f'jaxdiff {shlex.join(arguments)}']
    return '\n'.join(lines)


def again(made: dict, path: epath.Path) -> list[tuple[str, list[str]]]:
    """[(what it does, arguments of `jaxdiff`)] of the commands that make a file again.

    What the config of the run says of sampling now, and said otherwise then, is stated. They write
    beside the file, under another name.
    """
    arguments, out = made.get('command'), path.with_name(_stem(path) + '_again')
    if made['made_by'] == 'jaxdiff train':
        return _training(made, out)
    if not arguments:
        return []
    kind = arguments[0]
    if kind == 'sample' or path.suffix in ('.stablehlo', '.json'):
        arguments = [*arguments, *_settings(made)]
    if kind == 'export':
        ending = '.stablehlo' if path.suffix == '.json' else path.suffix
        out = out.with_name(out.name + ending)
    return [('again', [*arguments, '--out', str(out)])]


def _training(made, out):
    """The run from its first step; and a grid alone, from a checkpoint."""
    run, found = made['run'], []
    if run.get('command'):
        kept = run['command']
        place = kept.index('--workdir') + 1
        other = [*kept[:place], f'{kept[place]}_again', *kept[place + 1 :]]
        found.append(('again, the whole run', other))
    if made.get('generated') and made.get('workdir'):
        drawn = ['sample', '--workdir', made['workdir'], '--step', str(made['step'])]
        drawn += ['--seed', str(made['seed']), *_settings(made)]
        if made.get('prompts') and not any(made['sample']['prompts']):  # captions
            drawn += ['--prompt', *_turn(made['prompts'])]
        what = f'again, while the run keeps step {made["step"]}'
        found.append((what, [*drawn, '--out', str(out)]))
    return found


def _turn(words):
    """What is repeated in them."""
    n = next(n for n in range(1, len(words) + 1) if words[n:] == words[:-n])
    return words[:n]


def _stem(path):
    return path.name.removesuffix(path.suffix).removesuffix('_film')


def _settings(made):
    """Flags for the keys of the section `sample` that the run has otherwise now, if none states."""
    now = made['run']['config'].get('sample', {})
    kept = epath.Path(made['workdir']) / 'config.json'
    try:
        now = configs.loads(kept.read_text()).sample.to_dict() if kept.exists() else now
    except (ValueError, OSError):  # a broken file is of no use for sampling either
        pass
    now, flags = json.loads(json.dumps(now)), []
    for key, value in made['sample'].items():
        if f'sample.{key}' in made.get('stated', ()) or value == provenance.LEFT_OUT:
            continue
        if key not in now or now[key] != value:
            flags.append(f'--config.sample.{key}={value}')
    return flags


def _told(made):
    """(name, what is said of it) pairs; nothing is said of what isn't known."""
    of = made.get('run') if made['made_by'] == 'jaxdiff noise' else made
    trained = (of or {}).get('run') or {}
    sample = (of or {}).get('sample') or {}
    data = made.get('data') or trained.get('data') or {}
    config = made.get('config') or trained.get('config')
    yield 'generated', {True: 'yes, by a model', False: 'no', None: ''}[made.get('generated')]
    if of and 'workdir' in of:
        which = of.get('parameters', '')
        which = _PARAMETERS.get(which, f'average of width {which.removeprefix("ema")}')
        where = '' if epath.Path(of['workdir']).exists() else ', not found from here'
        yield 'model', f'{of["workdir"]}, step {of["step"]}, {which}{where}'
    if config:
        yield 'config', f'sha256 {made.get("config_digest") or provenance.digest(config)}'
    if data:
        size = f'{data["size"]:,} examples'
        yield 'data', f'{data["name"]}, {size}, fingerprint {data["fingerprint"]}'
    if made.get('generated') and sample:
        yield (
            'samples',
            (
                f'{sample["num"]}, by {sample["sampler"]} in {sample["steps"]} steps, '
                f'guidance {sample["guidance"]:g}'
            ),
        )
    yield 'seed', '' if made.get('seed') is None else str(made['seed'])
    yield 'labels', ', '.join(map(str, made.get('labels') or ()))
    for name in ('prompts', 'negative'):
        words = made.get(name) or (sample.get(name) if made.get('generated') else None)
        words = [words] if isinstance(words, str) else list(dict.fromkeys(words or ()))
        yield name, ', '.join(x if x == provenance.LEFT_OUT else repr(x) for x in words if x)
    yield 'PSNR', f'{made["psnr"]:.4g}' if 'psnr' in made else ''
    yield 'SSIM', f'{made["ssim"]:.4g}' if 'ssim' in made else ''
    versions = made.get('versions') or trained.get('versions') or {}
    yield 'versions', ', '.join(f'{k} {v}' for k, v in versions.items() if k.startswith('jax'))
    yield 'commit', trained.get('commit') or ''
    yield 'begun', trained.get('time') or ''
    if made.get('words_left_out'):
        yield 'left out', f'the prompts; put them in place of {provenance.LEFT_OUT!r}'
