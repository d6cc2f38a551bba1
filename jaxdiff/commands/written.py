"""What `jaxdiff sample` writes of its samples: pictures, arrays, and what they say of themselves."""

import json

import numpy as np
from etils import epath

from jaxdiff.commands import images as image_inputs
from jaxdiff.evaluation.images import WINDOW, psnr, ssim
from jaxdiff.viz import grid

_ROWS = 64  # of a picture whose samples stand beside what they are made from


def write(
    out: epath.Path,
    samples: np.ndarray,
    labels: np.ndarray | None,
    prompts: list[str],
    made: dict,
    start: image_inputs.Start | None = None,
) -> None:
    """Writes `out`.npz (samples, and labels and prompts if any) and `out`.png, their grid.

    With `start` the last of the images that they are made from, whole or degraded, are `given` in
    the npz, and the picture has each sample to the right of them.
    """
    arrays = {'samples': samples} if labels is None else {'samples': samples, 'labels': labels}
    arrays['made'] = np.array(json.dumps(made))
    if prompts:
        arrays['prompts'] = np.array(prompts)
    shown = start.shown if start else ()
    if shown:
        arrays['given'] = shown[-1]
    with _with(out, '.npz').open('wb') as file:
        np.savez_compressed(file, **arrays)
    drawn = beside(shown, samples) if shown else picture(samples, labels, prompts)
    grid.save_png(_with(out, '.png'), drawn, made)


def picture(samples: np.ndarray, labels: np.ndarray | None, prompts: list[str] = ()) -> np.ndarray:
    """The grid of (at most 1,024) samples; labels, or prompts, that come in turn stand in columns."""
    kinds = len(set(prompts)) if prompts else 0 if labels is None else len(set(labels.tolist()))
    columns = None
    if 2 <= kinds <= 20 and len(samples) >= kinds:
        square = len(samples[:1024]) ** 0.5
        columns = kinds * max(1, round(square / kinds))
    return grid.tile(samples[:1024], columns)


def beside(shown: tuple[np.ndarray, ...], samples: np.ndarray) -> np.ndarray:
    """The grid of (at most 64) samples, each to the right of what it is made from."""
    together = np.stack([*shown, samples], 1)[:_ROWS]
    across = max(1, round(len(together) ** 0.5 / together.shape[1] ** 0.5))
    return grid.tile(together.reshape(-1, *samples.shape[1:]), across * together.shape[1])


def nearness(start: image_inputs.Start | None, samples: np.ndarray) -> dict:
    """How near the samples, and what they are made from, come to the whole images; {} unknown."""
    if start is None or start.whole is None:
        return {}
    found = {}
    for name, images in (('samples', samples), ('given', start.shown[-1])):
        found[name] = {'psnr': float(np.mean(psnr(start.whole, images)))}
        if min(images.shape[1:3]) >= WINDOW:
            found[name]['ssim'] = float(np.mean(ssim(start.whole, images)))
    return {'nearness': found}


def told(near: dict) -> str:
    """What `nearness` found, in a line."""

    def of(name):
        return ', '.join(f'{k.upper()} {v:.4g}' for k, v in near['nearness'][name].items())

    return f'to the whole images: samples {of("samples")}; what was given {of("given")}'


def without_words(made: dict) -> dict:
    """What is written without any prompt, but for which there were."""
    source = made.get('source') or [None, None]
    words = (
        ('prompt', made['prompts']),
        ('negative', made['negative']),
        ('source-prompt', source[1]),
    )
    left_out = [name for name, there in words if there]
    made = _without_prompts(made)
    made |= {'prompts': None, 'negative': None, 'words_left_out': left_out or ['prompt']}
    return made | ({'source': [source[0], None]} if 'source' in made else {})


def _without_prompts(made):
    """Without those in the sections `sample` of the run, and of its guides' runs."""
    if not isinstance(made, dict):
        return made
    found = {key: _without_prompts(value) for key, value in made.items()}
    if isinstance(found.get('sample'), dict):
        found['sample']['prompts'] = ['']
    return found


def _with(out, ending):
    return out.parent / (out.name + ending)


def film_path(out: epath.Path, ending: str) -> epath.Path:
    """Where the film of samples is written."""
    return _with(out, f'_film{ending}')


def outputs(out: epath.Path, film: bool) -> list[epath.Path]:
    """All files that are written, the picture first."""
    films = [film_path(out, '.png'), film_path(out, '.gif')] if film else []
    return [_with(out, '.png'), _with(out, '.npz'), *films]
