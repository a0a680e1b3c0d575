"""Word vectors as the matrix of an embedding, and how much of a text has one."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from seqjax.text.vector_files import WordVectors

_MISSING_SHOWN = 10


class Coverage(NamedTuple):
  """How much of a vocabulary, and of the text it was made from, has a vector.

  Both are about the words whose ids are rows of the matrix: the words that the model
  is shown, not those cut off before.

  Example:
    >>> print(text.Coverage(2, 1, tokens=10, tokens_found=3, missing=('the',)))
    1 of 2 words have a vector (50.0%), 30.0% of the running text; without: 'the'
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

  Example:
    >>> vectors = text.WordVectors({'cat': 0}, np.float32([[2, 3]]), skipped={})
    >>> matrix, coverage = text.embedding_matrix(vectors, {'the': 1, 'cat': 2}, 3)
    >>> matrix[2], coverage.missing
    (array([2., 3.], dtype=float32), ('the',))
  """
  words = sorted(
    ((i, word) for word, i in word_index.items() if i < num_rows), key=lambda p: p[0]
  )
  for (i, word), (after, other) in itertools.pairwise(words):
    if i == after:
      raise ValueError(f'word_index gives id {i} to both {word!r} and {other!r}')
  if words and words[0][0] < 0:
    raise ValueError(f'word_index gives {words[0][1]!r} the id {words[0][0]}')
  known = [(i, word) for i, word in words if word in vectors]
  matrix = np.zeros((num_rows, vectors.matrix.shape[1]), np.float32)
  matrix[[i for i, _ in known]] = vectors.matrix[[vectors.index[w] for _, w in known]]
  counts = counts or {}
  missing = (word for _, word in words if word not in vectors)
  coverage = Coverage(
    words=len(words),
    words_found=len(known),
    tokens=sum(counts.get(word, 0) for _, word in words),
    tokens_found=sum(counts.get(word, 0) for _, word in known),
    missing=tuple(itertools.islice(missing, _MISSING_SHOWN)),
  )
  return matrix, coverage
