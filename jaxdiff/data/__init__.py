"""Data: TFDS sets, folders of images and .npz files as batches that (seed, step) alone decide."""

from jaxdiff.data.dataset import Dataset, batches, captions, load, overlap, stream, titles
from jaxdiff.data.prefetch import prefetch

__all__ = ['Dataset', 'batches', 'captions', 'load', 'overlap', 'prefetch', 'stream', 'titles']
