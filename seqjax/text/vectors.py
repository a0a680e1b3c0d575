"""Files of word vectors: GloVe text, word2vec text and binary; plain, gzip or zip.

Such files are big (400,000 words of 100 numbers: 350 MB of text, 160 MB of float32)
and made by others. So they are read as a stream, into one growing buffer that becomes
the matrix without a copy; every line is checked; and `words` keeps only the vectors of
a vocabulary, without turning the other lines into numbers.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, get_args

import numpy as np

from seqjax.files.packed import open_stream
from seqjax.text.vector_files import MAX_WIDTH, Layout, WordVectors, read_vectors

_MISSING_SHOWN = 10


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
  with open_stream(path, member) as stream:
    return read_vectors(
      stream,
      layout,
      words=words,
      max_words=max_words,
      width=width,
      encoding=encoding,
      skip_damage=on_error == 'skip',
      skip_duplicates=on_duplicate == 'first',
    )


class Coverage(NamedTuple):
  """How much of a vocabulary, and of the text it was made from, has a vector.

  Both are about the words whose ids are rows of the matrix: the words that the model
  is shown, not those cut off before.
  """

  words: int  # words of the vocabulary
  words_found: int
  tokens: int  # occurrences of these words in the running text; 0 without counts
  tokens_found: int
  missing: tuple[str, ...]  # the first words without a vector, by id

  @property
  def vocabulary_share(self) -> float:
    """Share of the vocabulary that has a vector; 0 of an empty one."""
    return self.words_found / max(self.words, 1)

  @property
  def text_share(self) -> float | None:
    """Share of the running text that has a vector; None without counts."""
    return self.tokens_found / self.tokens if self.tokens else None

  def __str__(self) -> str:
    text = (
      f'{self.words_found:,} of {self.words:,} words have a vector '
      f'({self.vocabulary_share:.1%})'
    )
    if self.text_share is not None:
      text += f', {self.text_share:.1%} of the running text'
    if self.missing:
      text += f'; without: {", ".join(map(repr, self.missing))}'
      text += ', ...' if self.words - self.words_found > len(self.missing) else ''
    return text


def embedding_matrix(
  vectors: WordVectors,
  word_index: Mapping[str, int],
  num_rows: int,
  *,
  counts: Mapping[str, int] | None = None,
) -> tuple[np.ndarray, Coverage]:
  """Puts the vector of the word with id i into row i.

  Args:
    vectors: What `load_vectors` returned.
    word_index: Word -> id. Words with an id of `num_rows` or more have no row and
      count for nothing: a `word_index` need not be cut to `num_words` first.
    num_rows: V, the rows of the embedding; ids are below it.
    counts: How often each word occurs in the running text, as `word_counts`; a word
      that is not in it occurs never. None leaves the text out of the report.

  Returns:
    float32 [V, E], zero in the rows of words without a vector and of ids that no word
    has (padding), and what was found.

  Raises:
    ValueError: An id is negative, or two words have the same.
  """
  words = sorted(
    ((i, word) for word, i in word_index.items() if i < num_rows), key=lambda p: p[0]
  )
  for (i, word), (after, other) in itertools.pairwise(words):
    if i == after:
      raise ValueError(f'word_index gives id {i} to both {word!r} and {other!r}')
  if words and words[0][0] < 0:
    raise ValueError(f'word_index gives {words[0][1]!r} the id {words[0][0]}')
  found = [(i, word) for i, word in words if word in vectors]
  matrix = np.zeros((num_rows, vectors.matrix.shape[1]), np.float32)
  matrix[[i for i, _ in found]] = vectors.matrix[[vectors.index[w] for _, w in found]]
  counts = counts or {}
  missing = (word for _, word in words if word not in vectors)
  coverage = Coverage(
    words=len(words),
    words_found=len(found),
    tokens=sum(counts.get(word, 0) for _, word in words),
    tokens_found=sum(counts.get(word, 0) for _, word in found),
    missing=tuple(itertools.islice(missing, _MISSING_SHOWN)),
  )
  return matrix, coverage
