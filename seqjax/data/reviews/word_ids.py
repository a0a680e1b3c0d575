"""Reviews as rows of word ids, in the scheme of Keras's IMDB data set.

Ids come from the word frequencies of the training reviews: 0 is padding, 1 begins every
review, 2 stands for a word that is not kept, 3 is unused, and the most frequent word
has id 4. A word is kept when its id is below the size of the vocabulary. A review
without words is its start id alone.

Source: keras.datasets.imdb (start_char=1, oov_char=2, index_from=3).
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import math
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from seqjax.files import texts, whole
from seqjax.text.padding import pad_sequences
from seqjax.text.tokenizer import split_words
from seqjax.types import Examples, InputError

START_ID, OOV_ID, INDEX_FROM = 1, 2, 3
SHUFFLE_SEED = 113  # not the run's seed: every run holds out the same reviews
ENCODING_VERSION = 1  # to be raised when the same texts would get other ids

_MIN_VOCAB_SIZE = INDEX_FROM + 2  # one word at least
_FORMAT, _VERSION = 'seqjax.data.Vocabulary', 1


@dataclasses.dataclass(frozen=True, eq=False)
class Reviews:
  """Texts with their labels.

  Attributes:
    texts: N reviews.
    labels: int8 [N], 1 for a positive review and 0 for a negative one.
  """

  texts: list[str]
  labels: np.ndarray

  def __post_init__(self) -> None:
    if self.labels.shape != (len(self.texts),) or self.labels.dtype != np.int8:
      raise ValueError(
        f'labels must be int8 [{len(self.texts)}], one a text, got '
        f'{self.labels.dtype} {list(self.labels.shape)}'
      )
    if not np.isin(self.labels, (0, 1)).all():
      raise ValueError(f'labels must be 0 or 1, got {np.unique(self.labels)}')


class Stats(NamedTuple):
  """What the reviews of a split are like, before they were cut to one length.

  Lengths are in words; the start id is not among them.
  """

  num_reviews: int
  num_positive: int
  mean_length: float
  median_length: float
  max_length: int
  share_truncated: float  # of the reviews
  share_oov: float  # of the words


class ReviewData(NamedTuple):
  """Both splits as arrays: x int32 [N, length], y float32 [N]."""

  train: Examples
  test: Examples
  vocabulary: Vocabulary
  train_stats: Stats
  test_stats: Stats


def encode(
  train: Reviews, test: Reviews, *, vocab_size: int, length: int
) -> ReviewData:
  """Turns reviews into rows of ids of one length; row i is review i.

  Args:
    train: Reviews to learn from; the vocabulary is made of their words alone.
    test: Reviews to test on.
    vocab_size: Ids lie in [0, vocab_size).
    length: Ids in a row. Short reviews are padded in front with 0, of long ones the
      last `length` ids are kept ("pre" and "pre").

  Raises:
    InputError: `vocab_size` or `length` is too small, or a split is empty.

  Example:
    >>> from seqjax.data.reviews import synthetic, word_ids
    >>> train, test = synthetic.reviews(seed=0, num_train=100, num_test=20)
    >>> data = word_ids.encode(train, test, vocab_size=50, length=10)
    >>> data.train.x.shape, data.test.y.shape
    ((100, 10), (20,))
  """
  check_settings(vocab_size, length)
  for name, reviews in (('training', train), ('test', test)):
    if not reviews.texts:
      raise InputError(f'the {name} set holds no review')
  vocabulary = Vocabulary.of_texts(train.texts, vocab_size)
  train_examples, train_stats = _encode_split(train, vocabulary, length)
  test_examples, test_stats = _encode_split(test, vocabulary, length)
  return ReviewData(train_examples, test_examples, vocabulary, train_stats, test_stats)


def shuffle(reviews: Reviews, seed: int = SHUFFLE_SEED) -> Reviews:
  """Puts reviews into a fixed random order, once, before anything is split.

  An archive has all negative reviews first, so its last fifth is of one class.
  """
  # NumPy promises RandomState's stream for all times; Generator's may change.
  order = np.random.RandomState(seed).permutation(len(reviews.texts))
  return Reviews([reviews.texts[i] for i in order], reviews.labels[order])


def split_validation(examples: Examples, fraction: float) -> tuple[Examples, Examples]:
  """Holds out the last share of a set: (what stays to train on, validation).

  As Keras's `validation_split`: the first floor(N * (1 - fraction)) examples stay.

  Raises:
    InputError: Nothing would be held out, or nothing stay.
  """
  N = len(examples.y)
  kept = math.floor(N * (1 - fraction)) if 0 < fraction < 1 else 0  # NaN: 0 as well
  if not 0 < kept < N:
    raise InputError(
      f'validation_split={fraction}: expected a share that leaves some of the {N:,} '
      'examples on either side'
    )
  return Examples(*(a[:kept] for a in examples)), Examples(
    *(a[kept:] for a in examples)
  )


def check_settings(vocab_size: int, length: int) -> None:
  """Raises InputError where `encode` could not use these numbers."""
  if vocab_size < _MIN_VOCAB_SIZE:
    raise InputError(
      f'vocab_size={vocab_size}: expected at least {_MIN_VOCAB_SIZE}, ids 0 to '
      f'{INDEX_FROM} being reserved'
    )
  if length < 1:
    raise InputError(f'length={length}: expected at least 1')


def check_ids(x: np.ndarray, vocab_size: int) -> None:
  """Raises InputError on the first id of x [N, T] outside [0, vocab_size).

  On a device such an id would silently become another row of the embedding.
  """
  if x.ndim != 2 or not np.issubdtype(x.dtype, np.integer):
    raise ValueError(f'check_ids needs integers [N, T], got {x.dtype} {list(x.shape)}')
  if x.size and not (x.min() >= 0 and x.max() < vocab_size):
    row, column = np.argwhere((x < 0) | (x >= vocab_size))[0]
    raise InputError(
      f'row {row}, column {column} holds id {x[row, column]}, expected '
      f'0 <= id < {vocab_size}'
    )


class Vocabulary:
  """The kept words, and the way from texts to ids and back.

  Attributes:
    words: By falling frequency; the word at index i has id i + 4.
    vocab_size: All ids lie in [0, vocab_size). There may be fewer words.
  """

  def __init__(self, words: Sequence[str], vocab_size: int):
    check_settings(vocab_size, length=1)
    if len(words) > vocab_size - INDEX_FROM - 1:
      raise ValueError(f'{len(words)} words have no room in {vocab_size} ids')
    self.words = list(words)
    self.vocab_size = vocab_size
    self._ids = {word: i for i, word in enumerate(self.words, start=INDEX_FROM + 1)}
    if len(self._ids) != len(self.words):
      raise ValueError('words must differ from one another')

  @classmethod
  def of_texts(cls, texts: Iterable[str], vocab_size: int) -> Vocabulary:
    """Keeps the most frequent words; of equally frequent ones those seen first."""
    check_settings(vocab_size, length=1)
    counts: collections.Counter[str] = collections.Counter()
    for text in texts:
      counts.update(split_words(text))
    # The sort is stable with reverse=True too: ties keep their order of appearance.
    words = sorted(counts, key=counts.__getitem__, reverse=True)
    return cls(words[: vocab_size - INDEX_FROM - 1], vocab_size)

  def encode(self, texts: Iterable[str]) -> list[np.ndarray]:
    """Ids of each text, int32 [1 + number of words]: the start id, then its words."""
    get = self._ids.get
    return [
      np.array(
        [START_ID, *map(get, split_words(text), itertools.repeat(OOV_ID))], np.int32
      )
      for text in texts
    ]

  def rows(self, texts: Iterable[str], length: int) -> np.ndarray:
    """Ids of texts as a model takes them, int32 [N, length], padded as in `encode`."""
    return pad_sequences(self.encode(texts), length)

  def decode(self, ids: Iterable[int]) -> str:
    """Words of ids, joined by spaces; '?' for 0 to 3 and for an id without a word."""
    first, end = INDEX_FROM + 1, INDEX_FROM + 1 + len(self.words)
    return ' '.join(self.words[i - first] if first <= i < end else '?' for i in ids)

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes JSON: a whole file, or none."""
    with whole.replacing(pathlib.Path(path)) as part:
      part.write_text(json.dumps(self.to_json()), encoding='ascii')

  @classmethod
  def load(cls, path: str | os.PathLike[str]) -> Vocabulary:
    """Reads what `save` wrote; raises InputError where that cannot be."""
    try:
      text = texts.decode(pathlib.Path(path).read_bytes(), 'the file')
      return cls.from_json(json.loads(text))
    except OSError as e:
      raise InputError(f'{path}: cannot be read: {e.strerror}') from e
    except ValueError as e:  # InputError is one
      raise InputError(f'{path}: expected a saved vocabulary: {e}') from e

  def to_json(self) -> dict[str, object]:
    """A JSON object that `from_json` understands."""
    content = {'format': _FORMAT, 'version': _VERSION}
    return content | {'vocab_size': self.vocab_size, 'words': self.words}

  @classmethod
  def from_json(cls, content: object) -> Vocabulary:
    """Checks and takes over what `to_json` gave; raises ValueError with the reason."""
    if not isinstance(content, dict) or content.get('format') != _FORMAT:
      raise ValueError(f'no JSON object with "format": "{_FORMAT}"')
    if content.get('version') != _VERSION:
      raise ValueError(
        f'version {content.get("version")!r}, this code reads {_VERSION}'
      )
    words, vocab_size = content.get('words'), content.get('vocab_size')
    if type(vocab_size) is not int:  # not isinstance: true is an int to Python
      raise ValueError(f'"vocab_size" is {vocab_size!r:.40}')
    if not isinstance(words, list) or not all(isinstance(w, str) for w in words):
      raise ValueError('"words" is no list of strings')
    return cls(words, vocab_size)


