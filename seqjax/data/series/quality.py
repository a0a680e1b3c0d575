"""What is wrong with a measured series, by rules; each fault is counted.

| fault | rule |
|---|---|
| rows out of order | sorted by time; rows of one time keep the order of the file |
| a repeated timestamp | the first row of it is kept, the others are dropped |
| a sentinel, for up to an hour | becomes the value before it: nothing of the future |
| a sentinel for longer, or at the very start | its rows are dropped: a gap |
| a gap, or two rows closer than a step | no window goes across it (`segments`) |

A sentinel, or NaN, is a missing value, and `missing` may ask for other rules:

| `missing` | a missing value |
|---|---|
| hour | as above |
| refuse | an error, which names the first |
| previous | becomes the value before it, however old |
| interpolate | lies between the values before and after it: it knows of the future |
| gap | its row is dropped, as where there is no value before or after |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from seqjax.data.series.series import Series
from seqjax.types import InputError

SENTINEL = -9999.0
_REPAIR_SECONDS = 3600

Missing: TypeAlias = Literal['hour', 'refuse', 'previous', 'interpolate', 'gap']


@dataclasses.dataclass(frozen=True)
class Report:
  """What was found in a file, and how many rows are left."""

  rows: int  # of the file
  kept: int
  first: str  # time of the earliest row, ISO 8601
  last: str
  step_seconds: int
  out_of_order: int  # rows earlier than one before them
  repeated: int  # rows dropped because their time had been there
  sentinels: int  # values
  repaired: int  # of them, by the value before
  dropped: int  # rows, because of the others
  gaps: int  # places where a row does not come one step after the one before
  missing: int  # steps without a row, within the gaps

  def lines(
    self, missing: Missing = 'hour', *, across_gaps: bool = False
  ) -> dict[str, str]:
    """Name -> words, for people; `missing` as for `clean`, `across_gaps` as windows."""
    step = self.step_seconds
    words = f'{step // 60} minutes' if step % 60 == 0 else f'{step} seconds'
    period = f'{self.first} to {self.last}, a step of {words}'
    if self.first.isdigit():  # rows without a time
      period = f'rows {self.first} to {self.last}'
    name = 'sentinels' if missing == 'hour' else 'missing values'
    become = (
      'interpolated' if missing == 'interpolate' else 'replaced by the one before'
    )
    return {
      'rows': f'{self.rows:,} in the file, {self.kept:,} kept',
      'period': period,
      'out of order': f'{self.out_of_order:,} rows, sorted',
      'repeated': f'{self.repeated:,} rows, dropped',
      name: f'{self.sentinels:,} values: {self.repaired:,} {become}, '
      f'for the others {self.dropped:,} rows dropped',
      'gaps': f'{self.gaps:,} ({self.missing:,} steps missing); '
      f'{"windows cross them" if across_gaps else "no window crosses one"}',
    }


class Clean(NamedTuple):
  """A series in time order without faults, in pieces between its gaps."""

  series: Series
  segments: np.ndarray  # [N] int32, the number of the piece that a row belongs to
  file_rows: np.ndarray  # [N] int64, where the row stood in the file
  report: Report
  filled: np.ndarray  # bool [N, D], where a value was missing and is made up


def clean(
  series: Series,
  source: str,
  *,
  step_minutes: float | None = None,
  sentinel: float | None = SENTINEL,
  missing: Missing = 'hour',
  held: Sequence[str] = (),
) -> Clean:
  """Applies the rules above.

  Args:
    series: As in the file.
    source: Its name, for messages.
    step_minutes: From a row to the next; None: what occurs most often.
    sentinel: Value that stands for a missing one, as NaN does.
    missing: What becomes of a missing value.
    held: Columns in which nothing lies between two values, as of words: they are never
      interpolated, but keep the value before, and have no sentinel.

  Raises:
    InputError: Nothing is left, a value is missing and refused, or most rows do not
      follow at the given step.

  Example:
    >>> from seqjax.data.series import quality, synthetic
    >>> measured = synthetic.weather(seed=0, num_rows=1000, faults=True)
    >>> series, segments, *_, report, _ = quality.clean(measured, 'the weather')
    >>> report.sentinels, report.gaps, len(series.times)
    (1, 1, 999)
  """
  rows = np.argsort(series.times, kind='stable')
  times = series.times[rows]
  out_of_order = np.sum(series.times < np.maximum.accumulate(series.times))
  fresh = np.concatenate([[True], times[1:] != times[:-1]])
  rows, times = rows[fresh], times[fresh]
  step = _step(times, step_minutes, source)

  values = series.values[rows]
  absent = _absent(values, sentinel, series.columns, held)
  if missing == 'refuse':
    _refuse(absent, rows, series, source)
  values, fixable = _fill(times, values, absent, missing, series.columns, held)
  keep = ~(absent & ~fixable).any(axis=1)
  if not keep.any():
    words = 'a missing value' if sentinel is None else f'the sentinel {sentinel:g}'
    raise InputError(f'{source}: no row without {words} is left')
  times, values, rows = times[keep], values[keep], rows[keep]

  apart = np.diff(times).astype(np.int64)
  breaks = apart != step
  segments = np.concatenate([[0], np.cumsum(breaks)]).astype(np.int32)
  report = Report(
    rows=len(series.times),
    kept=len(rows),
    first=str(times[0]),
    last=str(times[-1]),
    step_seconds=step,
    out_of_order=int(out_of_order),
    repeated=int(np.sum(~fresh)),
    sentinels=int(absent.sum()),
    repaired=int(np.sum(fixable & keep[:, None])),
    dropped=int(np.sum(~keep)),
    gaps=int(breaks.sum()),
    missing=int(np.sum(np.maximum(apart[breaks] // step - 1, 0))),
  )
  kept = series._replace(times=times, values=values, lines=None)
  return Clean(kept, segments, rows, report, fixable[keep])


def complete(
  series: Series,
  source: str,
  *,
  sentinel: float | None = None,
  missing: Missing = 'refuse',
  held: Sequence[str] = (),
) -> Series:
  """A series in time order without missing values; its steps may be any.

  Args:
    series, source, sentinel, missing, held: As for `clean`.

  Raises:
    InputError: Nothing is left, or a value is missing and refused.
  """
  rows = np.argsort(series.times, kind='stable')
  times, values = series.times[rows], series.values[rows]
  absent = _absent(values, sentinel, series.columns, held)
  if missing == 'refuse':
    _refuse(absent, rows, series, source)
  values, fixable = _fill(times, values, absent, missing, series.columns, held)
  keep = ~(absent & ~fixable).any(axis=1)
  if not keep.any():
    raise InputError(f'{source}: no row without a missing value is left')
  return series._replace(times=times[keep], values=values[keep], lines=None)


def _absent(
  values: np.ndarray,
  sentinel: float | None,
  columns: Sequence[str],
  held: Sequence[str],
) -> np.ndarray:
  """Which values [N, D] are missing, bool; 0 and 1 of a word are none of them."""
  absent = np.isnan(values)
  if sentinel is None:
    return absent
  numbers = np.array([column not in held for column in columns])
  return absent | ((values == values.dtype.type(sentinel)) & numbers)


def _refuse(absent: np.ndarray, rows: np.ndarray, series: Series, source: str) -> None:
  """Raises InputError for the first missing value in the file, if there is any."""
  if absent.any():
    row, column = min((rows[i], int(d)) for i, d in np.argwhere(absent))
    line = row + 2 if series.lines is None else series.lines[row]
    raise InputError(
      f'{source}: line {line}, column {series.columns[column]!r}: a value is missing'
      '; `missing` says what becomes of it'
    )


def _fill(
  times: np.ndarray,
  values: np.ndarray,
  absent: np.ndarray,
  missing: Missing,
  columns: Sequence[str],
  held: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
  """Values [N, D] with those made up that can be, and which these are, bool [N, D]."""
  if missing == 'gap':
    return values, np.zeros_like(absent)
  last_good = np.where(absent, -1, np.arange(len(times))[:, None])  # [N, D]
  last_good = np.maximum.accumulate(last_good, axis=0)
  fixable = absent & (last_good >= 0)
  if missing == 'hour':
    age = (times[:, None] - times[last_good]).astype(np.int64)
    fixable &= age <= _REPAIR_SECONDS
  before = np.take_along_axis(values, np.maximum(last_good, 0), axis=0)
  filled = np.where(fixable, before, values)
  if missing == 'interpolate':
    seconds = (times - times[0]).astype(np.int64).astype(np.float64)
    for d in np.flatnonzero(absent.any(axis=0)).tolist():
      good = ~absent[:, d]
      if columns[d] in held or not good.any():
        continue
      line = np.interp(seconds, seconds[good], values[good, d].astype(np.float64))
      fixable[:, d] &= np.arange(len(times)) < np.flatnonzero(good)[-1]
      filled[:, d] = np.where(fixable[:, d], line, values[:, d])
  return filled, fixable


def _step(times: np.ndarray, step_minutes: float | None, source: str) -> int:
  """Seconds from a row to the next; at least half of the rows must follow at it."""
  if len(times) < 2:
    raise InputError(f'{source}: expected at least two rows of different times')
  steps = np.diff(times).astype(np.int64)
  apart, counts = np.unique(steps, return_counts=True)
  usual = int(apart[counts.argmax()])
  step = usual if step_minutes is None else round(60 * step_minutes)
  if step < 1:
    raise InputError(
      f'{source}: `step_minutes={step_minutes}` must be a second at least'
    )
  off = steps != step
  if 2 * off.sum() > len(steps):
    raise InputError(
      f'{source}: {off.sum():,} of {len(steps):,} rows do not come {step / 60:g} '
      f'minutes after the one before: steps of {steps[off].min() / 60:g} to '
      f'{steps[off].max() / 60:g} minutes, the first at {times[off.argmax()]}; '
      'say what the step is with `step_minutes`'
    )
  return step
