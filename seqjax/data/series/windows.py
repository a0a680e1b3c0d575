"""Windows of a series: which there are, and what lies in them.

A window is named by its anchor, a row of the series: its inputs are the rows
`anchor + offsets` and its target is the row `anchor + ahead`. Windows are never stored.
A batch holds the rows of its anchors and targets; the values are taken from the series
where it lies, by `gather` within a jitted step or `take` on the host.

One target, one step ahead, is y [B]. Several of either are `Targets`, and y [B, K, C]:
K rows ahead, C columns.

  >>> from seqjax.data.series import windows
  >>> shape = windows.sampled(lookback=6, step=2, delay=1)
  >>> rows = windows.anchors(np.zeros(10, int), 0, 10, shape)  # of ten rows, one piece
  >>> x, y = windows.take(np.arange(20.0).reshape(10, 2), 0, shape, rows)
  >>> x.shape, y
  ((5, 3, 2), array([10., 12., 14., 16., 18.]))
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from seqjax.data.batches import Resident
from seqjax.types import Array, Batch, InputError


class Shape(NamedTuple):
  """Which rows a window is made of, relative to its anchor."""

  offsets: tuple[int, ...]  # T of them, increasing
  ahead: int  # of the target; more than the last offset


class Targets(NamedTuple):
  """What is to be forecast of a window, where it is more than one number."""

  columns: tuple[int, ...]  # C of them
  horizons: tuple[int, ...]  # K rows ahead of the anchor; the furthest is `Shape.ahead`


def sampled(lookback: int, step: int, delay: int) -> Shape:
  """Every `step`-th row of the last `lookback`, the anchor included, and its future.

  T = lookback // step inputs t - (T - 1) step, ..., t - step, t, and the target
  t + delay.

  Raises:
    InputError: lookback is smaller than step, or one of the three less than 1.
  """
  if step < 1 or delay < 1 or lookback < step:
    raise InputError(
      f'`lookback={lookback}` must be at least `step={step}`, and `step` and '
      f'`delay={delay}` at least 1'
    )
  T = lookback // step
  return Shape(tuple(range(-(T - 1) * step, 1, step)), delay)


def anchors(
  segments: np.ndarray,
  start: int,
  stop: int,
  shape: Shape,
  *,
  across_gaps: bool = False,
) -> np.ndarray:
  """Anchors of all windows within rows start ... stop - 1, increasing, int32 [N].

  A split of n rows without gaps has n - span of them, where span, (T - 1) step + delay
  for `sampled`, is how many rows lie between the first input and the target.

  Args:
    segments: int [rows of the series]; windows stay within one segment.
    start: First row that a window may have; its target too lies before `stop`.
    stop: End of the split.
    shape: Of the windows.
    across_gaps: Windows may go from one segment into another.
  """
  first, last = start - shape.offsets[0], stop - shape.ahead
  rows = np.arange(first, max(first, last), dtype=np.int32)
  if across_gaps:
    return rows
  # Segments are numbered in time order: equal ends, equal all the way.
  whole = segments[rows + shape.offsets[0]] == segments[rows + shape.ahead]
  return rows[whole]


def take(
  values: np.ndarray, target: int | Targets, shape: Shape, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """values [N, D], anchors [B] -> (x [B, T, D], y [B(, K, C)]): the twin of `gather`.

  Raises:
    IndexError: A window leaves the series.
  """
  inputs = rows[:, None] + np.asarray(shape.offsets)  # [B, T]
  if len(rows) and inputs.min() < 0:
    raise IndexError(f'a window begins at row {inputs.min()}')
  if not isinstance(target, Targets):
    return values[inputs], values[rows + shape.ahead, target]
  due = rows[:, None] + np.asarray(target.horizons)  # [B, K]
  return values[inputs], values[due[:, :, None], list(target.columns)]


@functools.cache
def gather(shape: Shape, target: int | Targets) -> Callable[[Array, Batch], Batch]:
  """Returns (series [N, D], batch of `WindowSet.batch`) -> x [B, T, D], y [B(, K, C)].

  For a jitted step. A row that the series does not have gives NaN, which ends a run.
  (JAX by itself would take the nearest row, or count from the end.)

  Args:
    shape: Which rows a window is made of.
    target: Column of the target, or several targets.
  """
  offsets = np.asarray(shape.offsets, np.int32)
  outside: Any = {'mode': 'fill', 'fill_value': np.nan, 'wrap_negative_indices': False}

  def examples(series: Array, batch: Batch) -> Batch:
    rows = batch.x[:, None] + offsets[None]  # [B, T]
    x = series.at[rows].get(**outside)  # [B, T, D]
    if not isinstance(target, Targets):
      return batch._replace(x=x, y=series.at[batch.y, target].get(**outside))
    due = batch.x[:, None] + np.asarray(target.horizons, np.int32)[None]  # [B, K]
    columns = np.asarray(target.columns)
    return batch._replace(x=x, y=series.at[due[..., None], columns].get(**outside))

  return examples


class WindowSet:
  """Windows of one series by their anchors, checked once to lie within it."""

  def __init__(
    self,
    values: np.ndarray,
    target: int | Targets,
    shape: Shape,
    rows: np.ndarray,
  ):
    """Takes the series [N, D], what is to be forecast, and the anchors [M], M >= 1."""
    if not len(rows):
      raise ValueError('there are no windows')
    columns, ahead = (
      target if isinstance(target, Targets) else Targets((target,), (shape.ahead,))
    )
    low = int(rows.min()) + min(*shape.offsets, *ahead)
    high = int(rows.max()) + max(shape.ahead, *ahead)
    inside = columns and 0 <= min(columns) <= max(columns) < values.shape[1]
    if low < 0 or high >= len(values) or not inside:
      raise ValueError(  # on a device such an index would become another in silence
        f'windows of rows {low} to {high} and column {", ".join(map(str, columns))} do '
        f'not lie in a series {values.shape}'
      )
    self.values, self.target, self.shape = values, target, shape
    self.rows = rows.astype(np.int32)

  @functools.cached_property
  def fingerprint(self) -> str:
    """SHA-256 of the series and of which windows of it these are."""
    digest = hashlib.sha256(f'{self.shape}{self.target}{self.values.shape}'.encode())
    digest.update(np.ascontiguousarray(self.values).data)
    digest.update(self.rows.data)
    return digest.hexdigest()

  @functools.cached_property
  def resident(self) -> Resident:
    """The series, and what takes windows from it: one function, so one program."""
    return Resident(self.values, gather(self.shape, self.target))

  def batch(self, rows: np.ndarray, batch_size: int) -> Batch:
    """Anchors as x and target rows as y, int32 [B]; filled up at weight 0."""
    weight = np.zeros(batch_size, np.float32)
    weight[: len(rows)] = 1
    x = np.full(batch_size, self.rows[0])
    x[: len(rows)] = rows
    return Batch(x, x + np.int32(self.shape.ahead), weight)  # type: ignore[arg-type]


def in_splits(
  values: np.ndarray,
  target: int | Targets,
  shape: Shape,
  borders: tuple[int, int],
  anchors_of: Callable[[int, int], np.ndarray],
  name: str,
  remedy: str,
) -> list[WindowSet]:
  """The windows to train, to validate and to test on, in time order.

  Args:
    values, target, shape: As for `WindowSet`.
    borders: First rows of the validation and of the test split.
    anchors_of: (first row, end) of a split -> the anchors of its windows.
    name: Of the series, for messages.
    remedy: What a window needs besides, and what to lower, for messages.

  Raises:
    InputError: A split has no window.
  """
  sets, edges = [], (0, *borders, len(values))
  for split, start, stop in zip(
    ('training', 'validation', 'test'), edges[:-1], edges[1:], strict=True
  ):
    rows = anchors_of(start, stop)
    if not len(rows):
      raise InputError(
        f'{name}: the {split} split, {stop - start:,} rows, has no window: one needs '
        f'{shape.ahead - shape.offsets[0] + 1:,} rows without a gap{remedy}, or give '
        'the split more rows'
      )
    sets.append(WindowSet(values, target, shape, rows))
  return sets