def to_arrays(data: ReviewData) -> dict[str, np.ndarray]:
  """All of it as named arrays, for the cache."""
  metadata = {
    'vocabulary': data.vocabulary.to_json(),
    'train_stats': data.train_stats,
    'test_stats': data.test_stats,
  }
  return {
    'train_x': data.train.x,
    'train_y': data.train.y,
    'test_x': data.test.x,
    'test_y': data.test.y,
    'more': np.frombuffer(json.dumps(metadata).encode('ascii'), np.uint8),
  }


def from_arrays(arrays: Mapping[str, np.ndarray]) -> ReviewData:
  """Undoes `to_arrays`."""
  metadata = json.loads(arrays['more'].tobytes())
  vocabulary = Vocabulary.from_json(metadata['vocabulary'])
  train = Examples(arrays['train_x'], arrays['train_y'])
  test = Examples(arrays['test_x'], arrays['test_y'])
  for examples in (train, test):
    check_ids(examples.x, vocabulary.vocab_size)
  stats = Stats(*metadata['train_stats']), Stats(*metadata['test_stats'])
  return ReviewData(train, test, vocabulary, *stats)


def _encode_split(
  reviews: Reviews, vocabulary: Vocabulary, length: int
) -> tuple[Examples, Stats]:
  rows = vocabulary.encode(reviews.texts)
  lengths = np.array([len(row) for row in rows]) - 1  # [N] words
  num_words = int(lengths.sum())
  num_oov = sum(int(np.count_nonzero(row == OOV_ID)) for row in rows)
  stats = Stats(
    num_reviews=len(rows),
    num_positive=int(reviews.labels.sum()),
    mean_length=float(lengths.mean()),
    median_length=float(np.median(lengths)),
    max_length=int(lengths.max()),
    share_truncated=float(np.mean(lengths + 1 > length)),
    share_oov=num_oov / max(num_words, 1),
  )
  x = pad_sequences(rows, length)  # [N, length]
  check_ids(x, vocabulary.vocab_size)
  return Examples(x, reviews.labels.astype(np.float32)), stats
