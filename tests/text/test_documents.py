"""Document matrices against a slow twin that counts one id at a time."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjax.text.documents import document_matrix

C = 5


def _slow(sequences, mode, docs, num_docs):
  matrix = [[0.0] * C for _ in sequences]
  for row, ids in zip(matrix, sequences, strict=True):
    for i in set(ids):
      c = ids.count(i)
      row[i] = {
        'binary': 1,
        'count': c,
        'freq': c / len(ids),
        'tfidf': (1 + math.log(c)) * math.log(1 + num_docs / (1 + docs[i])),
      }[mode]
  return np.array(matrix).reshape(len(sequences), C)


@settings(deadline=None)
@given(
  sequences=st.lists(st.lists(st.integers(0, C - 1), max_size=9), max_size=4),
  mode=st.sampled_from(['binary', 'count', 'freq', 'tfidf']),
  docs=st.lists(st.integers(0, 20), min_size=C, max_size=C),
  num_docs=st.integers(1, 20),
)
def test_equals_the_slow_twin(sequences, mode, docs, num_docs):
  expected = _slow(sequences, mode, docs, num_docs)
  docs = np.array(docs)
  matrix = document_matrix(sequences, C, mode, docs=docs, num_docs=num_docs)
  np.testing.assert_allclose(matrix, expected, rtol=1e-14)
  assert matrix.dtype == np.float64


def test_arrays_of_ids_and_another_dtype():
  ids = np.array([[1, 1, 2], [0, 4, 0]], dtype=np.uint8)
  matrix = document_matrix(ids, C, 'count', dtype=np.int32)
  np.testing.assert_array_equal(matrix, [[0, 2, 1, 0, 0], [2, 0, 0, 0, 1]])
  assert matrix.dtype == np.int32


@pytest.mark.parametrize('bad', [-1, C, 2**40])
def test_ids_outside_are_named(bad):
  with pytest.raises(ValueError, match=rf'sequences\[2\] holds id {bad}, .*\[0, 5\)'):
    document_matrix([[1], [], [3, bad, bad]], C)


def test_wrong_use_is_named():
  with pytest.raises(ValueError, match='mode must be one of binary'):
    document_matrix([[1]], C, 'sum')
  with pytest.raises(ValueError, match='sequences must hold integers, got float64'):
    document_matrix([[1.5]], C)
  for docs, num_docs in ((None, 3), (np.zeros(C - 1), 3), (np.zeros(C), 0)):
    with pytest.raises(ValueError, match=r"'tfidf' needs docs \[5\]"):
      document_matrix([[1]], C, 'tfidf', docs=docs, num_docs=num_docs)
