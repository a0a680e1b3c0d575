"""Decimal numbers from text, many at once and equal to float() bit for bit.

A call of float() for each number is most of the time of reading a file of vectors.
"""

from __future__ import annotations

import numpy as np

_SPACE, _MINUS, _DOT, _ZERO = b' -.0'
# Up to 15 digits are an integer that float64 holds, up to 22 zeros a power of ten that
# it holds. Then one division rounds once, and correctly: Clinger 1990, "How to read
# floating point numbers accurately".
_MAX_DIGITS = 15
_POWERS = np.array([float(10**k) for k in range(_MAX_DIGITS + 1)])  # pow() may round


def parse_plain(text: bytes) -> np.ndarray | None:
  """Reads plain decimals with one space between them, as float32.

  Args:
    text: Numbers such as -0.25, .5 or 3., separated by exactly one space, for which
      `is_plain` holds.

  Returns:
    float32 [numbers], or None if a number has no point or two, a sign elsewhere, or
    not 1 to 15 digits: such text is left to float(), for its numbers or its error.
  """
  raw = np.frombuffer(text + b' ', np.uint8)  # [bytes]
  ends = np.flatnonzero(raw == _SPACE)  # [n], as all below
  starts = np.concatenate([[0], ends[:-1] + 1])
  dots = np.flatnonzero(raw == _DOT)
  negative = raw[starts] == _MINUS
  if len(dots) != len(ends) or np.count_nonzero(raw == _MINUS) != negative.sum():
    return None
  num_digits = ends - starts - negative - 1
  if (
    (dots < starts).any()
    or (dots >= ends).any()
    or num_digits.min() < 1
    or num_digits.max() > _MAX_DIGITS
  ):
    return None
  digits = raw[raw >= _ZERO] - np.uint8(_ZERO)  # [all digits], no other sign is larger
  first = np.cumsum(num_digits) - num_digits
  whole = np.empty(len(ends))
  for size in np.flatnonzero(np.bincount(num_digits)):
    which = np.flatnonzero(num_digits == size)
    picked = digits[first[which, None] + np.arange(size)]  # [which, size]
    whole[which] = picked @ _POWERS[:size][::-1]
  numbers = whole / _POWERS[ends - dots - 1]
  return np.where(negative, -numbers, numbers).astype(np.float32)


def is_plain(text: bytes, count: int) -> bool:
  """Whether a text has `count` points and else digits, minuses and spaces alone."""
  return text.count(b'.') == count and not text.translate(None, b'0123456789.- ')


def parse_any(text: bytes) -> np.ndarray:
  """Reads any numbers with one space between them, as float32.

  Raises:
    ValueError: A field is no number. (1_000 is one to float() and to nobody else.)
  """
  if b'_' in text:
    raise ValueError('an underscore is part of no number')
  return np.array(list(map(float, text.split(b' '))), np.float32)


def is_number(field: bytes) -> bool:
  """Whether a field reads as a number; 'nan' and 'infinity' are taken for words."""
  try:
    float(field)
  except ValueError:
    return False
  return b'_' not in field and any(48 <= byte <= 57 for byte in field)
