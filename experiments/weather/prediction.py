"""Forecasts of a trained run for the rows of a CSV file; see predict.py."""

import json
import math
import sys
from typing import Any

import numpy as np

from experiments import experiment
from experiments.prediction import Members, Request
from experiments.series import answers as shared
from experiments.series import reading
from experiments.series.data import SCALING_FILE, Scaling, to_forecast_from
from experiments.weather.data import Config, Data
from seqjax.data.series import book_windows, csv_files, quality, windows
from seqjax.data.series.windows import Shape
from seqjax.types import InputError

_PICTURE_DAYS = 10


def predict(members: Members, request: Request) -> None:
  """Prints a forecast for each row with enough rows before it.

  Args:
    members: Runs of an experiment on weather.
    request: `file`, a CSV with the columns of the run's own; default standard input.

  Raises:
    InputError: The file cannot be read, has other columns or another step, or no row
      has enough rows before it; or the data of the run, which an interval needs.
  """
  trained = members.first
  config = trained.config
  assert isinstance(config, Config)  # for mypy: the task of the run is weather
  scaling = Scaling.load(trained.folder / SCALING_FILE)
  content, name = reading.content(request.file)
  raw = csv_files.read_csv(
    content,
    name,
    time_column=config.time_column,
    date_format=config.date_format,
    delimiter=config.delimiter,
    decimal=config.decimal,
  )
  if raw.columns != scaling.columns:
    raise InputError(
      f'{name}: expected the columns that the run was trained on, '
      f'{", ".join(scaling.columns)}; got {", ".join(raw.columns)}'
    )
  series, segments, _, report, _ = quality.clean(
    raw, name, step_minutes=scaling.step_seconds / 60, sentinel=config.sentinel
  )
  shape = _shape(config)
  rows = windows.anchors(
    segments, 0, len(segments), Shape(shape.offsets, 0), across_gaps=config.crosses_gaps
  )
  if not len(rows):
    raise InputError(
      f'{name}: no row has the {-shape.offsets[0]} rows before it, without a gap, that '
      'a forecast needs'
    )
  values, target = scaling.normal(series.values), scaling.columns.index(config.target)

  def held_out(data: Data, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y = data.series.values[rows + data.shape.ahead, data.target]
    return _forecasts(members, data.series.values, data.shape, rows), y

  calibration = shared.calibrate(members, held_out)

  def in_unit(normal: np.ndarray) -> np.ndarray:
    return normal * scaling.std[target] + scaling.mean[target]

  each = _forecasts(members, values, shape, rows)  # [S, M]
  forecasts = in_unit(each.mean(0))
  last = rows + shape.offsets[-1]
  ahead = shape.ahead - shape.offsets[-1]
  answers = {
    'made': series.times[last],
    'for': shared.due(
      series.times, last, ahead, report.step_seconds, across_gaps=config.crosses_gaps
    ),
    'forecast': forecasts,
    'now': series.values[last, target],
  }
  if calibration is not None:
    answers['spread'] = each.std(0, ddof=1) * scaling.std[target]
    answers['low'], answers['high'] = in_unit(calibration.interval(each))
  answers['measured'] = shared.measured(
    series.times, series.values[:, target], answers['for']
  )
  _print(answers, config.target, float(scaling.std[target]), request.json)
  if request.picture:
    rows_a_picture = _PICTURE_DAYS * 86_400 // report.step_seconds
    last_ones = {name: column[-rows_a_picture:] for name, column in answers.items()}
    shared.draw(last_ones, request.picture, trained.experiment, config.target)
  said = report.lines(across_gaps=config.crosses_gaps)
  print(
    f'{len(rows):,} forecasts of {config.target} by {trained.experiment}; '
    + '; '.join(f'{k}: {v}' for k, v in said.items()),
    file=sys.stderr,
  )


def about(trained: experiment.Run) -> dict[str, Any]:
  """What a program outside must know to make inputs of rows; see export.py."""
  config = trained.config
  assert isinstance(config, Config)  # for mypy: the task of the run is weather
  scaling = Scaling.load(trained.folder / SCALING_FILE)
  target = scaling.columns.index(config.target)
  offsets = _shape(config).offsets
  return {
    'kind': 'series',
    'shape': [len(offsets), len(scaling.columns)],
    'dtype': 'float32',
    'columns': list(scaling.columns),
    'delimiter': '\t' if config.delimiter == 'tab' else config.delimiter,
    'mean': scaling.mean.tolist(),
    'std': np.where(scaling.std, scaling.std, 1).tolist(),
    'offsets': list(offsets),
    'target': target,
  }


def _shape(config: Config) -> Shape:
  sizes = (config.lookback, config.step, config.delay)
  return (
    book_windows.shape(*sizes) if config.windows == 'book' else windows.sampled(*sizes)
  )


def _forecasts(
  members: Members, values: np.ndarray, shape: Shape, rows: np.ndarray
) -> np.ndarray:
  """Those of all members for the windows with anchors [M], normal: [S, M]."""
  return members.outputs(to_forecast_from(values, shape, rows), len(rows))


def _print(
  answers: dict[str, np.ndarray], target: str, std: float, as_json: bool
) -> None:
  """A header and a line for each forecast, or a JSON object for each.

  Lines have two decimals, or as many as show a hundredth of the target's `std`.
  """
  decimals = max(2, 2 - math.floor(math.log10(std or 1)))
  titles = [target, *list(answers)[3:]]
  widths = [max(9, len(title)) for title in titles]

  def show(times: list[str], cells: list[str]) -> None:
    aligned = (f'{cell:>{width}}' for cell, width in zip(cells, widths, strict=True))
    print('  '.join([*(f'{time:19}' for time in times), *aligned]).rstrip())

  if not as_json:
    show(['made', 'for'], titles)
  for made, due, *numbers in zip(*answers.values(), strict=True):
    times = [str(time).replace('T', ' ') for time in (made, due)]
    if as_json:
      known: list[Any] = [None if np.isnan(v) else float(f'{v:.9g}') for v in numbers]
      record = dict(zip(answers, times + known, strict=True))
      print(json.dumps({'target': target, **record}))
    else:
      show(times, ['' if np.isnan(v) else f'{v:.{decimals}f}' for v in numbers])
