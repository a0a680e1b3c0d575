"""Batches of windows: the numbers of the rows that they are made of, see `windows`."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Self

import numpy as np

from seqjax.data.batches import Resident
from seqjax.data.series.windows import WindowSet
from seqjax.types import Batch


class _OfWindows:
  """What any batches of a set of windows say of it."""

  _windows: WindowSet

  @property
  def fingerprint(self) -> str:
    return self._windows.fingerprint

  @property
  def resident(self) -> Resident:
    return self._windows.resident


class RandomWindows(_OfWindows):
  """A feed of windows drawn at random for each step; the same step, the same windows.

  Within a batch each window comes once, if there are enough of them.
  """

  def __init__(
    self, windows: WindowSet, batch_size: int, seed: int, steps_per_epoch: int
  ):
    self._windows, self._batch_size, self._seed = windows, batch_size, seed
    self._steps_per_epoch = steps_per_epoch

  @property
  def steps_per_epoch(self) -> int:
    return self._steps_per_epoch

  def with_seed(self, seed: int) -> Self:
    other = copy.copy(self)
    other._seed = seed
    return other

  def batch(self, step: int) -> Batch:
    rows = self._windows.rows
    rng = np.random.default_rng((self._seed, step))
    B = self._batch_size
    return self._windows.batch(
      rows[rng.choice(len(rows), B, replace=len(rows) < B, shuffle=False)], B
    )


class WindowsInOrder(_OfWindows):
  """Every window once, in the order of the anchors given."""

  def __init__(self, windows: WindowSet, batch_size: int):
    self._windows, self._batch_size = windows, batch_size

  def __iter__(self) -> Iterator[Batch]:
    rows = self._windows.rows
    for start in range(0, len(rows), self._batch_size):
      yield self._windows.batch(
        rows[start : start + self._batch_size], self._batch_size
      )
