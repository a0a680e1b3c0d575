"""Pictures of a run: learning curves, and histograms of data.

Whoever draws to a path, here and in the modules beside, returns the figure as well.
Drawn on a matplotlib Figure of their own: no pyplot, no global state, no display.
matplotlib is imported by the first picture, because it costs a second that a run would
otherwise spend before its first step.
"""

from __future__ import annotations

import io
import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqjax.files import whole
from seqjax.types import InputError

if TYPE_CHECKING:
  from matplotlib.artist import Artist
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

# Okabe & Ito's palette: told apart by colour-blind readers, and in grey.
BLUE, ORANGE, GREY = '#0072B2', '#D55E00', '#555555'
_LABELS = {
  'loss': 'loss (mean per example)',
  'accuracy': 'accuracy (fraction correct)',
  'mae': 'MAE (standard deviations)',
  'mae_celsius': 'MAE (°C)',
}
_PAIR = 'val_'  # `val_loss` is the validation side of `loss`


def curves(
  metrics: Sequence[Mapping[str, Any]],
  path: str | os.PathLike[str],
  *,
  title: str,
  best_epoch: int | None = None,
  published: Mapping[str, float] | None = None,
) -> Figure:
  """Draws training (dots) and validation (line) metrics per epoch, one panel a metric.

  Args:
    metrics: Lines of metrics.jsonl. Used are those of event 'epoch', which hold
      `epoch` (1 for the first), `loss` and `val_loss`, `accuracy` and `val_accuracy`...
    path: PNG file to write, whole or not at all.
    title: Experiment and config in brief.
    best_epoch: Marked, with its validation values.
    published: Metric name -> published validation value, a dashed line.

  Raises:
    ValueError: No line holds an epoch, or `best_epoch` is none of them.
    InputError: The file cannot be written.
  """
  figure = curves_figure(
    metrics, title=title, best_epoch=best_epoch, published=published
  )
  return save(figure, path)


def histogram(
  values: np.ndarray | Sequence[float],
  path: str | os.PathLike[str],
  *,
  title: str,
  xlabel: str,
) -> Figure:
  """Draws how often values occur, with their median.

  Args:
    values: [N] numbers; bins of whole numbers hold whole numbers.
    path: PNG file to write, whole or not at all.
    title: What was counted.
    xlabel: Quantity and unit.

  Raises:
    ValueError: `values` is empty, not [N], or not finite.
    InputError: The file cannot be written.
  """
  values = np.asarray(values)
  if values.ndim != 1 or not values.size or not np.isfinite(values).all():
    raise ValueError(f'histogram needs finite values [N], got shape {values.shape}')
  if values.dtype == bool:
    values = values.astype(int)
  figure = new_figure(title, width=6.0, height=3.8)
  axes = figure.subplots()
  axes.hist(
    values, bins=_bins(values).tolist(), color=BLUE, edgecolor='white', linewidth=0.4
  )
  median = float(np.median(values))
  axes.axvline(median, color=ORANGE, linewidth=1.8, label=f'median {median:,.4g}')
  axes.set_xlabel(xlabel)
  axes.set_ylabel('Count')
  axes.set_title(f'N = {values.size:,}', loc='right', fontsize=9)
  axes.locator_params(axis='y', integer=True)
  axes.legend(frameon=False, fontsize=9)
  dress(axes)
  return save(figure, path)


def curves_figure(
  metrics: Sequence[Mapping[str, Any]],
  *,
  title: str,
  best_epoch: int | None = None,
  published: Mapping[str, float] | None = None,
) -> Figure:
  """The picture of `curves`; raises ValueError as it does."""
  epochs = [line for line in metrics if line['event'] == 'epoch']
  if not epochs:
    raise ValueError('curves needs at least one line of event epoch')
  if best_epoch is not None and best_epoch not in {line['epoch'] for line in epochs}:
    raise ValueError(f'best_epoch {best_epoch} is none of the epochs drawn')
  published = dict(published or {})
  names = metric_names(epochs)
  unknown = published.keys() - set(names)
  if unknown:
    raise ValueError(f'published has {sorted(unknown)}, the epochs have {names}')
  columns = 2 if len(names) == 4 else min(len(names), 3)
  rows = math.ceil(len(names) / columns)
  figure = new_figure(title, width=4.4 * columns, height=3.4 * rows + 0.6)
  panels = figure.subplots(rows, columns, squeeze=False).flat
  for name, axes in zip(names, panels, strict=False):
    _draw_metric(axes, name, epochs, best_epoch, published.get(name))
  for axes in list(figure.axes)[len(names) :]:
    axes.remove()
  add_legend(figure, most_columns=2 if columns == 1 else 4)
  return figure


def metric_names(epochs: Sequence[Mapping[str, Any]]) -> list[str]:
  """Metrics that have a validation side, without val_; if none has, all of them."""
  floats = [k for line in epochs for k, v in line.items() if isinstance(v, float)]
  names = list(dict.fromkeys(key.removeprefix(_PAIR) for key in floats))
  if not names:
    raise ValueError('the lines of event epoch hold no metric, a float')
  return [name for name in names if _PAIR + name in floats] or names


