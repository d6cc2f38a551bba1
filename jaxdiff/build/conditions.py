"""What a model is conditioned on: from a batch, or a request, to what its network is told.

A condition is a dict of arrays, an entry per example: 'label' [b]; 'image' [b, h, w, k], the picture
of a task; of a text 'tokens' and 'mask',
[b, l], where the model trains its own encoder, or 'text' [b, l, d] and 'mask' [b, l], the states of
a frozen one.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxdiff import data, distributed, text
from jaxdiff.build import tasks
from jaxdiff.build.model import Model
from jaxdiff.data.source import PIXELS

_DEGRADE = 5  # what an example's key is folded with to degrade it: the first five are in use


def told(model: Model, params: Any, cond: dict[str, Array]) -> dict[str, Array]:
    """What the network is told of a condition: tokens become the states of the model's encoder."""
    if 'tokens' not in cond:
        return cond
    states = model.text.module.apply(params['text'], cond['tokens'], cond['mask'])
    rest = {name: value for name, value in cond.items() if name != 'tokens'}
    return rest | {'text': states}


def hide(model: Model, cond: dict[str, Array], hidden: Array) -> dict[str, Array]:
    """The condition without what `hidden`, bool [b], says: the null label, a text without tokens."""
    out = dict(cond)
    if 'label' in cond:
        out['label'] = jnp.where(hidden, model.num_classes, cond['label'])
    if 'mask' in cond:
        out['mask'] = cond['mask'] & ~hidden[:, None]
    return out


def of_batch(model: Model, batch: dict[str, Array], keys: Array) -> dict[str, Array]:
    """The condition of a batch's examples, whose keys, [b], also decide how they are degraded."""
    cond = {name: batch[name] for name in shapes(model, len(keys)) if name != PIXELS}
    if model.task:
        own = jax.vmap(jax.random.fold_in, (0, None))(keys, _DEGRADE)
        cond['image'] = tasks.degraded(model.task, own, batch.get(PIXELS, batch['image']))
    return cond


def shapes(model: Model, batch: int) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of what a batch of so many examples holds to be conditioned on, besides 'image'."""
    found = {}
    if model.num_classes:
        found['label'] = jax.ShapeDtypeStruct((batch,), jnp.int32)
    if model.text:
        size = batch, model.text.length
        found['mask'] = jax.ShapeDtypeStruct(size, jnp.bool_)
        if model.text.params is None:
            found['tokens'] = jax.ShapeDtypeStruct(size, jnp.int32)
        else:
            found['text'] = jax.ShapeDtypeStruct((*size, model.text.width), jnp.float32)
    if model.task and model.codec.shape:
        found[PIXELS] = jax.ShapeDtypeStruct((batch, *model.data_shape), jnp.uint8)
    return found


def conditions_of(model: Model) -> dict[str, tuple]:
    """What a model is conditioned on: the shapes of one example's condition."""
    found = {name: (x.shape, str(x.dtype)) for name, x in shapes(model, 1).items()}
    return found | {'classes': (model.num_classes,), 'image': (model.net.image_channels,)}


def text_of(model: Model) -> dict[str, str]:
    """What a run notes of what reads its texts, to know it again."""
    return {'text': model.text.digest} if model.text else {}


def check_text(model: Model, made: dict) -> None:
    """Raises a ValueError where the model's texts are read by another encoder than a run's were.

    Args:
      made: what the run noted.
    """
    if model.text and made.get('text') != model.text.digest:
        raise ValueError(
            'the tokenizer or text encoder is another one than the run was trained with '
            f'(digest {made.get("text")}, now {model.text.digest}): give its files, text.path, '
            'text.tokenizer and text.vocabulary'
        )


def of_texts(
    model: Model, texts: list[str], empty: bool = False, truncate: bool = False
) -> dict[str, np.ndarray]:
    """The condition of some prompts.

    Args:
      empty: whether there may be empty ones, which tell nothing.
      truncate: whether those that are too long are cut.

    Raises: ValueError where one is too long or, unless `empty`, has no words.
    """
    if model.text.params is not None:
        states, mask = text.encode(model.text, texts, truncate, empty)
        return {'text': np.asarray(states, np.float32), 'mask': mask}
    tokens, mask = model.text.tokenizer.encode(texts, truncate, empty)
    return {'tokens': tokens, 'mask': mask}


def of_captions(
    model: Model, dataset: data.Dataset
) -> Callable[[list[str]], dict[str, np.ndarray]] | None:
    """Captions of a data set -> their condition, for `data.batches`; None for a model without text.

    A frozen encoder reads each caption once; its states are kept where the data set lies. What is
    too long is cut.
    """
    if not model.text:
        return None
    if model.text.params is None:
        encode = model.text.tokenizer.encode
        return lambda texts: dict(zip(('tokens', 'mask'), encode(texts, truncate=True, empty=True)))
    captions = data.captions(dataset)
    row = {caption: i for i, caption in enumerate(captions)}

    def embedded():
        return text.embed(model.text, captions, dataset.place, truncate=True, empty=True)

    if distributed.primary():  # the others read what it has written
        embedded()
    distributed.barrier('captions embedded')
    kept = embedded()

    def of(texts):
        rows = [row[caption] for caption in texts]
        return {'text': np.asarray(kept.states[rows], np.float32), 'mask': kept.mask[rows]}

    return of
