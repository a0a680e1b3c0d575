"""The formats of word vectors as streams: what a line is, and what may be wrong.

Nothing here trusts a file: lines, words and widths are bounded, every number kept is
checked, and each fault is either the user's error or counted.
"""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from seqjax.text.vectors.decimals import is_number, is_plain, parse_any, parse_plain
from seqjax.text.vectors.rows import MAX_WORD, Damage, Rows, WordVectors, show
from seqjax.text.vectors.streams import Stream
from seqjax.types import InputError

Layout: TypeAlias = Literal['glove', 'word2vec', 'word2vec_binary']

# Bounds on what a damaged or hostile file may make us hold at once; a published line
# of 300 numbers takes 3,000 bytes.
MAX_LINE = 1 << 20  # bytes
MAX_WIDTH = 1 << 16  # numbers

_BLOCK = 1 << 18  # bytes of text turned into numbers at a time
_CHUNK = 1 << 20  # bytes of a binary file; more than any word and vector allowed


def read_vectors(
  stream: Stream,
  layout: Layout,
  *,
  words: Iterable[str] | None,
  max_words: int | None,
  width: int | None,
  encoding: str,
  skip_damage: bool,
  skip_duplicates: bool,
) -> WordVectors:
  """Reads a file from its start; the arguments are those of `load_vectors`."""
  rows = Rows(stream.name, words, encoding, skip_damage, skip_duplicates)
  # A number too big for float32 becomes an infinity, which is a fault of its own.
  with np.errstate(over='ignore'):
    if layout == 'word2vec_binary':
      return rows.finish(*_read_binary(stream, rows, max_words))
    return rows.finish(*_read_text(stream, rows, layout, width, max_words))


class _Line(NamedTuple):
  """A line of text, taken apart but not yet read as numbers."""

  number: int
  word: bytes
  numbers: bytes


def _read_text(
  stream: Stream, rows: Rows, layout: Layout, width: int | None, max_words: int | None
) -> tuple[int, int]:
  """Reads lines `word v1 ... vE`; returns how many there were, and E."""
  lines, promised, limit = _lines(stream), None, max_words
  if layout == 'word2vec':
    promised, width = _header(stream.name, next(lines, (1, b''))[1])
    limit = min(promised + 1, max_words or promised + 1)  # one more shows too many
  elif width is None:
    first = next(lines, (1, b''))
    lines, width = itertools.chain([first], lines), _first_width(stream.name, first[1])
  seen, waiting, size = 0, list[_Line](), 0
  for number, line in itertools.islice(lines, limit):
    seen += 1
    try:
      word = _first_word(line, width)
    except Damage as damage:
      _add_lines(rows, waiting, width)  # their faults come first
      waiting, size = [], 0
      rows.skip(damage, f'line {number}')
      continue
    if rows.wanted is None or word in rows.wanted:
      waiting.append(_Line(number, word, line[len(word) + 1 :]))
      size += len(line)
      if size >= _BLOCK:
        _add_lines(rows, waiting, width)
        waiting, size = [], 0
  _add_lines(rows, waiting, width)
  if promised is not None and seen != min(promised, max_words or promised):
    there = f'more than {promised}' if seen > promised else str(seen)
    raise InputError(
      f'{stream.name}: the header promises {promised} vectors, the file holds {there}'
    )
  return seen, width


def _add_lines(rows: Rows, lines: list[_Line], width: int) -> None:
  """Turns the numbers of lines into vectors: of plain ones together, or one by one."""
  plain = [line for line in lines if is_plain(line.numbers, width)]
  parsed = parse_plain(b' '.join(line.numbers for line in plain)) if plain else None
  ready: dict[int, np.ndarray] = {}  # by line number
  if parsed is not None:
    numbers = (line.number for line in plain)
    ready = dict(zip(numbers, parsed.reshape(-1, width), strict=True))
  for line in lines:
    try:
      vector = ready.get(line.number)
      if vector is None:
        vector = _parse(line.numbers)
      rows.add(line.word, vector)
    except Damage as damage:
      rows.skip(damage, f'line {line.number}')


def _parse(text: bytes) -> np.ndarray:
  """Reads any numbers with one space between them, or raises Damage."""
  try:
    vector = parse_any(text)
  except ValueError as e:
    bad = next(field for field in text.split(b' ') if not is_number(field))
    raise Damage('number', f'expected numbers, found {show(bad)}') from e
  _check_finite(vector)
  return vector


def _check_finite(vector: np.ndarray) -> None:
  """Raises Damage for NaN and infinities."""
  if not np.isfinite(vector).all():
    raise Damage('not finite', 'expected finite numbers, found NaN or infinity')


def _read_binary(stream: Stream, rows: Rows, max_words: int | None) -> tuple[int, int]:
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
    found = ''
    if (stop if stop >= 0 else len(data)) - at > MAX_WORD:
      found = f'expected a word of at most {MAX_WORD} bytes'
    elif stop < 0 or len(data) < stop + 1 + size:
      found = f'expected {promised} vectors, the file ends in number {seen + 1}'
    if found:
      raise InputError(f'{stream.name}, byte {base + at}: {found}')
    # The original program ends each vector with a newline, others do not.
    word = data[at:stop].removeprefix(b'\n')
    try:
      if rows.wanted is None or word in rows.wanted:
        vector = np.frombuffer(data, '<f4', width, stop + 1)
        _check_finite(vector)
        rows.add(word, vector.astype(np.float32, copy=False))
    except Damage as damage:
      rows.skip(damage, f'byte {base + at}')
    at = stop + 1 + size
  if count == promised and (data[at:] + stream.file.read(2)).removeprefix(b'\n'):
    found = f'expected the end of the file after {promised} vectors'
    raise InputError(f'{stream.name}, byte {base + at}: {found}')
  return count, width


def _lines(stream: Stream) -> Iterator[tuple[int, bytes]]:
  """Yields (line number, line); word2vec ends its lines with a space, that goes too."""
  number = 0
  while line := stream.file.readline(MAX_LINE + 1):
    number += 1
    if len(line) > MAX_LINE:
      found = f'expected a line of at most {MAX_LINE} bytes'
      raise InputError(f'{stream.name}, line {number}: {found}')
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
  found = f'expected a word2vec header, words and width (1 to {MAX_WIDTH})'
  raise InputError(f'{name}, line 1: {found}, found {show(line)}')


def _first_width(name: str, line: bytes) -> int:
  """Counts the numbers on the first line of a GloVe file."""
  word, *numbers = line.split(b' ')
  if not 1 <= len(numbers) <= MAX_WIDTH or not all(map(is_number, numbers)):
    found = f'expected a word and 1 to {MAX_WIDTH} numbers, found {show(line)}'
    raise InputError(f'{name}, line 1: {found}')
  if len(numbers) == 1 and word.isdigit() and numbers[0].isdigit():
    found = f'expected a GloVe line, found {show(line)}, the header of a word2vec file'
    raise InputError(f'{name}, line 1: {found}')
  return len(numbers)


def _first_word(line: bytes, width: int) -> bytes:
  """Finds the word of a line: all before the last `width` numbers, spaces included."""
  spaces = line.count(b' ')
  if spaces >= width:
    word = line.rsplit(b' ', width)[0] if spaces > width else line[: line.index(b' ')]
    # 'the 0.1' in front of `width` numbers is no word with a space: a number too many.
    parts = word.split()
    if len(parts) < 2 or not is_number(parts[-1]):
      return word
  found = max(len(line.split()) - 1, 0)
  raise Damage('width', f'expected a word and {width} numbers, found {found}')
