"""The windows of the chapter's own generator, as it was published; see decision 6.

It samples unevenly, its targets cross the borders of splits, and its validation repeats
some windows. For `windows=book` only: with it the published numbers were measured.
"""

from __future__ import annotations

import numpy as np

from seqjax.data.series.windows import Shape


def shape(lookback: int, step: int, delay: int) -> Shape:
  """Rows seq(r - lookback, r - 1, length.out = lookback / step), cut to whole numbers.

  The anchor r itself is not among the inputs, and the target is r + delay: so it lies
  delay + 1 steps after the last input. The spacing is `step` and at times step + 1.
  """
  offsets = np.linspace(-lookback, -1, lookback // step)
  return Shape(tuple(int(offset) for offset in np.floor(offsets)), delay)


def training_rows(start: int, stop: int, lookback: int) -> np.ndarray:
  """What training draws from: rows start + lookback ... stop - 1, gaps or not."""
  return np.arange(start + lookback, stop, dtype=np.int32)


def evaluation_rows(
  start: int, stop: int, lookback: int, batch_size: int
) -> np.ndarray:
  """What one evaluation sees: as many batches as its number of steps, of one row more.

  The generator yields rows i ... i + batch_size, both included, and starts again where
  the next batch would reach the end; steps = (stop - start - 1 - lookback) / batch_size
  of these batches need more rows than there are, so the first ones come twice and the
  last ones never. In the book the generator went on from epoch to epoch where it stood;
  here each evaluation begins at the start, as the first of the book's did.
  """
  low, high = start + lookback, stop - 1  # first and last row there is
  batches, at = [], low
  for _ in range((high - low) // batch_size):
    if at + batch_size >= high:
      at = low
    rows = np.arange(at, min(at + batch_size, high) + 1, dtype=np.int32)
    batches.append(rows)
    at += len(rows)
  return np.concatenate(batches) if batches else np.empty(0, np.int32)
