"""What is wrong with a measured series, by rules; each fault is counted.

| fault | rule |
|---|---|
| rows out of order | sorted by time; rows of one time keep the order of the file |
| a repeated timestamp | the first row of it is kept, the others are dropped |
| a sentinel, for up to an hour | becomes the value before it: nothing of the future |
| a sentinel for longer, or at the very start | its rows are dropped: a gap |
| a gap, or two rows closer than a step | no window goes across it (`segments`) |
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from seqjax.data.series.series import Series
from seqjax.types import InputError

SENTINEL = -9999.0
_REPAIR_SECONDS = 3600


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

  def lines(self) -> dict[str, str]:
    """Name -> words, for people."""
    step = self.step_seconds
    words = f'{step // 60} minutes' if step % 60 == 0 else f'{step} seconds'
    return {
      'rows': f'{self.rows:,} in the file, {self.kept:,} kept',
      'period': f'{self.first} to {self.last}, a step of {words}',
      'out of order': f'{self.out_of_order:,} rows, sorted',
      'repeated': f'{self.repeated:,} rows, dropped',
      'sentinels': f'{self.sentinels:,} values: {self.repaired:,} replaced by the one '
      f'before, for the others {self.dropped:,} rows dropped',
      'gaps': f'{self.gaps:,} ({self.missing:,} steps missing); no window crosses one',
    }


class Clean(NamedTuple):
  """A series in time order without faults, in pieces between its gaps."""

  series: Series
  segments: np.ndarray  # [N] int32, the number of the piece that a row belongs to
  file_rows: np.ndarray  # [N] int64, where the row stood in the file
  report: Report


def clean(
  series: Series,
  source: str,
  *,
  step_minutes: float | None = None,
  sentinel: float = SENTINEL,
) -> Clean:
  """Applies the rules above.

  Args:
    series: As in the file.
    source: Its name, for messages.
    step_minutes: From a row to the next; None: what occurs most often.
    sentinel: Value that stands for a missing one.

  Raises:
    InputError: Nothing is left, or most rows do not follow at the given step.
  """
  rows = np.argsort(series.times, kind='stable')
  times = series.times[rows]
  out_of_order = np.sum(series.times < np.maximum.accumulate(series.times))
  fresh = np.concatenate([[True], times[1:] != times[:-1]])
  rows, times = rows[fresh], times[fresh]
  step = _step(times, step_minutes, source)

  values = series.values[rows]
  absent = values == np.float32(sentinel)
  last_good = np.where(absent, -1, np.arange(len(rows))[:, None])  # [N, D]
  last_good = np.maximum.accumulate(last_good, axis=0)
  age = (times[:, None] - times[last_good]).astype(np.int64)
  fixable = absent & (last_good >= 0) & (age <= _REPAIR_SECONDS)
  values = np.where(
    fixable, np.take_along_axis(values, np.maximum(last_good, 0), axis=0), values
  )
  keep = ~(absent & ~fixable).any(axis=1)
  if not keep.any():
    raise InputError(f'{source}: no row without the sentinel {sentinel:g} is left')
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
  return Clean(Series(times, values, series.columns), segments, rows, report)


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
