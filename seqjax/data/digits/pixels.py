"""Handwritten digits, one pixel a step: those of a package, MNIST, made-up ones."""

from __future__ import annotations

import logging
import pathlib
from typing import Any, NamedTuple

import numpy as np

from seqjax.data import cache, network
from seqjax.data.digits.idx import FILES, NUM_CLASSES, Images, images_of
from seqjax.types import Examples, InputError

URL = 'https://storage.googleapis.com/cvdf-datasets/mnist/'
HIGHEST = {'digits': 16, 'mnist': 255, 'synthetic': 16}  # what a pixel is at most
_VERSION = 1  # to be raised when the same files would be prepared otherwise
_VALIDATION = 0.1  # of the images to train on, the last ones
# Seven segments on 8 x 8 pixels: top, left and right below it, middle, left and right
# below that, bottom; and which of them, from the lowest bit on, a digit has.
_SEGMENTS: tuple[Any, ...] = (
  np.s_[0, 2:6], np.s_[:4, 1], np.s_[:4, 6], np.s_[3, 2:6], np.s_[4:7, 1],
  np.s_[4:7, 6], np.s_[6, 2:6],
)  # fmt: skip
_LIT = (0b1110111, 0b0100100, 0b1011101, 0b1101101, 0b0101110, 0b1101011, 0b1111011,
        0b0100101, 0b1111111, 0b1101111)  # fmt: skip

_log = logging.getLogger(__name__)


class Parts(NamedTuple):
  """x [N, T, 1] of 0 to 1, y int32 [N]."""

  train: Examples
  validation: Examples
  test: Examples


def load(dataset: str, data_dir: str = '', cache_dir: str = '') -> Parts:
  """The images of a collection as sequences.

  Args:
    dataset: 'digits', 1,797 of 8 x 8 pixels that scikit-learn ships, a fifth of them
      drawn as test; 'mnist', 70,000 of 28 x 28; 'synthetic', generated 8 x 8 ones.
    data_dir: Folder that may hold the four files of MNIST, packed or not. Empty, or a
      folder that does not: they are downloaded.
    cache_dir: Where these are kept; as for `cache.default_root`.

  Raises:
    InputError: A package, a file or the network is missing, or a file is damaged.
  """
  if dataset == 'mnist':
    train, test = _mnist(data_dir, cache_dir)
  else:
    train, test = _cut(synthetic(0, 600) if dataset == 'synthetic' else _digits())
  cut = int(len(train.x) * (1 - _VALIDATION))
  parts = (train.x[:cut], train.y[:cut]), (train.x[cut:], train.y[cut:]), test
  return Parts(*(Examples(_scaled(x, HIGHEST[dataset]), y) for x, y in parts))


def _scaled(x: np.ndarray, highest: int) -> np.ndarray:
  return (x[..., None] / highest).astype(np.float32)


def order(num_pixels: int, *, permuted: bool) -> np.ndarray:
  """The order in which the pixels are read; permuted, it is always the same one."""
  if not permuted:
    return np.arange(num_pixels)
  return np.random.RandomState(0).permutation(num_pixels)


def synthetic(seed: int, number: int) -> Images:
  """Digits of seven segments, moved by a pixel at most, with noise.

  Drawn from RandomState, whose stream NumPy promises for all times.
  """
  rng = np.random.RandomState(seed)
  y = rng.randint(NUM_CLASSES, size=number)
  x = rng.randint(4, size=(number, 8, 8))
  for image, digit in zip(x, y, strict=True):
    shape = np.zeros((8, 8), int)
    for k, segment in enumerate(_SEGMENTS):
      if _LIT[digit] >> k & 1:
        shape[segment] = 12
    image += np.roll(shape, rng.randint(2), axis=0)
  return Images(x.reshape(number, -1).astype(np.uint8), y.astype(np.int32))


def _cut(images: Images) -> tuple[Images, Images]:
  """In an order drawn once and for all, the last fifth of it as test."""
  rows = np.random.RandomState(0).permutation(len(images.x))
  cut = int(0.8 * len(rows))
  train, test = (Images(*(a[r] for a in images)) for r in (rows[:cut], rows[cut:]))
  return train, test


def _digits() -> Images:
  try:
    from sklearn.datasets import load_digits
  except ImportError as error:
    raise InputError(
      '`dataset=digits` needs the package scikit-learn, which ships them: pip install '
      'scikit-learn'
    ) from error
  x, y = load_digits(return_X_y=True)
  return Images(x.astype(np.uint8), y.astype(np.int32))


def _mnist(data_dir: str, cache_dir: str) -> tuple[Images, Images]:
  files = {}
  for part, name in FILES.items():
    plain = name.removesuffix('.gz')
    paths = [pathlib.Path(data_dir, folder, n)
             for folder in ('mnist', '') for n in (name, plain)]  # fmt: skip
    files[part] = next((p for p in paths if data_dir and p.is_file()), None)
  if not any(files.values()):
    return _downloaded(data_dir, cache_dir)
  for part, path in files.items():
    if path is None:
      raise InputError(
        f'`data_dir={data_dir}`: expected {FILES[part]} beside the others'
      )
  train, test = (
    images_of(files[f'{part}_images'], files[f'{part}_labels'])  # type: ignore[arg-type]
    for part in ('train', 'test')
  )
  return train, test


def _downloaded(data_dir: str, cache_dir: str) -> tuple[Images, Images]:
  why = (
    f'`data_dir={data_dir}` holds no MNIST' if data_dir else '`data_dir` is not given'
  )
  root = cache.default_root(cache_dir)

  def build(folder: pathlib.Path) -> None:
    name = FILES['train_images']
    network.check_reachable(URL + name, size=_size(name), why=why)
    from seqjax.data.digits import mnist_builder  # a second, on the first start

    _log.info('preparing %s, once, in %s', URL, root)
    mnist_builder.prepare(folder, URL, root / 'downloads')

  folder = cache.folder(root, 'mnist', {'url': URL, 'version': _VERSION}, build)
  from seqjax.data.digits import mnist_builder

  return mnist_builder.load(folder)


def _size(name: str) -> int:
  """Bytes of a published file."""
  table = pathlib.Path(__file__).with_name('checksums.tsv').read_text(encoding='ascii')
  rows = (row.split('\t') for row in table.splitlines())
  return next(int(size) for _, size, _, file in rows if file == name)
