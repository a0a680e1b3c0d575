"""Documents as rows of a matrix: which ids each one holds, and how heavily."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

Mode: TypeAlias = Literal['binary', 'count', 'freq', 'tfidf']


def document_matrix(
  sequences: Sequence[Sequence[int]],
  num_ids: int,
  mode: Mode = 'binary',
  *,
  docs: np.ndarray | None = None,
  num_docs: int = 0,
  dtype: npt.DTypeLike = np.float64,
) -> np.ndarray:
  """Counts ids per document.

  Args:
    sequences: N lists of ids, as a Tokenizer or the hashing trick makes them.
    num_ids: Number of columns, C here; every id is below it.
    mode: With c the count of an id in its document: 'binary' 1; 'count' c; 'freq'
      c / length of the list; 'tfidf' (1 + ln c) * ln(1 + num_docs / (1 + docs)).
    docs: [C], in how many documents of the training set each id occurs; for 'tfidf'.
    num_docs: Number of documents of the training set; for 'tfidf'.
    dtype: Of the result. The sums are done in float64.

  Returns:
    [N, C]; column i belongs to id i. Zero where a document does not hold an id.

  Raises:
    ValueError: On an unknown mode, an id outside [0, C), or 'tfidf' without the
      frequencies of the training set.

  Example:
    >>> text.document_matrix([[1, 2, 1], [3]], num_ids=4, mode='count')
    array([[0., 2., 1., 0.],
           [0., 0., 0., 1.]])
  """
  if mode not in get_args(Mode):
    raise ValueError(f'mode must be one of {", ".join(get_args(Mode))}, got {mode!r}')
  lengths = np.array([len(ids) for ids in sequences], dtype=np.int64)  # [N]
  flat = list(itertools.chain.from_iterable(sequences))
  ids = np.array(flat) if flat else np.zeros(0, np.int64)  # [tokens]
  if not np.issubdtype(ids.dtype, np.integer):
    raise ValueError(f'sequences must hold integers, got {ids.dtype}')
  rows = np.repeat(np.arange(len(lengths)), lengths)  # [tokens]
  outside = np.flatnonzero((ids < 0) | (ids >= num_ids))
  if outside.size:
    first = outside[0]
    raise ValueError(
      f'sequences[{rows[first]}] holds id {ids[first]}, expected [0, {num_ids})'
    )
  cells, counts = np.unique(
    rows * num_ids + ids.astype(np.int64), return_counts=True
  )  # [pairs], the distinct pairs of document and id
  rows, ids = cells // num_ids, cells % num_ids
  matrix = np.zeros((len(lengths), num_ids), dtype)
  if mode == 'binary':
    matrix[rows, ids] = 1
  elif mode == 'count':
    matrix[rows, ids] = counts
  elif mode == 'freq':
    matrix[rows, ids] = counts / lengths[rows]
  else:
    if docs is None or docs.shape != (num_ids,) or num_docs < 1:
      raise ValueError(f"mode 'tfidf' needs docs [{num_ids}] and num_docs >= 1")
    inverse = np.log(1 + num_docs / (1 + docs))  # [C]
    matrix[rows, ids] = (1 + np.log(counts)) * inverse[ids]
  return matrix
