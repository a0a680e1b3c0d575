"""Files of word vectors: GloVe text, word2vec text and binary; plain, gzip or zip.

Such files are big (400,000 words of 100 numbers: 350 MB of text, 160 MB of float32)
and made by others. So they are read as a stream, into one growing buffer that becomes
the matrix without a copy; and `words` keeps only the vectors of a vocabulary, without
turning the other lines into numbers. Nothing here trusts a file: lines, words and
widths are bounded, every number kept is checked, and each fault is either the user's
error or counted.
"""

from __future__ import annotations

import codecs
import contextlib
import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from seqjax.files.packed import Stream, open_stream
from seqjax.files.strangers import looks_like
from seqjax.types import InputError

Layout: TypeAlias = Literal['glove', 'word2vec', 'word2vec_binary']

# Bounds on what a damaged or hostile file may make us hold at once; a published line
# of 300 numbers takes 3,000 bytes, and word2vec cuts words at 100.
MAX_LINE = 1 << 20  # bytes
MAX_WORD = 1 << 12  # bytes
MAX_WIDTH = 1 << 16  # numbers

_BLOCK = 1 << 18  # bytes of text turned into numbers at a time
_CHUNK = 1 << 20  # bytes of a binary file; more than any word and vector allowed


class Skipped(NamedTuple):
  """Lines (or binary vectors) left out for one reason.

  Example:
    >>> text.Skipped(total=2, first='line 12').first
    'line 12'
  """

  total: int
  first: str  # where: 'line 12', or 'byte 3456' in a binary file


