"""Padding: Keras's where Keras is right, and loud where Keras wraps or truncates."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjax.text.padding import pad_sequences

SIDES = ('pre', 'post')
RAGGED = [[1, 2, 3], [], [4], [5, 6, 7, 8]]


@pytest.mark.parametrize(
  ('options', 'expected'),
  [
    ({}, [[2, 3], [0, 0], [0, 4], [7, 8]]),
    ({'truncating': 'post'}, [[1, 2], [0, 0], [0, 4], [5, 6]]),
    ({'padding': 'post'}, [[2, 3], [0, 0], [4, 0], [7, 8]]),
    ({'padding': 'post', 'truncating': 'post'}, [[1, 2], [0, 0], [4, 0], [5, 6]]),
    ({'value': -1}, [[2, 3], [-1, -1], [-1, 4], [7, 8]]),
  ],
)
def test_by_hand(options, expected):
  out = pad_sequences(RAGGED, 2, **options)
  np.testing.assert_array_equal(out, expected)
  assert out.dtype == np.int32


def test_length_none_is_the_longest():
  expected = [[0, 1, 2, 3], [0, 0, 0, 0], [0, 0, 0, 4], [5, 6, 7, 8]]
  np.testing.assert_array_equal(pad_sequences(RAGGED), expected)
  assert pad_sequences([]).shape == (0, 0)
  assert pad_sequences([[], []]).shape == (2, 0)
  assert pad_sequences([], 3).shape == (0, 3)
  assert pad_sequences([[], ()], 3).tolist() == [[0, 0, 0], [0, 0, 0]]


@settings(deadline=None)
@given(
  sequences=st.lists(
    st.lists(st.integers(-(2**31), 2**31 - 1), max_size=7), min_size=1
  ),
  length=st.none() | st.integers(1, 9),
  padding=st.sampled_from(SIDES),
  truncating=st.sampled_from(SIDES),
  value=st.integers(-5, 5),
)
def test_equals_keras(sequences, length, **options):
  keras_pad = pytest.importorskip('keras').utils.pad_sequences
  ours = pad_sequences(sequences, length, **options)
  np.testing.assert_array_equal(ours, keras_pad(sequences, maxlen=length, **options))


@pytest.mark.parametrize('padding', SIDES)
@pytest.mark.parametrize('truncating', SIDES)
def test_ragged_steps_of_floats(padding, truncating):
  rng = np.random.default_rng(0)
  rows = [rng.normal(size=(t, 2, 3)).astype(np.float32) for t in (4, 0, 1, 7)]
  out = pad_sequences(
    rows, 4, padding=padding, truncating=truncating, value=9, dtype=np.float32
  )
  assert out.shape == (4, 4, 2, 3)
  for row, got in zip(rows, out, strict=True):
    kept = row[-4:] if truncating == 'pre' else row[:4]
    filler = np.full((4 - len(kept), 2, 3), 9)
    parts = [filler, kept] if padding == 'pre' else [kept, filler]
    np.testing.assert_array_equal(got, np.concatenate(parts))


def test_lists_arrays_and_tuples_mix():
  rows = [[1, 2], np.array([3], np.uint8), (4.0, 5.0), np.array([], np.float64)]
  np.testing.assert_array_equal(
    pad_sequences(rows, 2), [[1, 2], [0, 3], [4, 5], [0, 0]]
  )
  # Joined to one array of float64 first, the integer would lose its last digit.
  exact = pad_sequences([[2**53 + 1], [0.0]], dtype=np.int64)
  assert exact.tolist() == [[2**53 + 1], [0]]


@pytest.mark.parametrize(
  ('values', 'dtype'),
  [
    ([2**31 - 1, -(2**31)], np.int32),
    ([255, 0], np.uint8),
    ([2**63 - 1, -(2**63)], np.int64),
    ([2**64 - 1], np.uint64),
    ([2.0**31 - 1], np.int32),
    ([-(2.0**63)], np.int64),
    ([65504.0, float('inf'), float('nan')], np.float16),
    ([0.1], np.float32),
  ],
)
def test_what_a_type_can_hold_comes_through(values, dtype):
  out = pad_sequences([values], dtype=dtype)
  np.testing.assert_array_equal(out, np.array([values]).astype(dtype))


@pytest.mark.parametrize(
  ('bad', 'dtype'),
  [
    (2**31, np.int32),
    (-(2**31) - 1, np.int32),
    (256, np.uint8),
    (-1, np.uint64),
    (2**63, np.int64),
    (2.0**63, np.int64),
    (2.0**64, np.uint64),
    (0.5, np.int32),
    (float('nan'), np.int32),
    (float('-inf'), np.int32),
    (70000, np.float16),
    (1e39, np.float32),
  ],
)
def test_what_a_type_cannot_hold_is_named_and_never_wrapped(bad, dtype):
  with pytest.raises(ValueError, match=r'sequences\[2\] holds .* does not fit into'):
    pad_sequences([[1], [], [1, bad], [bad]], dtype=dtype)
  with pytest.raises(ValueError, match=r'^value .* does not fit into'):
    pad_sequences([[1]], value=bad, dtype=dtype)


def test_what_is_cut_off_need_not_fit():
  assert pad_sequences([[2**40, 1]], 1).tolist() == [[1]]


@pytest.mark.parametrize('bad', ['abc', b'abc', 3, None, [None], ['a'], [[1], [2, 3]]])
def test_rows_that_are_no_sequences_are_named(bad):
  with pytest.raises(
    ValueError, match=r'sequences\[1\] must hold numbers \[t, \.\.\.\]'
  ):
    pad_sequences([[1], bad])


def test_other_wrong_use_is_named():
  with pytest.raises(ValueError, match='length must be None or >= 1, got 0'):
    pad_sequences(RAGGED, 0)
  with pytest.raises(ValueError, match="padding must be 'pre' or 'post', got 'left'"):
    pad_sequences(RAGGED, 2, padding='left')
  with pytest.raises(ValueError, match="truncating must be 'pre' or 'post', got None"):
    pad_sequences(RAGGED, 2, truncating=None)
  with pytest.raises(ValueError, match='dtype must be an integer or float type, got'):
    pad_sequences(RAGGED, 2, dtype=object)
  steps = [[], np.zeros((2, 3)), np.zeros((2, 4))]
  with pytest.raises(
    ValueError, match=r'sequences\[2\] .* \(4,\), sequences\[1\] .* \(3'
  ):
    pad_sequences(steps, 2, dtype=np.float32)


@pytest.mark.slow
def test_25_000_reviews_take_less_than_a_second():
  rng = np.random.default_rng(0)
  rows = [rng.integers(1, 10_000, t).tolist() for t in rng.integers(50, 450, 25_000)]
  start = time.process_time()
  out = pad_sequences(rows, 500)
  assert time.process_time() - start < 1
  assert out[0, -len(rows[0]) :].tolist() == rows[0]
