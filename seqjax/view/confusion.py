"""Picture of a confusion matrix."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from seqjax.view import plots

if TYPE_CHECKING:
  from matplotlib.figure import Figure

_MOST_WRITTEN = 30  # classes of which each count is written in its field


def draw(
  matrix: np.ndarray,
  classes: Sequence[str],
  path: str | os.PathLike[str],
  *,
  title: str,
) -> Figure:
  """Draws which classes were taken for which, a row for each true one.

  A field is as dark as the share of its row; the count is written into it.

  Args:
    matrix: int [C, C]: how often class i was taken for class j.
    classes: Their names.
    path: PNG file to write, whole or not at all.
    title: Of what model and set.

  Raises:
    InputError: The file cannot be written.
  """
  C = len(classes)
  size = min(3.2 + 0.42 * C, 16.0)
  figure = plots.new_figure(title, width=size + 0.6, height=size)
  axes = figure.subplots()
  shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
  axes.imshow(shares, cmap='Blues', vmin=0, vmax=1)
  axes.set_xticks(range(C), classes, rotation=90, fontsize=8)
  axes.set_yticks(range(C), classes, fontsize=8)
  axes.set_xlabel('Found')
  axes.set_ylabel('True')
  if C <= _MOST_WRITTEN:
    for i, j in np.argwhere(matrix):
      color = 'white' if shares[i, j] > 0.6 else 'black'
      axes.text(
        j, i, f'{matrix[i, j]:,}', ha='center', va='center', color=color, fontsize=7
      )
  return plots.save(figure, path)
