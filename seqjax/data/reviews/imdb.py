"""The IMDB reviews of Maas et al. 2011: 25,000 to train on and 25,000 to test on.

Taken, in this order, from the folder `aclImdb/` or the archive `aclImdb_v1.tar.gz` in
the data folder (whatever its checksum: it is the user's), or from the network, where
the checksum is verified. Prepared reviews and encoded arrays are cached: only the first
start reads the source and imports tensorflow-datasets.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import pathlib
import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from seqjax.data import archives, cache, network
from seqjax.data.reviews import word_ids
from seqjax.data.reviews.word_ids import ReviewData, Reviews
from seqjax.files import texts
from seqjax.types import InputError

if TYPE_CHECKING:
  from seqjax.data.reviews.imdb_builder import Review

FOLDER, ARCHIVE = 'aclImdb', 'aclImdb_v1.tar.gz'
URL = 'http://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz'

_LAYOUT = f'{FOLDER}/{{train,test}}/{{neg,pos}}/ID_RATING.txt'
_FILE_NAME = re.compile(r'[0-9]+_[0-9]+\.txt')
_PREPARED_VERSION = 3  # to be raised when the same source would be prepared otherwise

_log = logging.getLogger(__name__)


def load(
  data_dir: str, *, vocab_size: int, length: int, cache_dir: str = ''
) -> ReviewData:
  """Loads the reviews as rows of word ids, in a fixed random order.

  Args:
    data_dir: Folder that holds `aclImdb/` or `aclImdb_v1.tar.gz`; it is only read.
      Empty, or a folder that holds neither: the published archive is downloaded.
    vocab_size: Ids lie in [0, vocab_size).
    length: Ids in a row; the last ones of a longer review, zeros before a shorter one.
    cache_dir: Where prepared data is kept; empty for the user's cache folder
      ($XDG_CACHE_HOME/seqjax, or ~/.cache/seqjax).

  Returns:
    Both splits, x int32 [N, length] and y float32 [N], 1 for positive; row i is the
    review i of `load_texts`.

  Raises:
    InputError: There is no data and no network, the data is not what it should be, or
      the cache cannot be written.
  """
  word_ids.check_settings(vocab_size, length)
  root = cache.default_root(cache_dir)
  source = _find(data_dir)
  fields = {
    'source': source.identity,
    'vocab_size': vocab_size,
    'length': length,
    'shuffle_seed': word_ids.SHUFFLE_SEED,
    'encoding_version': word_ids.ENCODING_VERSION,
    'prepared_version': _PREPARED_VERSION,
  }

  def build() -> dict[str, np.ndarray]:
    train, test = _texts(source, root)
    return word_ids.to_arrays(
      word_ids.encode(train, test, vocab_size=vocab_size, length=length)
    )

  return word_ids.from_arrays(cache.arrays(root, 'imdb-arrays', fields, build))


def load_texts(data_dir: str, cache_dir: str = '') -> tuple[Reviews, Reviews]:
  """Loads the reviews as texts: (train, test), in the order of the rows of `load`."""
  return _texts(_find(data_dir), cache.default_root(cache_dir))


class _Source(NamedTuple):
  path: pathlib.Path | None  # None: the network
  identity: str
  why: str  # why the network, for messages


def _find(data_dir: str) -> _Source:
  """Decides where the reviews come from, and names their content."""
  if not data_dir:
    return _Source(None, f'sha256:{_published().sha256}', '`data_dir` is not given')
  try:
    names = os.listdir(data_dir)
  except OSError as e:
    raise InputError(
      f'`data_dir={data_dir}`: {e.strerror}; expected the folder that holds {FOLDER}/ '
      f'or {ARCHIVE}'
    ) from e
  for name in (FOLDER, ARCHIVE):
    if name in names:
      path = pathlib.Path(data_dir, name)
      identity = archives.identity(path, functools.partial(_is_review, path))
      return _Source(path, identity, str(path))
  why = f'`data_dir={data_dir}` holds neither {FOLDER}/ nor {ARCHIVE}'
  return _Source(None, f'sha256:{_published().sha256}', why)


def _texts(source: _Source, root: pathlib.Path) -> tuple[Reviews, Reviews]:
  """Prepares the source, unless that was done before, and reads all reviews."""
  fields = {'source': source.identity, 'prepared_version': _PREPARED_VERSION}

  def build(folder: pathlib.Path) -> None:
    downloads = root / 'downloads'
    path = source.path or _downloaded(downloads)
    if path is None:
      network.check_reachable(URL, size=_published().size, why=source.why)
    _log.info('preparing the IMDB reviews of %s, once, in %s', path or URL, root)
    from seqjax.data.reviews import imdb_builder  # a second, on the first start alone

    imdb_builder.prepare(folder, read_source, path or URL, downloads)

  folder = cache.folder(root, 'imdb-texts', fields, build)
  from seqjax.data.reviews import imdb_builder

  splits = imdb_builder.load(folder)
  train, test = (
    word_ids.shuffle(
      Reviews(
        [review.text for review in splits[split]],
        np.array([review.label for review in splits[split]], np.int8),
      )
    )
    for split in ('train', 'test')
  )
  return train, test


def read_source(path: pathlib.Path) -> dict[str, list[Review]]:
  """Reads all labelled reviews of an archive or a folder, sorted by their names.

  So an archive and the folder it was unpacked to give the same reviews in the same
  order. Files outside of {train,test}/{neg,pos} (the published archive's unlabelled
  reviews, vocabulary and lists) are passed over.

  Raises:
    InputError: The source is damaged, of another layout, or a review is not UTF-8.
  """
  from seqjax.data.reviews.imdb_builder import Review

  splits: dict[str, list[Review]] = {'train': [], 'test': []}
  present = set()
  for name, content in archives.read_files(path, functools.partial(_is_review, path)):
    _, split, label, _ = name.split('/')
    text = texts.decode(content, f'{path}: member {name!r}')
    splits[split].append(Review(name, text, int(label == 'pos')))
    present.add((split, label))
  for split in splits:
    for label in ('neg', 'pos'):
      if (split, label) not in present:
        raise InputError(
          f'{path}: holds no review in {FOLDER}/{split}/{label}/; expected {_LAYOUT}'
        )
  return {split: sorted(rows) for split, rows in splits.items()}


def _is_review(path: pathlib.Path, name: str) -> bool:
  """True for the file of a labelled review; refuses others beside them."""
  parts = name.split('/')
  if parts[0] != FOLDER or len(parts) < 4:
    return False
  if parts[1] not in ('train', 'test') or parts[2] not in ('neg', 'pos'):
    return False
  if len(parts) > 4 or not _FILE_NAME.fullmatch(parts[3]):
    raise InputError(f'{path}: member {name!r} has no place in the layout {_LAYOUT}')
  return True


class _Published(NamedTuple):
  size: int
  sha256: str


def _published() -> _Published:
  """Size and checksum of the published archive, as tensorflow-datasets reads them."""
  table = pathlib.Path(__file__).with_name('checksums.tsv').read_text(encoding='ascii')
  rows = {row.split('\t')[0]: row.split('\t') for row in table.splitlines()}
  return _Published(int(rows[URL][1]), rows[URL][2])


def _downloaded(folder: pathlib.Path) -> pathlib.Path | None:
  """An archive that was downloaded before, verified; a damaged one is removed."""
  for path in sorted(folder.rglob('*.tar.gz')):
    # Below NAME.tmp.* tensorflow-datasets is downloading, maybe for another process.
    if path.is_file() and '.tmp.' not in str(path.relative_to(folder)):
      with path.open('rb') as file:
        if hashlib.file_digest(file, 'sha256').hexdigest() == _published().sha256:
          return path
      _log.warning('%s is damaged and is downloaded again', path)
      path.unlink()
  return None