@dataclasses.dataclass(frozen=True)
class WordVectors:
  """Words and their vectors.

  Attributes:
    index: Word -> row, in the order of the file.
    matrix: float32 [words, E].
    skipped: Reason -> what was left out for it; empty when the file is clean.

  Example:
    >>> vectors = text.WordVectors({'cat': 0}, np.float32([[2, 3]]), skipped={})
    >>> 'dog' in vectors, vectors['cat']
    (False, array([2., 3.], dtype=float32))
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


def load_vectors(
  path: str | os.PathLike[str],
  layout: Layout = 'glove',
  *,
  words: Iterable[str] | None = None,
  max_words: int | None = None,
  width: int | None = None,
  member: str | None = None,
  encoding: str = 'utf-8',
  on_error: Literal['raise', 'skip'] = 'raise',
  on_duplicate: Literal['first', 'raise'] = 'first',
) -> WordVectors:
  """Reads word vectors.

  Args:
    path: Plain, gzip or zip file.
    layout: 'glove': a line `word v1 ... vE` for each word; 'word2vec': the same after
      a line `words E`; 'word2vec_binary': that line, then for each word its bytes, a
      space and E little-endian float32. Words with spaces are understood: lines are
      split from the right. Where the width is not told (by `width`, or the line
      `words E`), a word with a space can't end in a number: it is taken for a line
      with a number too many.
    words: Keeps only these (a `word_index` will do). Of the lines of other words only
      the width is checked. None keeps all.
    max_words: Reads no further than this many lines; the files are sorted by falling
      frequency. None reads to the end, and then without `words` the memory needed is
      the file's to choose.
    width: E of a GloVe file; None takes it from the first line, which must then be
      sound and its word without a space.
    member: The file inside a zip archive of several.
    encoding: Of the words; one in which ASCII is one byte a character.
    on_error: What to do about a line of the wrong width, a number that is none or not
      finite, and a word that is empty, too long or not in `encoding`. 'raise', the
      default, since such a line means a damaged file or another encoding, and half a
      file of vectors costs accuracy in silence. 'skip' leaves it out and counts it in
      `skipped`. A file cut short is an error in any case.
    on_duplicate: What to do about a word seen before. 'first', the default, keeps its
      first vector and counts the rest in `skipped`, since published files that are
      otherwise sound (glove.840B.300d) repeat words. 'raise' takes it for an error.

  Raises:
    InputError: The file is not what `layout` says, or has one of the faults above;
      the message names the file and the line, or the byte of a binary file.

  Example:
    >>> path = tempfile.mkdtemp() + '/vectors.txt'
    >>> np.savetxt(path, ['the 0 1', 'cat 2 3', 'dog 4'], '%s')
    >>> vectors = text.load_vectors(path, on_error='skip')
    >>> vectors['cat'], vectors.skipped
    (array([2., 3.], dtype=float32), {'width': Skipped(total=1, first='line 3')})
  """
  for name, value, expected in (
    ('layout', layout, get_args(Layout)),
    ('on_error', on_error, ('raise', 'skip')),
    ('on_duplicate', on_duplicate, ('first', 'raise')),
  ):
    if value not in expected:
      raise ValueError(f'{name} must be one of {", ".join(expected)}, got {value!r}')
  if isinstance(words, str):
    raise TypeError('words must be a collection of words, got one str')
  if max_words is not None and max_words < 1:
    raise ValueError(f'max_words must be None or >= 1, got {max_words}')
  if width is not None and (layout != 'glove' or not 1 <= width <= MAX_WIDTH):
    raise ValueError(f'width must be in [1, {MAX_WIDTH}], for GloVe only, got {width}')
  try:
    keeps_ascii = 'a 1\n'.encode(encoding) == b'a 1\n'
  except LookupError:
    keeps_ascii = False
  if not keeps_ascii:
    raise ValueError(f'encoding must be one that keeps ASCII, got {encoding!r}')
  # A number too big for float32 becomes an infinity, which is a fault of its own.
  with open_stream(path, member) as stream, np.errstate(over='ignore'):
    rows = _Rows(
      stream.name, words, encoding, on_error == 'skip', on_duplicate == 'first'
    )
    if layout == 'word2vec_binary':
      return rows.finish(*_read_binary(stream, rows, max_words))
    return rows.finish(*_read_text(stream, rows, layout, width, max_words))


class _Damage(Exception):  # noqa: N818  caught below, no user sees it
  """One line or vector is of no use: (reason to count it under, what was found)."""


class _Rows:
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
    self._wanted: set[bytes] | None = None
    if words is not None:
      pairs = ((word, word.encode(encoding, 'ignore')) for word in words)
      self._wanted = {raw for word, raw in pairs if raw.decode(encoding) == word}
    self._index: dict[str, int] = {}
    self._skipped: dict[str, Skipped] = {}
    # A bytearray grows by realloc, which moves pages: there is never a second copy.
    self._numbers = bytearray()

  def wants(self, word: bytes) -> bool:
    """Whether a word is among those asked for."""
    return self._wanted is None or word in self._wanted

  def add(self, word: bytes, vector: np.ndarray) -> None:
    """Keeps a float32 [E] of finite numbers, or raises _Damage."""
    if not word or len(word) > MAX_WORD:
      raise _Damage('word length', f'expected a word of 1 to {MAX_WORD} bytes')
    try:
      text = word.decode(self._encoding)
    except UnicodeDecodeError as e:
      problem = f'expected a word in {self._encoding}, found {_show(word)}'
      raise _Damage('encoding', problem) from e
    if text in self._index:
      raise _Damage('duplicate word', f'word {_show(word)} occurred before')
    self._index[text] = len(self._index)
    self._numbers += vector.data

  def skip(self, damage: _Damage, where: str) -> None:
    """Counts what is left out, or raises the user's error."""
    reason, problem = damage.args
    if not self._skips.get(reason, self._skips_damage):
      raise InputError(f'{self._name}, {where}: {problem}') from damage
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


