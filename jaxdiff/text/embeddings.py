"""A data set's captions as a frozen encoder sees them, computed once and kept on disk."""

import os
import uuid
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from jaxdiff.data.fingerprint import digest
from jaxdiff.text.encoder import Encoder, states


class Embeddings(NamedTuple):
    """Row i is of caption i; both are read from the file when asked for."""

    states: np.ndarray  # float16 [n, length, width], 0 where the mask is False
    mask: np.ndarray  # bool [n, length]


def embed(
    encoder: Encoder,
    captions: list[str],
    folder: str | Path,
    batch_size: int = 64,
    truncate: bool = False,
    empty: bool = False,
) -> Embeddings:
    """The embeddings of all captions, from a file in `folder` that is made where there is none.

    The file's name is a digest of all tokens and of the encoder, so that other captions, another
    encoder or another length have another file. It is written under a name of its own, '*.new',
    and gets this one when it is whole. It holds n rows of `length * (2 * width + 1)` bytes.

    float16, at half of float32's room on the disk, costs MiniLM's states of 640 emoji's names 3e-4 of
    their length at most, and their means 1.5e-4, where the nearest other mean is 0.11 away.

    Args:
      batch_size: captions that are encoded at once.
      truncate: whether captions that are too long are cut.
      empty: whether there may be empty ones.

    Raises: ValueError where a caption is too long or empty; OSError where the folder can't be
      written to, or the disk is full.
    """
    tokens, mask = encoder.tokenizer.encode(captions, truncate, empty)
    name = digest(tokens.tobytes(), mask.tobytes(), encoder.digest)
    file = Path(folder).expanduser() / f'text_{name}.npy'
    shape = encoder.length, encoder.width
    row = np.dtype([('states', '<f2', shape), ('mask', '?', shape[:1])])
    if not file.exists():
        _write(file, row, encoder, tokens, mask, batch_size)
    try:
        rows = np.load(file, mmap_mode='r')
    except (ValueError, EOFError):  # cut short since
        rows = np.empty(0)
    if rows.dtype != row or rows.shape != (len(captions),):
        raise ValueError(f'{file} does not hold the embeddings of these captions: delete it')
    return Embeddings(rows['states'], rows['mask'])


def _write(file, row, encoder, tokens, mask, batch_size):
    header = {'descr': np.lib.format.dtype_to_descr(row), 'fortran_order': False}
    encoder = encoder._replace(params=jax.device_put(encoder.params))  # once, not at each batch
    new = file.parent / f'{file.name}.{uuid.uuid4().hex[:8]}.new'  # others may be at it too
    try:
        with new.open('wb') as out:
            np.lib.format.write_array_header_2_0(out, header | {'shape': (len(tokens),)})
            for start in tqdm(
                range(0, len(tokens), batch_size),
                desc='text embeddings',
                unit='batch',
                dynamic_ncols=True,
            ):
                part = slice(start, start + batch_size)
                out.write(_rows(row, encoder, tokens[part], mask[part], batch_size).tobytes())
            out.flush()
            os.fsync(out.fileno())
        new.rename(file)
    except OSError as error:
        raise OSError(
            f'the embeddings of the captions cannot be kept in {file.parent} ({error.strerror}): '
            'give a folder that can be written to, on a disk with room'
        ) from error
    finally:
        if new.exists():
            new.unlink()


def _rows(row, encoder, tokens, mask, batch_size):
    rows = np.empty(len(tokens), row)
    more = ((0, batch_size - len(tokens)), (0, 0))  # one shape, so one trace
    found = states(encoder.module, encoder.params, np.pad(tokens, more), np.pad(mask, more))
    with np.errstate(over='ignore'):  # told of below
        rows['states'], rows['mask'] = np.asarray(found)[: len(tokens)], mask
    if not np.isfinite(rows['states']).all():
        raise ValueError('the text encoder gives states that float16 cannot hold')
    return rows
