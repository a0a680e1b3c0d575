"""Picture of what a number comes to on average, over another: error over distance."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from seqjax.view import plots

if TYPE_CHECKING:
  from matplotlib.figure import Figure

_MOST_BINS = 20


def draw(
  x: np.ndarray,
  y: np.ndarray,
  path: str | os.PathLike[str],
  *,
  title: str,
  xlabel: str,
  ylabel: str,
  levels: Mapping[str, float] | None = None,
) -> Figure:
  """Draws the mean of y for each x, and a band of two standard errors.

  Args:
    x: int [N]; more than 20 values are put together in bins as wide as each other.
    y: [N].
    path: PNG file to write, whole or not at all.
    title: Of what model and set.
    xlabel: Quantity and unit.
    ylabel: Likewise.
    levels: Name -> value of a dotted line, to compare with.

  Raises:
    ValueError: `x` and `y` are not both [N], or empty.
    InputError: The file cannot be written.
  """
  figure = plots.new_figure(title, width=7.0, height=3.8)
  axes = figure.subplots()
  middles, means, errors = binned(x, y)
  axes.fill_between(
    middles, means - 2 * errors, means + 2 * errors, color=plots.BLUE, alpha=0.2
  )
  axes.plot(middles, means, '.-', color=plots.BLUE, linewidth=1.6)
  for name, level in (levels or {}).items():
    axes.axhline(level, color=plots.GREY, linestyle=':', linewidth=1.4, label=name)
  axes.set_xlabel(xlabel)
  axes.set_ylabel(ylabel)
  axes.set_ylim(bottom=min(0.0, float(means.min())))
  plots.dress(axes)
  if levels:
    axes.legend(frameon=False, fontsize=9)
  return plots.save(figure, path)


def binned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Middles, means and standard errors [bins] of y [N] by whole numbers x [N]."""
  if x.shape != y.shape or x.ndim != 1 or not len(x):
    raise ValueError(f'x {x.shape} and y {y.shape} must both be [N], N > 0')
  width = -(-(int(x.max()) - int(x.min()) + 1) // _MOST_BINS)
  bins = (x - x.min()) // width
  groups = [(x[bins == b].mean(), y[bins == b]) for b in np.unique(bins)]
  errors = [values.std() / np.sqrt(len(values)) for _, values in groups]
  return (
    np.array([middle for middle, _ in groups]),
    np.array([values.mean() for _, values in groups]),
    np.array(errors),
  )