def _read_text(
  stream: Stream, rows: _Rows, layout: Layout, width: int | None, max_words: int | None
) -> tuple[int, int]:
  """Reads lines `word v1 ... vE`; returns how many there were, and E."""
  lines, promised, limit = _lines(stream), None, max_words
  has_width = width is not None
  if layout == 'word2vec':
    promised, width = _header(stream.name, next(lines, (1, b''))[1])
    limit = min(promised + 1, max_words or promised + 1)  # one more shows too many
    has_width = True
  elif width is None:
    first = next(lines, (1, b''))
    lines, width = itertools.chain([first], lines), _first_width(stream.name, first[1])
  seen, block, size = 0, list[tuple[int, bytes]](), 0
  for number, line in itertools.islice(lines, limit):
    seen += 1
    block.append((number, line))
    size += len(line)
    if size >= _BLOCK:
      _add_lines(rows, block, width, has_width)
      block, size = [], 0
  _add_lines(rows, block, width, has_width)
  if promised is not None and seen != min(promised, max_words or promised):
    there = f'more than {promised}' if seen > promised else str(seen)
    raise InputError(
      f'{stream.name}: the header promises {promised} vectors, the file holds {there}'
    )
  return seen, width


def _add_lines(
  rows: _Rows, lines: list[tuple[int, bytes]], width: int, has_width: bool
) -> None:
  """Adds the (number, line) that are wanted, or skips them, one after the other."""
  split = [
    (number, line, _first_word(line, width, has_width)) for number, line in lines
  ]
  split = [row for row in split if row[2] is None or rows.wants(row[2])]
  texts = [line[len(word) + 1 :] for _, line, word in split if word is not None]
  vectors = _parse(texts, width)
  for number, line, word in split:
    try:
      if word is None:
        there = max(len(line.split()) - 1, 0)
        hint = (
          ''
          if has_width
          else '; if line 1 has another width than it seems, give width='
        )
        problem = f'expected a word and {width} numbers, found {there}{hint}'
        raise _Damage('width', problem)
      rows.add(word, next(vectors))
    except _Damage as damage:
      rows.skip(damage, f'line {number}')


def _parse(texts: list[bytes], width: int) -> Iterator[np.ndarray]:
  """The numbers of each text, float32 [E]; next() raises _Damage where some is none.

  Decimals are read all at once, by NumPy, which gives float()'s numbers bit for bit.
  """
  joined = b'\n'.join(texts)
  if texts and not joined.translate(None, b'0123456789+-.eE \n'):
    with contextlib.suppress(ValueError):  # one by one: which text it is about
      lines = joined.decode().split('\n')
      matrix = np.loadtxt(lines, np.float32, comments=None, delimiter=' ', ndmin=2)
      if matrix.shape == (len(texts), width) and np.isfinite(matrix).all():
        return iter(matrix)
  return map(_parse_one, texts)


def _parse_one(text: bytes) -> np.ndarray:
  fields = text.split(b' ')
  bad = next((field for field in fields if not _is_float(field)), None)
  if bad is not None:
    raise _Damage('number', f'expected numbers, found {_show(bad)}')
  vector = np.array(list(map(float, fields)), np.float32)
  _check_finite(vector)
  return vector


def _check_finite(vector: np.ndarray) -> None:
  if not np.isfinite(vector).all():
    raise _Damage('not finite', 'expected finite numbers, found NaN or infinity')


