"""Data: TFDS sets, folders of images and .npz files as batches that (seed, step) alone decide."""

from jaxdiff.data.dataset import Dataset, batches, load, stream
from jaxdiff.data.prefetch import prefetch

__all__ = ['Dataset', 'batches', 'load', 'prefetch', 'stream']
