"""Pictures of several runs: the curves of all seeds, and pairs of runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from seqjax.view import plots

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure


def seed_curves(
  runs: Mapping[int, Sequence[Mapping[str, Any]]],
  path: str | os.PathLike[str],
  *,
  title: str,
  published: Mapping[str, float] | None = None,
) -> Figure:
  """Draws the metrics of the same run with several seeds, one panel a metric.

  Thin lines are seeds, dashed on the training and solid on the validation side; the
  wide ones are means over the seeds that have come so far.

  Args:
    runs: Seed -> lines of metrics.jsonl, of which those of event 'epoch' are used.
    path: PNG file to write, whole or not at all.
    title: What was run.
    published: Metric -> published validation value, a dotted line.

  Raises:
    ValueError: A run has no epoch.
    InputError: The file cannot be written.
  """
  epochs = {
    seed: [line for line in lines if line['event'] == 'epoch']
    for seed, lines in runs.items()
  }
  if not epochs or not all(epochs.values()):
    raise ValueError('seed_curves needs at least one line of event epoch of each run')
  names = plots.metric_names(next(iter(epochs.values())))
  figure = plots.new_figure(title, width=4.4 * len(names), height=4.0)
  panels = figure.subplots(1, len(names), squeeze=False).flat
  for name, axes in zip(names, panels, strict=True):
    _draw_side(axes, epochs, name, 'training', plots.BLUE, '--')
    _draw_side(axes, epochs, f'val_{name}', 'validation', plots.ORANGE, '-')
    if published and name in published:
      axes.axhline(
        published[name],
        color=plots.GREY,
        linestyle=':',
        linewidth=1.4,
        label=f'published {published[name]:.4g}',
      )
    axes.set_xlabel('Epoch')
    axes.set_ylabel(plots.metric_label(name))
    last = max(line['epoch'] for lines in epochs.values() for line in lines)
    axes.set_xticks(plots.epoch_ticks(1, last))
    axes.set_xlim(0.5, last + 0.5)
    plots.dress(axes)
  plots.add_legend(figure, most_columns=4)
  return plots.save(figure, path)


def paired(
  first: Sequence[float],
  second: Sequence[float],
  path: str | os.PathLike[str],
  *,
  title: str,
  names: tuple[str, str],
  ylabel: str,
) -> Figure:
  """Draws pairs of runs: each pair joined by a line, and the differences.

  Args:
    first: [pairs] values.
    second: [pairs] values of their partners, in the same order.
    path: PNG file to write, whole or not at all.
    title: What was compared.
    names: Of the two.
    ylabel: Quantity and unit.

  Raises:
    InputError: The file cannot be written.
  """
  figure = plots.new_figure(title, width=8.0, height=4.0)
  left, right = figure.subplots(1, 2)
  differences = np.subtract(second, first)
  for a, b, gain in zip(first, second, differences, strict=True):
    color = plots.ORANGE if gain > 0 else plots.BLUE
    left.plot([0, 1], [a, b], color=color, linewidth=1, marker='o', markersize=4)
  left.set_xticks([0, 1], names)
  left.set_xlim(-0.3, 1.3)
  left.set_ylabel(ylabel)
  order = np.argsort(differences)
  places = np.arange(1, len(order) + 1)
  right.axhline(0, color=plots.GREY, linewidth=1.2)
  colors = [plots.ORANGE if gain > 0 else plots.BLUE for gain in differences[order]]
  right.vlines(places, 0, differences[order], colors=colors, linewidth=1)
  right.scatter(places, differences[order], c=colors, s=22, zorder=3)
  mean = float(differences.mean())
  right.axhline(mean, color=plots.GREY, linestyle='--', linewidth=1.2)
  right.set_title(f'mean {mean:+.4f}', loc='right', fontsize=9)
  right.set_xticks(places)
  right.set_xlabel('Pairs, by their difference')
  right.set_ylabel(f'{names[1]} minus {names[0]}')
  plots.dress(left)
  plots.dress(right)
  return plots.save(figure, path)


def groups(
  values: Mapping[str, Sequence[float]],
  path: str | os.PathLike[str],
  *,
  title: str,
  xlabel: str,
) -> Figure:
  """Draws a line of dots for each group, a dot a run, and the mean as a bar across.

  Args:
    values: Name of the group -> values of its runs.
    path: PNG file to write, whole or not at all.
    title: What was compared.
    xlabel: Quantity and unit.

  Raises:
    InputError: The file cannot be written.
  """
  figure = plots.new_figure(title, width=7.0, height=1.2 + 0.3 * len(values))
  axes = figure.subplots()
  for position, numbers in enumerate(values.values()):
    axes.plot(numbers, [position] * len(numbers), 'o', color=plots.BLUE, alpha=0.6)
    axes.plot(
      np.mean(numbers), position, '|', color=plots.ORANGE, markersize=16, mew=2.5
    )
  axes.set_yticks(range(len(values)), list(values))
  axes.invert_yaxis()
  axes.set_xlabel(f'{xlabel} (dots: runs, bars: means)')
  return plots.save(figure, path)


def _draw_side(
  axes: Axes,
  epochs: Mapping[int, Sequence[Mapping[str, Any]]],
  key: str,
  side: str,
  color: str,
  style: str,
) -> None:
  """Draws one side of a metric: a thin line a seed, and a wide one for their mean."""
  curves = [plots.series(lines, key) for lines in epochs.values()]
  curves = [(numbers, values) for numbers, values in curves if numbers]
  if not curves:
    return
  marker = '.' if max(len(numbers) for numbers, _ in curves) == 1 else ''
  for numbers, values in curves:
    axes.plot(
      numbers, values, style, color=color, linewidth=0.8, alpha=0.6, marker=marker
    )
  by_epoch: dict[int, list[float]] = {}
  for numbers, values in curves:
    for number, value in zip(numbers, values, strict=True):
      by_epoch.setdefault(number, []).append(value)
  means = [float(np.mean(by_epoch[number])) for number in sorted(by_epoch)]
  seeds = f'mean of {len(curves)} seeds' if len(curves) > 1 else '1 seed'
  label = f'{side}, {seeds}'
  axes.plot(
    sorted(by_epoch),
    means,
    style,
    color=color,
    linewidth=2.2,
    marker=marker,
    label=label,
  )
