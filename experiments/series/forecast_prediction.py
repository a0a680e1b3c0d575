"""Forecasts of trained runs for the rows of a CSV file; see predict.py."""

import functools
import json
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.prediction import Members, Request
from experiments.series import answers, reading
from experiments.series.data import SCALING_FILE, Scaling, to_forecast_from
from experiments.series.targets import Config, Data, measured, point, readable_time
from seqjax.data.series import windows
from seqjax.data.series.series import Series
from seqjax.data.series.windows import Shape
from seqjax.types import InputError

_MOST_POINTS = 480  # of a picture


def predict(members: Members, request: Request) -> None:
  """Prints forecasts from each row with enough rows before it.

  Args:
    members: Runs of an experiment of this task.
    request: `file`, a CSV with the columns of the run's own; default standard input.

  Raises:
    InputError: The file cannot be read, has other columns or another step, or no row
      has enough rows before it; or the data of the run, which an interval needs.
  """
  trained = members.first
  config = trained.config
  assert isinstance(config, Config)  # for mypy: the task of the run is this one
  scaling = Scaling.load(trained.folder / SCALING_FILE)
  content, name = reading.content(request.file)
  raw = reading.parse(config, content, name)
  aligned = reading.align(config, raw, scaling.columns, name)
  cleaned = reading.clean(config, aligned.series, name, scaling.step_seconds / 60)
  series = cleaned.series
  shape = windows.sampled(config.lookback, config.step, config.horizons[-1])
  rows = windows.anchors(
    cleaned.segments,
    0,
    len(series.times),
    Shape(shape.offsets, 0),
    across_gaps=config.across_gaps,
  )
  if not len(rows):
    raise InputError(
      f'{name}: no row has the {-shape.offsets[0]} rows before it, without a gap, that '
      'a forecast needs'
    )
  batches = to_forecast_from(scaling.normal(series.values), shape, rows)
  calibration = answers.calibrate(members, functools.partial(_held_out, members))
  each = members.outputs(batches, len(rows))  # [S, M, K, C(, Q)]
  columns = [scaling.columns.index(target) for target in config.targets]
  mean, std = scaling.mean[columns], scaling.std[columns]
  beside = {}  # [M, K, C] each
  if calibration is not None:
    points = point(config, each)
    low, high = calibration.interval(points) * std + mean
    beside = {'spread': points.std(0, ddof=1) * std, 'low': low, 'high': high}
  forecasts = each.mean(0)
  due = answers.due(
    series.times,
    rows[:, None],
    np.array(config.horizons),
    scaling.step_seconds,
    across_gaps=config.across_gaps,
  )  # [M, K]
  real = np.where(cleaned.filled, np.nan, series.values)
  came = np.stack(  # [M, K, C]
    [answers.measured(series.times, real[:, c], due) for c in columns], -1
  )
  _answer(config, scaling, series, rows, due, forecasts, beside, came, request.json)
  if request.picture:  # the first target's, the furthest ahead
    h = config.horizons[-1]
    forecast = point(config, forecasts) * std + mean
    shown = {'forecast': forecast, 'measured': came, **beside}
    of_last = {
      'for': due[-_MOST_POINTS:, -1],
      'now': series.values[rows[-_MOST_POINTS:], columns[0]],
      **{name: values[-_MOST_POINTS:, -1, 0] for name, values in shown.items()},
    }
    name = f'{trained.experiment}, {h} {"row" if h == 1 else "rows"} ahead'
    answers.draw(of_last, request.picture, name, config.targets[0])
  said = cleaned.report.lines(config.missing, across_gaps=config.across_gaps)
  unknown = f'; not known to the run: {", ".join(aligned.unknown)}'
  print(
    f'{len(rows):,} forecasts of {", ".join(config.targets)} by {trained.experiment}; '
    + '; '.join(f'{k}: {v}' for k, v in said.items())
    + (unknown if aligned.unknown else ''),
    file=sys.stderr,
  )


def _held_out(
  members: Members, data: Data, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """What the members forecast from some rows of their data, and what came."""
  batches = to_forecast_from(data.series.values, data.shape, rows)
  config: Any = members.first.config
  return point(config, members.outputs(batches, len(rows))), measured(data, rows)


def _answer(
  config: Config,
  scaling: Scaling,
  series: Series,
  rows: np.ndarray,
  due: np.ndarray,
  forecasts: np.ndarray,
  beside: Mapping[str, np.ndarray],
  came: np.ndarray,
  as_json: bool,
) -> None:
  """Prints a line for each row, target and horizon."""
  quantiles = np.sort(forecasts, -1) if config.levels else forecasts[..., None]
  names = [f'{level:g}' for level in config.levels] or ['forecast']
  names += beside
  titles = ['made', 'for', 'target', *names, 'now', 'measured']
  widths = [
    -19,
    -19,
    -max(map(len, [*config.targets, 'target'])),
    *[12] * (len(titles) - 3),
  ]
  if not as_json:
    print(_line(titles, widths))
  for i, row in enumerate(rows.tolist()):
    for c, target in enumerate(config.targets):
      column = scaling.columns.index(target)
      for k, h in enumerate(config.horizons):
        own = quantiles[i, k, c] * scaling.std[column] + scaling.mean[column]
        apart = [float(values[i, k, c]) for values in beside.values()]
        numbers = [*own.tolist(), *apart, float(series.values[row, column])]
        numbers.append(float(came[i, k, c]))
        made, ends = readable_time(series.times[row]), readable_time(due[i, k])
        if as_json:
          known = [None if np.isnan(n) else float(f'{n:.9g}') for n in numbers]
          record = dict(zip([*names, 'now', 'measured'], known, strict=True))
          words = {'target': target, 'made': made, 'for': ends, 'ahead': h}
          print(json.dumps({**words, **record}))
        else:
          cells = ['' if np.isnan(n) else f'{n:.9g}' for n in numbers]
          print(_line([made, ends, target, *cells], widths))


def _line(cells: list[str], widths: list[int]) -> str:
  """Cells side by side; of a width below 0 to the left."""
  aligned = (
    cell.ljust(-width) if width < 0 else cell.rjust(width)
    for cell, width in zip(cells, widths, strict=True)
  )
  return '  '.join(aligned).rstrip()