def _read_binary(stream: Stream, rows: _Rows, max_words: int | None) -> tuple[int, int]:
  """Reads `word v1 ... vE` with float32 numbers; returns how many, and E."""
  header = stream.file.readline(MAX_LINE)
  promised, width = _header(stream.name, header)
  count = min(promised, max_words or promised)
  size = 4 * width
  data, at, base = b'', 0, len(header)  # data[0] is byte `base` of the file
  for seen in range(count):
    stop = data.find(b' ', at)
    if stop < 0 or len(data) < stop + 1 + size:
      base, data, at = base + at, data[at:] + stream.file.read(_CHUNK), 0
      stop = data.find(b' ')
    problem = ''
    if (stop if stop >= 0 else len(data)) - at > MAX_WORD:
      problem = f'expected a word of at most {MAX_WORD} bytes'
    elif stop < 0 or len(data) < stop + 1 + size:
      problem = f'expected {promised} vectors, the file ends in number {seen + 1}'
    if problem:
      raise InputError(f'{stream.name}, byte {base + at}: {problem}')
    # The original program ends each vector with a newline, others do not.
    word = data[at:stop].removeprefix(b'\n')
    if rows.wants(word):
      vector = np.frombuffer(data, '<f4', width, stop + 1)
      try:
        _check_finite(vector)
        rows.add(word, vector.astype(np.float32, copy=False))
      except _Damage as damage:
        rows.skip(damage, f'byte {base + at}')
    at = stop + 1 + size
  if count == promised and (data[at:] + stream.file.read(2)).removeprefix(b'\n'):
    problem = f'expected the end of the file after {promised} vectors'
    raise InputError(f'{stream.name}, byte {base + at}: {problem}')
  return count, width


def _lines(stream: Stream) -> Iterator[tuple[int, bytes]]:
  """Yields (line number, line); word2vec ends its lines with a space, that goes too."""
  number = 0
  while line := stream.file.readline(MAX_LINE + 1):
    number += 1
    if len(line) > MAX_LINE:
      problem = f'expected a line of at most {MAX_LINE} bytes'
      raise InputError(f'{stream.name}, line {number}: {problem}')
    if number == 1:
      line = line.removeprefix(codecs.BOM_UTF8)
    yield number, line.rstrip(b' \r\n')


def _header(name: str, line: bytes) -> tuple[int, int]:
  """Reads 'words E', the first line of a word2vec file."""
  fields = line[:64].split()
  if len(fields) == 2 and all(field.isdigit() for field in fields):
    count, width = int(fields[0]), int(fields[1])
    if count >= 1 and 1 <= width <= MAX_WIDTH:
      return count, width
  problem = f'expected a word2vec header, words and width (1 to {MAX_WIDTH})'
  raise InputError(f'{name}, line 1: {problem}, found {_show(line)}{looks_like(line)}')


def _first_width(name: str, line: bytes) -> int:
  """Counts the numbers on the first line of a GloVe file."""
  word, *numbers = line.split(b' ')
  if not 1 <= len(numbers) <= MAX_WIDTH or not all(map(_is_number, numbers)):
    problem = f'expected a word and 1 to {MAX_WIDTH} numbers, found {_show(line)}'
    raise InputError(f'{name}, line 1: {problem}{looks_like(line)}')
  if len(numbers) == 1 and word.isdigit() and numbers[0].isdigit():
    problem = (
      f'expected a GloVe line, found {_show(line)}, the header of a word2vec file'
    )
    raise InputError(f'{name}, line 1: {problem}')
  return len(numbers)


def _first_word(line: bytes, width: int, has_width: bool) -> bytes | None:
  """All before the last `width` numbers, spaces included; None where there are fewer.

  Unless the width was told, 'the 0.1' in front of them is no word either: it is a line
  with a number too many, and what the first line has may have been wrong.
  """
  spaces = line.count(b' ')
  if spaces < width:
    return None
  word = line.rsplit(b' ', width)[0] if spaces > width else line[: line.index(b' ')]
  if has_width:
    return word
  parts = word.split()
  return None if len(parts) > 1 and _is_number(parts[-1]) else word


def _is_number(field: bytes) -> bool:
  """Whether a field is a number for sure; 'nan' and 'infinity' are taken for words."""
  return _is_float(field) and any(48 <= byte <= 57 for byte in field)


def _is_float(field: bytes) -> bool:
  """Whether float() reads it, but for 1_000: that is a number to nobody else."""
  try:
    float(field)
  except ValueError:
    return False
  return b'_' not in field


def _show(raw: bytes) -> str:
  """Makes bytes of a file fit for one line of an error message."""
  text = repr(raw[:40].decode('utf-8', 'backslashreplace'))
  return text + '...' if len(raw) > 40 else text
