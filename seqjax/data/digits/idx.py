"""MNIST's files: images and labels as IDX, packed by gzip or not."""

from __future__ import annotations

import math
import pathlib
from typing import NamedTuple

import numpy as np

from seqjax.files import packed
from seqjax.types import InputError

FILES = {
  'train_images': 'train-images-idx3-ubyte.gz',
  'train_labels': 'train-labels-idx1-ubyte.gz',
  'test_images': 't10k-images-idx3-ubyte.gz',
  'test_labels': 't10k-labels-idx1-ubyte.gz',
}
NUM_CLASSES = 10
_SIDE = 28  # pixels
_MAX_BYTES = 2**30  # of an unpacked file; the largest of EMNIST has 0.55e9


class Images(NamedTuple):
  """Some images and what they show."""

  x: np.ndarray  # uint8 [N, T], row by row
  y: np.ndarray  # int32 [N]


def images_of(images: pathlib.Path, labels: pathlib.Path) -> Images:
  """The images and labels of two IDX files, gzip or not.

  Raises:
    InputError: A file cannot be read or is no such file, images have another size, or
      they are not as many.
  """
  x, y = _idx(images, 3), _idx(labels, 1)
  if x.shape[1:] != (_SIDE, _SIDE):
    size = ' x '.join(map(str, x.shape[1:]))
    raise InputError(
      f'{images}: expected images of {_SIDE} x {_SIDE} pixels, got {size}'
    )
  if len(x) != len(y) or not len(x) or y.max() >= NUM_CLASSES:
    raise InputError(
      f'{images} has {len(x)} images and {labels} {len(y)} labels: expected as many, '
      f'of 0 to {NUM_CLASSES - 1}'
    )
  return Images(x.reshape(len(x), -1), y.astype(np.int32))


def _idx(path: pathlib.Path, rank: int) -> np.ndarray:
  """An IDX file of bytes: two zeros, a type, the rank, the sizes, the values."""
  content = packed.read(path, _MAX_BYTES)
  head = 4 + 4 * rank
  sizes = [int.from_bytes(content[i : i + 4], 'big') for i in range(4, head, 4)]
  magic = bytes([0, 0, 8, rank])
  if content[:4] != magic or len(content) != head + math.prod(sizes):
    raise InputError(f'{path}: no IDX file of bytes [{", ".join("N" * rank)}], or cut')
  return np.frombuffer(content, np.uint8, offset=head).reshape(sizes)
