"""Labels and prompts as they were asked for, and what they are to a model: its conditions."""

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxdiff import build
from jaxdiff.commands import images as image_inputs, run as runs


def choose_labels(
    labels: list[str] | None, names: list[str], num_classes: int, num: int
) -> np.ndarray | None:
    """The label of each of `num` samples, [num]: the given ones in turn, or all; None without classes.

    Raises: ValueError where a label is neither a class's number nor its name.
    """
    if not num_classes:
        if labels:
            raise ValueError('--label: this model is unconditional')
        return None
    chosen = range(num_classes)
    if labels:
        chosen = [names.index(x) if x in names else _number(x, names, num_classes) for x in labels]
    return np.resize(np.asarray(chosen, np.int32), num)


def choose_prompts(prompts: list[str], model: build.Model, num: int) -> list[str]:
    """The prompt of each of `num` samples, the given ones in turn; '' for all where none is given.

    Raises: ValueError where the model knows no text.
    """
    if not model.text:
        if any(prompts):
            raise ValueError('--prompt: this model knows no text')
        return []
    return [(prompts or [''])[i % max(1, len(prompts))] for i in range(num)]


def conditions(
    model: build.Model, labels: np.ndarray | None, prompts: list[str], captions: bool = False
) -> dict[str, np.ndarray]:
    """The conditions of labels and prompts, one of each a sample.

    Args:
      captions: whether the prompts are captions of data, which may be too long or empty.

    Raises: ValueError where a prompt is too long, or some are empty.
    """
    cond = {} if labels is None else {'label': labels}
    if prompts:
        unique = list(dict.fromkeys(prompts))
        rows = [unique.index(prompt) for prompt in prompts]
        found = build.of_texts(model, unique, captions or unique == [''], captions)
        cond |= {name: np.asarray(x)[rows] for name, x in found.items()}
    return cond


def together(
    trained: runs.Run, prompts: list[str], labels: np.ndarray | None
) -> tuple[list[str], dict[str, np.ndarray]]:
    """The prompts that are drawn at once as one of each sample, and their conditions [num, k, ...]."""
    c, model = trained.config.sample, trained.model
    if len(prompts) != len(c.weights) or not all(prompts):
        raise ValueError(
            f'sample.weights={c.weights} are one for each of as many prompts, got '
            f'{len([prompt for prompt in prompts if prompt])}: give --prompt so many texts'
        )
    each = [conditions(model, labels, [prompt] * c.num) for prompt in prompts]
    cond = jax.tree.map(lambda *x: np.stack(x, 1), *each)
    named = ' + '.join(f'{w:g} {prompt}' for w, prompt in zip(c.weights, prompts))
    return [named] * c.num, cond


def away_from(
    trained: runs.Run, cond: dict[str, np.ndarray], negative: str | None
) -> dict[str, np.ndarray] | None:
    """The conditions that a negative prompt stands for; labels stay hidden."""
    if negative is None:
        return None
    if not trained.model.text:
        raise ValueError('--negative: this model knows no text')
    if trained.config.sample.weaker:
        raise ValueError('--negative and sample.weaker are both what guidance leads away from')
    if trained.config.sample.guidance == 1:
        raise ValueError('--negative works by guidance: give --guidance other than 1')
    num = trained.config.sample.num
    away = {
        name: np.repeat(x, num, 0) for name, x in build.of_texts(trained.model, [negative]).items()
    }
    if 'label' in cond:
        away['label'] = np.full(num, trained.model.num_classes, np.int32)
    return away


def no_labels(model: build.Model, config: ConfigDict, num: int) -> np.ndarray | None:
    """The null label for each of `num` samples; None without classes."""
    if not model.num_classes:
        return None
    if not build.guided(config):
        raise ValueError('this model was trained without the null label: give --label')
    return np.full(num, model.num_classes, np.int32)


def with_source(
    start: image_inputs.Start | None, trained: runs.Run, label: str | None, prompt: str | None
) -> image_inputs.Start | None:
    """`start` with the condition that its images are of."""
    if label is None and prompt is None:
        return start
    config, model = trained.config, trained.model
    if start is None or config.sample.method not in ('invert', 'interpolate'):
        raise ValueError(
            '--source-label and --source-prompt go with --method invert or interpolate'
        )
    num, names = config.sample.num, trained.made['data']['class_names']
    if label is None:
        labels = no_labels(model, config, num)
    else:
        labels = choose_labels([label], names, model.num_classes, num)
    source = conditions(model, labels, choose_prompts([prompt or ''], model, num))
    return start._replace(given=start.given | {'source': source})


def _number(text, names, num_classes):
    if text.isdecimal() and int(text) < num_classes:
        return int(text)
    shown = ', '.join(f'{i} {name}' for i, name in enumerate(names))
    raise ValueError(f'the data has no label {text!r}; it has {shown}')
