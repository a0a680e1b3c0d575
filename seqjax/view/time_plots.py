"""Pictures over time: a series, and forecasts against what came."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from seqjax.view import plots

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

_MOST_POINTS = 4000  # wider than a picture: more would be drawn over each other


def series(
  times: np.ndarray,
  values: np.ndarray,
  path: str | os.PathLike[str],
  *,
  title: str,
  ylabel: str,
) -> Figure:
  """Draws one quantity over time; a line breaks where rows are missing.

  Args:
    times: datetime64 [N], increasing.
    values: [N].
    path: PNG file to write, whole or not at all.
    title: What is drawn.
    ylabel: Quantity and unit.

  Raises:
    InputError: The file cannot be written.
  """
  figure = plots.new_figure(title, width=9.0, height=3.6)
  axes = figure.subplots()
  if len(times) > _MOST_POINTS:  # every point shows in the band from least to most
    low, high, at = _bands(times, values)
    axes.fill_between(at, low, high, color=plots.BLUE, linewidth=0.6)
  else:
    axes.plot(*_broken(times, values), color=plots.BLUE, linewidth=1.2)
  _dress(axes, ylabel, times)
  return plots.save(figure, path)


def forecasts(
  times: np.ndarray,
  truth: np.ndarray,
  predicted: Mapping[str, np.ndarray],
  path: str | os.PathLike[str],
  *,
  title: str,
  ylabel: str,
  band: np.ndarray | None = None,
) -> Figure:
  """Draws what was forecast for each time, and what was measured then.

  Args:
    times: datetime64 [N] that forecasts are for, increasing.
    truth: [N].
    predicted: Name -> [N]; the first, of interest, is drawn in colour.
    path: PNG file to write, whole or not at all.
    title: Who forecasts what.
    ylabel: Quantity and unit.
    band: [2, N], lower and upper ends of the first one's interval.

  Raises:
    InputError: The file cannot be written.
  """
  figure = plots.new_figure(title, width=9.0, height=4.0)
  axes = figure.subplots()
  if band is not None:
    at, low = _broken(times, band[0])
    high = _broken(times, band[1])[1]
    color = plots.ORANGE
    axes.fill_between(at, low, high, color=color, alpha=0.25, linewidth=0)
  axes.plot(*_broken(times, truth), color='black', linewidth=1.6, label='measured')
  styles = [(plots.ORANGE, '-', 1.6), (plots.GREY, ':', 1.2), (plots.BLUE, '--', 1.2)]
  for (name, values), (color, style, width) in zip(
    predicted.items(), styles, strict=False
  ):
    errors = np.abs(values - truth)[~np.isnan(truth)]  # the last are yet to come
    error = f': mean error here {errors.mean():.3g}' if len(errors) else ''
    axes.plot(
      *_broken(times, values),
      style,
      color=color,
      linewidth=width,
      label=f'{name}{error}',
    )
  _dress(axes, ylabel, times)
  figure.legend(loc='outside lower center', ncols=3, frameon=False, fontsize=9)
  return plots.save(figure, path)


def fan(
  times: np.ndarray,
  truth: np.ndarray,
  ahead: np.ndarray,
  quantiles: Mapping[float, np.ndarray],
  path: str | os.PathLike[str],
  *,
  title: str,
  ylabel: str,
) -> Figure:
  """Draws quantiles as bands around their median, and what was measured.

  Args:
    times: datetime64 or row numbers [N], increasing, of what was measured.
    truth: [N].
    ahead: [M], what the quantiles are of.
    quantiles: Quantile -> [M].
    path: PNG file to write, whole or not at all.
    title: Who forecasts what.
    ylabel: Quantity and unit.

  Raises:
    InputError: The file cannot be written.
  """
  figure = plots.new_figure(title, width=9.0, height=4.0)
  axes = figure.subplots()
  levels = sorted(quantiles)
  for low, high in zip(levels, reversed(levels), strict=True):
    if low >= high:
      break
    at, below = _broken(ahead, quantiles[low])
    _, above = _broken(ahead, quantiles[high])
    axes.fill_between(
      at, below, above, color=plots.ORANGE, alpha=0.25, linewidth=0,
      label=f'{low:g} to {high:g}',
    )  # fmt: skip
  if 0.5 in quantiles:
    axes.plot(
      *_broken(ahead, quantiles[0.5]), color=plots.ORANGE, linewidth=1.6, label='median'
    )
  axes.plot(*_broken(times, truth), color='black', linewidth=1.4, label='measured')
  _dress(axes, ylabel, times)
  figure.legend(loc='outside lower center', ncols=4, frameon=False, fontsize=9)
  return plots.save(figure, path)


def _bands(
  times: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Least and most of each of a picture's columns, and their times."""
  starts = np.linspace(0, len(times), _MOST_POINTS // 4, endpoint=False).astype(int)
  low = np.minimum.reduceat(values, starts)
  high = np.maximum.reduceat(values, starts)
  return low, high, times[starts]


def _broken(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The points with a NaN in each gap, so that no line is drawn across it."""
  if len(times) < 2:
    return times, values.astype(float)
  apart = np.diff(times).astype(np.int64)
  gaps = np.flatnonzero(apart > 1.5 * np.median(apart)) + 1
  middle = times[gaps - 1] + (times[gaps] - times[gaps - 1]) // 2
  return np.insert(times, gaps, middle), np.insert(values.astype(float), gaps, np.nan)


def _dress(axes: Axes, ylabel: str, times: np.ndarray) -> None:
  from matplotlib import dates

  if times.dtype.kind == 'M':
    locator = dates.AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
  else:
    axes.set_xlabel('row')
  axes.set_ylabel(ylabel)
  axes.margins(x=0.01)
  plots.dress(axes)
