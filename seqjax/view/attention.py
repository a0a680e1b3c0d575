"""Picture of where a decoder looked while it wrote."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from seqjax.view import plots

if TYPE_CHECKING:
  from matplotlib.figure import Figure


class Looks(NamedTuple):
  """One sequence that was read, the one that was written, and the weights between."""

  source: Sequence[str]  # S tokens
  target: Sequence[str]  # T tokens
  weights: np.ndarray  # [T, S], a row adds up to 1


def draw(
  several: Sequence[Looks], path: str | os.PathLike[str], *, title: str
) -> Figure:
  """Draws a panel for each: a row for each token written, dark where it looked.

  Args:
    several: One at least.
    path: PNG file to write, whole or not at all.
    title: Of what model and set.

  Raises:
    ValueError: Weights are not [T, S] of their tokens.
    InputError: The file cannot be written.
  """
  for looks in several:
    shape = len(looks.target), len(looks.source)
    if looks.weights.shape != shape:
      raise ValueError(f'weights must be {shape}, got {looks.weights.shape}')
  columns = min(len(several), 2)
  rows = math.ceil(len(several) / columns)
  widest = max(len(looks.source) for looks in several)
  longest = max(len(looks.target) for looks in several)
  figure = plots.new_figure(
    title,
    width=columns * (1.8 + 0.24 * widest),
    height=0.6 + rows * (1.6 + 0.24 * longest),
  )
  panels = figure.subplots(rows, columns, squeeze=False).flat
  for axes, looks in zip(panels, several, strict=False):
    axes.imshow(looks.weights, cmap='Blues', vmin=0, vmax=1, aspect='auto')
    axes.set_xticks(range(len(looks.source)), looks.source, rotation=90, fontsize=8)
    axes.set_yticks(range(len(looks.target)), looks.target, fontsize=8)
    axes.set_xlabel('Read')
    axes.set_ylabel('Written')
  for axes in list(figure.axes)[len(several) :]:
    axes.remove()
  return plots.save(figure, path)
