"""What is kept of a file of word vectors, and the count of what is left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from seqjax.types import InputError

# A bound on what a damaged file may make us hold. word2vec cuts words at 100 bytes.
MAX_WORD = 1 << 12  # bytes


class Skipped(NamedTuple):
  """Lines (or binary vectors) left out for one reason."""

  total: int
  first: str  # where: 'line 12', or 'byte 3456' in a binary file


@dataclasses.dataclass(frozen=True)
class WordVectors:
  """Words and their vectors.

  Attributes:
    index: Word -> row, in the order of the file.
    matrix: float32 [words, E].
    skipped: Reason -> what was left out for it; empty when the file is clean.
  """

  index: dict[str, int]
  matrix: np.ndarray
  skipped: dict[str, Skipped]

  def __len__(self) -> int:
    return len(self.index)

  def __contains__(self, word: str) -> bool:
    return word in self.index

  def __getitem__(self, word: str) -> np.ndarray:
    return self.matrix[self.index[word]]


class Damage(Exception):  # noqa: N818  the readers catch it, no user sees it
  """One line or vector is of no use: (reason to count it under, what was found)."""


class Rows:
  """The vectors kept so far, and what was left out."""

  def __init__(
    self,
    name: str,
    words: Iterable[str] | None,
    encoding: str,
    skip_damage: bool,
    skip_duplicates: bool,
  ):
    self._name = name
    self._encoding = encoding
    self._skips = {'duplicate word': skip_duplicates}
    self._skips_damage = skip_damage
    # A word that the encoding cannot express is not in the file. 'ignore' may make
    # another word of it, hence the way back.
    self.wanted: set[bytes] | None = None
    if words is not None:
      pairs = ((word, word.encode(encoding, 'ignore')) for word in words)
      self.wanted = {raw for word, raw in pairs if raw.decode(encoding) == word}
    self._index: dict[str, int] = {}
    self._skipped: dict[str, Skipped] = {}
    # A bytearray grows by realloc, which moves pages: there is never a second copy.
    self._numbers = bytearray()

  def add(self, word: bytes, vector: np.ndarray) -> None:
    """Keeps a float32 [E] of finite numbers, or raises Damage."""
    if not word or len(word) > MAX_WORD:
      raise Damage('word length', f'expected a word of 1 to {MAX_WORD} bytes')
    try:
      text = word.decode(self._encoding)
    except UnicodeDecodeError as e:
      found = f'expected a word in {self._encoding}, found {show(word)}'
      raise Damage('encoding', found) from e
    if text in self._index:
      raise Damage('duplicate word', f'word {show(word)} occurred before')
    self._index[text] = len(self._index)
    self._numbers += vector.data

  def skip(self, damage: Damage, where: str) -> None:
    """Counts what is left out, or raises the user's error."""
    reason, found = damage.args
    if not self._skips.get(reason, self._skips_damage):
      raise InputError(f'{self._name}, {where}: {found}') from damage
    before = self._skipped.get(reason, Skipped(0, where))
    self._skipped[reason] = before._replace(total=before.total + 1)

  def finish(self, seen: int, width: int) -> WordVectors:
    """Makes the result after `seen` lines of a file of `width` numbers."""
    if seen == sum(skipped.total for skipped in self._skipped.values()):
      raise InputError(f'{self._name}: none of its {seen} vectors is usable')
    matrix = np.zeros((0, width), np.float32)
    if self._numbers:
      matrix = np.frombuffer(self._numbers, np.float32).reshape(-1, width)
    return WordVectors(self._index, matrix, self._skipped)


def show(raw: bytes) -> str:
  """Makes bytes of a file fit for one line of an error message."""
  text = repr(raw[:40].decode('utf-8', 'backslashreplace'))
  return text + '...' if len(raw) > 40 else text
