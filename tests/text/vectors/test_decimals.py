"""Reading many decimals at once gives float()'s numbers, bit for bit, or declines."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqjax.text.vectors.decimals import is_number, is_plain, parse_any, parse_plain

# A sign or none, digits on both sides of the point (one side may be empty).
DECIMAL = st.from_regex(r'-?([0-9]{1,8}\.[0-9]{0,7}|\.[0-9]{1,15})', fullmatch=True)


def _bits(numbers):
  return np.asarray(numbers, np.float32).view(np.uint32)


@given(st.lists(DECIMAL.map(str.encode), min_size=1, max_size=30))
def test_plain_numbers_are_those_of_float(fields):
  text = b' '.join(fields)
  assert is_plain(text, len(fields))
  got = parse_plain(text)
  assert got.dtype == np.float32
  np.testing.assert_array_equal(_bits(got), _bits([float(field) for field in fields]))
  np.testing.assert_array_equal(_bits(got), _bits(parse_any(text)))


@given(st.lists(st.floats(-9, 9), min_size=1), st.sampled_from(['%.6f', '%.5g', '%r']))
def test_printed_floats_are_those_of_float_or_declined(numbers, style):
  fields = [(style % number).encode() for number in numbers]
  text = b' '.join(fields)
  expected = _bits([float(field) for field in fields])
  got = parse_plain(text) if is_plain(text, len(fields)) else None
  if style == '%.6f':
    assert got is not None
  if got is not None:
    np.testing.assert_array_equal(_bits(got), expected)
  np.testing.assert_array_equal(_bits(parse_any(text)), expected)


@given(st.text('01.- ', max_size=12))
def test_text_of_plain_characters_is_never_misread(text):
  raw = text.encode()
  count = raw.count(b' ') + 1
  if is_plain(raw, count) and (got := parse_plain(raw)) is not None:
    expected = [float(field) for field in raw.split(b' ')]  # raises where none is
    np.testing.assert_array_equal(_bits(got), _bits(expected))


@pytest.mark.parametrize(
  'text',
  [b'1', b'.', b'-.', b'1..2', b'1.2.3 4', b'1.-2', b'--1.', b'-1.0-', b'', b' 1.5',
   b'1.5 ', b'1.5  2.5', b'1.5 .', b'12 1..2', b'1..2 12',
   b'0.1234567890123456', b'12345678901234567.'],
)  # fmt: skip
def test_anything_else_is_declined(text):
  assert parse_plain(text) is None


def test_longest_numbers_and_signed_zero():
  text = b'-0.0 0.0 -.000000000000001 999999999999999. 16777217.0 0.30000000000001'
  np.testing.assert_array_equal(
    _bits(parse_plain(text)), _bits([float(field) for field in text.split()])
  )


def test_halfway_between_two_float32_is_rounded_from_the_exact_number():
  # Times 1e-5 (or 1e-9) instead of a division, these would round away from float()'s.
  for text in (b'711558.65625', b'58411.783203125'):
    digits = len(text) - text.index(b'.') - 1
    inexact = int(text.replace(b'.', b'')) * 10.0**-digits
    assert np.float32(inexact) != np.float32(float(text))
    assert parse_plain(text) == np.float32(float(text))


@pytest.mark.parametrize(
  ('text', 'count', 'expected'),
  [
    (b'1.5 -2.5', 2, True),
    (b'1.5 -2.5', 1, False),
    (b'1.5 2', 2, False),
    (b'1.5e3', 1, False),
    (b'+1.5', 1, False),
    (b'1.5\t2.5', 2, False),
    (b'nan', 0, False),
    (b'1_0.5', 1, False),
  ],
)
def test_is_plain(text, count, expected):
  assert is_plain(text, count) is expected


def test_parse_any():
  np.testing.assert_array_equal(parse_any(b'1 -2e-3 +.5'), np.float32([1, -2e-3, 0.5]))
  for bad in (b'1 x', b'1  2', b'', b'1_0', b'1,5'):
    with pytest.raises(ValueError):  # noqa: PT011  the caller has its own words
      parse_any(bad)


def test_is_number():
  assert all(map(is_number, [b'1', b'-1.5e-05', b'+.5']))
  words = [b'.', b'nan', b'', b'infinity', b'1_0', b'a1', b'\xff']
  assert not any(map(is_number, words))