def _draw_metric(
  axes: Axes,
  name: str,
  epochs: Sequence[Mapping[str, Any]],
  best_epoch: int | None,
  published: float | None,
) -> None:
  axes.set_ylabel(metric_label(name))
  axes.set_xlabel('Epoch')
  train, held_out = series(epochs, name), series(epochs, _PAIR + name)
  first = min(line['epoch'] for line in epochs)
  last = max(line['epoch'] for line in epochs)
  if train[0]:
    axes.plot(
      *train,
      linestyle='none',
      marker='o',
      markersize=5 if last - first < 20 else 3.5,
      color=BLUE,
      label='training',
    )
  if held_out[0]:
    (line,) = axes.plot(*held_out, color=ORANGE, linewidth=1.8, label='validation')
    if len(held_out[0]) == 1:  # no line to see: a wide dash stands for it
      line.set(marker='_', markersize=22, markeredgewidth=1.8)
  if best_epoch is not None:
    axes.axvline(
      best_epoch, color=GREY, linestyle=':', linewidth=1.4, label='best epoch'
    )
    if best_epoch in held_out[0]:
      value = held_out[1][held_out[0].index(best_epoch)]
      axes.set_title(
        f'epoch {best_epoch}: validation {value:#.4g}', loc='right', fontsize=9
      )
  if published is not None:
    axes.set_title(f'published {published:.4g}', loc='left', fontsize=9)
    axes.axhline(
      published, color=GREY, linestyle='--', linewidth=1.2, label='published'
    )
  dress(axes)
  axes.set_xticks(epoch_ticks(first, last))
  axes.set_xlim(first - 0.5, last + 0.5)


def metric_label(name: str) -> str:
  """A metric's name for an axis, with its unit."""
  label = _LABELS.get(name, name.replace('_', ' '))
  return label[0].upper() + label[1:]


def series(
  epochs: Sequence[Mapping[str, Any]], key: str
) -> tuple[list[int], list[float]]:
  """Epochs that have a value for `key`, and the values."""
  points = [(line['epoch'], line[key]) for line in epochs if key in line]
  return [epoch for epoch, _ in points], [value for _, value in points]


def epoch_ticks(first: int, last: int) -> list[int]:
  """The first epoch and round ones after it, twelve or so in all, none crowded."""
  span = last - first + 1
  step = next(s * 10**e for e in range(9) for s in (1, 5) if span <= 12 * s * 10**e)
  round_ones = range(step * math.ceil((first + step / 2) / step), last + 1, step)
  return [first, *round_ones]


def _bins(values: np.ndarray, most: int = 60) -> np.ndarray:
  """Edges after Freedman and Diaconis, but few, and between whole numbers."""
  low, high = float(values.min()), float(values.max())
  quarter, three_quarters = np.percentile(values, [25, 75])
  # A long tail would ask for thousands of bins.
  least = (high - low) / most
  width = max(2 * (three_quarters - quarter) / values.size ** (1 / 3), least)
  if np.issubdtype(values.dtype, np.integer):
    width = 1 if high - low < most / 2 else math.ceil(width)
    return np.arange(low - 0.5, high + 0.5 + width, width)
  if width == 0 or low + least == low:
    return np.array([low - 0.5, low + 0.5])  # all alike
  return np.linspace(low, high, math.ceil((high - low) / width) + 1)


def new_figure(title: str, width: float, height: float) -> Figure:
  """An empty figure of this many inches, its title wrapped."""
  from matplotlib.figure import Figure
  from matplotlib.layout_engine import ConstrainedLayoutEngine

  class Shown(Figure):
    """A notebook draws it where it is the value of a cell."""

    def _repr_png_(self) -> bytes:
      return as_png(self)

  layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06)  # inches round each panel
  figure = Shown(figsize=(width, height), dpi=150, layout=layout)
  per_line = int(width * 13)  # characters of this size that fit an inch
  lines = [textwrap.fill(line, per_line) for line in title.splitlines()]
  figure.suptitle('\n'.join(lines), fontsize=11)
  return figure


def add_legend(figure: Figure, most_columns: int) -> None:
  """One legend for all panels, below them, where it hides no data."""
  entries: dict[str, Artist] = {}
  for axes in figure.axes:
    handles, labels = axes.get_legend_handles_labels()
    entries.update(zip(labels, handles, strict=True))
  figure.legend(
    handles=list(entries.values()),
    labels=list(entries),
    loc='outside lower center',
    ncols=min(len(entries), most_columns),
    frameon=False,
    fontsize=9,
  )


def dress(axes: Axes) -> None:
  """Grid behind the data, no frame."""
  axes.grid(color='0.9', linewidth=0.8)
  axes.set_axisbelow(True)
  axes.spines[['top', 'right']].set_visible(False)


def as_png(figure: Figure) -> bytes:
  """The picture as a PNG file holds it."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg

  picture = io.BytesIO()
  FigureCanvasAgg(figure).print_png(picture)
  return picture.getvalue()


def save(figure: Figure, path: str | os.PathLike[str]) -> Figure:
  """Writes a PNG, whole or not at all; raises InputError where it cannot be."""
  try:
    whole.write(Path(path), as_png(figure))
  except OSError as error:
    raise InputError(f'cannot write {path}: {error.strerror or error}') from error
  return figure
