"""How a time is written: ISO 8601, seconds since 1970, a format, or not at all.

Formats of fixed width are read by NumPy, a column at a time; whatever else there is, by
the standard library, a text at a time.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable

import numpy as np

from seqjax.types import InputError

DATE_FORMAT = '%d.%m.%Y %H:%M:%S'
ISO, EPOCH, ROWS = 'iso', 'epoch', 'rows'

_WIDTHS = {'%Y': 4, '%m': 2, '%d': 2, '%H': 2, '%M': 2, '%S': 2}
_KNOWN = (*_WIDTHS, '%y', '%b', '%I', '%p')
_SPAN = (1, 9999)  # years that datetime64 and datetime agree about

Pieces = list[tuple[int | None, str]]  # (digits, directive) and (None, characters)


def pieces(date_format: str) -> Pieces | None:
  """The format cut into pieces of fixed width; None where it has others.

  Raises:
    InputError: It is none that can be read.
  """
  if date_format in (ISO, EPOCH, ROWS):
    return None
  parts = re.findall(r'%.?|[^%]+', date_format)
  directives = [piece for piece in parts if piece.startswith('%')]
  for piece in directives:
    if piece not in _KNOWN:
      raise InputError(
        f'`date_format={date_format}`: {piece} is not among {" ".join(_KNOWN)}'
      )
  given = {{'%y': '%Y', '%b': '%m', '%I': '%H'}.get(d, d) for d in directives}
  if len(given) != len(directives) or not {'%Y', '%m'} <= given:
    raise InputError(
      f'`date_format={date_format}`: expected {ISO}, {EPOCH}, {ROWS}, or a format with '
      'year and month (%Y or %y, %m or %b), and each directive once'
    )
  if ('%I' in directives) != ('%p' in directives):
    raise InputError(f'`date_format={date_format}`: %I, of 12 hours, goes with %p')
  if not set(directives) <= set(_WIDTHS) or '%d' not in directives:
    return None
  if not date_format.isascii():  # a character may be several bytes
    return None
  return [(_WIDTHS.get(piece), piece) for piece in parts]


def width(cut: Pieces) -> int:
  """How many characters a time has."""
  return sum(len(piece) if digits is None else digits for digits, piece in cut)


def parse(texts: np.ndarray, cut: Pieces) -> tuple[np.ndarray, np.ndarray]:
  """Texts [N] of fixed width -> (datetime64[s] [N], bool [N]: True where it is one).

  Args:
    texts: Bytes, of one more than `width`.
    cut: From `pieces`.
  """
  size = width(cut)
  letters = np.ascontiguousarray(texts).view(np.uint8).reshape(len(texts), size + 1)
  good = letters[:, size] == 0
  zero = np.zeros(len(texts), np.int64)
  numbers = {'%H': zero, '%M': zero, '%S': zero}
  at = 0
  for digits, piece in cut:
    if digits is None:
      expected = np.frombuffer(piece.encode('latin-1'), np.uint8)
      good &= (letters[:, at : at + len(expected)] == expected).all(axis=1)
      at += len(expected)
      continue
    figures = letters[:, at : at + digits].astype(np.int64) - ord('0')
    good &= ((figures >= 0) & (figures <= 9)).all(axis=1)
    numbers[piece] = figures @ 10 ** np.arange(digits)[::-1]
    at += digits
  year, month, day, hour, minute, second = (numbers[name] for name in _WIDTHS)
  good &= (year >= _SPAN[0]) & (year <= _SPAN[1]) & (month >= 1) & (month <= 12)
  months = (np.where(good, 12 * (year - 1970) + month - 1, 0)).astype('datetime64[M]')
  days = months.astype('datetime64[D]') + (day - 1).astype('timedelta64[D]')
  good &= (day >= 1) & (days.astype('datetime64[M]') == months)  # not 30 February
  good &= (hour < 24) & (minute < 60) & (second < 60)
  seconds = (3600 * hour + 60 * minute + second).astype('timedelta64[s]')
  times = days.astype('datetime64[s]') + seconds
  return times, good


def reader(
  date_format: str, *, aware: bool | None = None
) -> Callable[[str], datetime.datetime]:
  """What reads a text as a time of UTC, or of the clock that it names no offset of.

  It raises ValueError, with what was expected, for one that it cannot read.

  Args:
    date_format: 'iso', 'epoch' or a format.
    aware: Whether texts of ISO 8601 must have an offset from UTC; None: as the first.
  """
  if date_format == EPOCH:
    return _epoch
  if date_format == ISO:
    return Iso(aware)

  # With nothing between two numbers leading zeros tell which digits are whose.
  tight = re.search(r'%[YymdHIMS]%[YymdHIMS]', date_format)

  def read(text: str) -> datetime.datetime:
    try:
      time = datetime.datetime.strptime(text, date_format)
      if tight and text != time.strftime(date_format):
        raise ValueError
    except ValueError:
      raise ValueError(f'a time like {date_format}') from None
    return time

  return read


class Iso:
  """Reads ISO 8601; times with an offset from UTC become those of UTC.

  `aware` tells whether they have one: all do, or none.
  """

  def __init__(self, aware: bool | None = None) -> None:
    self.aware = aware

  def __call__(self, text: str) -> datetime.datetime:
    try:
      time = datetime.datetime.fromisoformat(text)
    except ValueError:
      raise ValueError('a time of ISO 8601, like 2020-01-31 23:59') from None
    aware = time.tzinfo is not None
    if self.aware is None:
      self.aware = aware
    if self.aware != aware:
      way = 'with' if self.aware else 'without'
      raise ValueError(f'a time {way} an offset from UTC, as the series has')
    if aware:
      try:
        time = time.astimezone(datetime.UTC).replace(tzinfo=None)
      except OverflowError:
        raise ValueError('a time of the years 1 to 9999') from None
    if time.microsecond:
      raise ValueError('a time of whole seconds')
    return time


def _epoch(text: str) -> datetime.datetime:
  try:
    seconds = float(text) if text.isascii() and '_' not in text else float('nan')
    if not seconds.is_integer():  # false of what is not finite
      raise ValueError
    return datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=int(seconds))
  except (ValueError, OverflowError):
    raise ValueError('whole seconds since 1970') from None
