"""What a data set must be before anything is computed from it."""

import numpy as np

EXAMPLES = 64  # how many are looked at, spread evenly


def check(dataset) -> None:
    """Reads a few examples of a `Dataset`, and raises a ValueError where one isn't as declared."""
    name, source, classes = dataset.name, dataset.source, len(dataset.class_names)
    if not len(source):
        raise ValueError(f'{name} holds no images; at least one is needed')
    if dataset.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f'{name}: images must have 1, 3 or 4 channels, they have {dataset.shape[-1]}'
        )
    for i in sorted({int(i) for i in np.linspace(0, len(source) - 1, EXAMPLES)}):
        element = source[i]
        if 'image' not in element:
            raise ValueError(f"{name}: example {i} must have an 'image', it has {sorted(element)}")
        image = element['image']
        if image.dtype != np.uint8:
            raise ValueError(f'{name}: image {i} must be uint8 (0 to 255), it is {image.dtype}')
        if image.shape != dataset.shape:
            raise ValueError(
                f'{name}: image {i} must have the shape {dataset.shape} of the set, it has {image.shape}'
            )
        if classes and 'label' not in element:
            raise ValueError(
                f'{name}: example {i} of {classes} classes must have a label, it has none'
            )
        if classes and not 0 <= element['label'] < classes:
            raise ValueError(
                f'{name}: label {element["label"]} of example {i} must lie between 0 and {classes - 1}'
            )
        if dataset.captioned:
            _check_text(name, i, element.get('text'))


def _check_text(name, i, text):
    texts = text if isinstance(text, tuple) else (text,)
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(
            f"{name}: the 'text' of example {i} must be a str or a tuple of at least one, "
            f'it is {text!r}'
        )
