"""What the experiments on weather share: the call of the loop, numbers, a picture.

An experiment holds a config with the fields of its own, `make_model`, and `run`. Each
number that it reports stands beside that of the naive forecast, `the target now`, on
the very same windows.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np

from experiments.series.data import MOST_STEPS, SCALING_FILE, to_forecast_from
from experiments.suites import rows as suites
from experiments.weather.data import Config, Data
from seqjax import train as train_lib
from seqjax.data.series.batches import RandomWindows, WindowsInOrder
from seqjax.data.series.windows import Shape, WindowSet
from seqjax.training import evaluation, losses, plan
from seqjax.types import Array, PyTree
from seqjax.view import console, time_plots
from seqjax.workdir.progress import Monitor

# Fields that change nothing in what is computed.
PLACES = frozenset(['data_dir', 'cache_dir', 'workdir'])

_PICTURE_DAYS = 10


def train(
  config: Config,
  data: Data,
  *,
  name: str,
  title: str,
  model: nn.Module,
) -> dict[str, Any]:
  """Trains a forecaster; returns the result.

  Args:
    config: With the flags of the experiment.
    data: From `load`.
    name: Of the experiment, as in its command.
    title: The model, for the pictures.
    model: x [B, T, D] -> forecasts [B], in standard deviations.
  """
  std = data.std
  metric = f'mae_{data.unit}'

  def in_unit(forecast: Array, y: Array) -> Array:
    return std * losses.absolute_error(forecast, y)

  def finish(params: PyTree, result: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    draw_forecasts(
      data,
      {
        title: lambda rows: forecast(
          config, model, params, data.series.values, data.shape, rows
        )
      },
      folder / 'forecasts.png',
      config.target,
    )
    best = result['best'] or result['final']
    return {
      'val_mae': best['val_loss'],
      f'val_{metric}': best[f'val_{metric}'],
      'test_mae': result['test_loss'],
      **naive_numbers(data),
    }

  steps = -(-len(data.train.rows) // config.batch_size)
  steps = config.steps_per_epoch or min(MOST_STEPS, steps)
  number = suites.published(name, 'val_mae') if data.is_published else None
  result = train_lib.run(
    config,
    plan.Task(model, losses.absolute_error, {metric: in_unit}, Monitor('loss')),
    plan.Data(
      RandomWindows(data.train, config.batch_size, config.seed, steps),
      WindowsInOrder(data.validation, config.batch_size),
      WindowsInOrder(data.test, config.batch_size),
    ),
    name=name,
    title=f'{title}, {config.target} {data.shape.ahead} rows ahead',
    facts=facts(config, data),
    published=None if number is None else {'loss': number},
    finish=finish,
    files={SCALING_FILE: data.scaling.save},
  )
  show(result.get('mean', result), data, name)
  return result


def naive_error(data: Data, chosen: WindowSet) -> float:
  """MAE of `the target now`, in standard deviations, over the windows of a set."""
  y = data.series.values[:, data.target]
  now, then = chosen.rows + data.shape.offsets[-1], chosen.rows + data.shape.ahead
  return float(np.abs(y[then] - y[now]).mean(dtype=np.float64))


def facts(config: Config, data: Data) -> dict[str, str]:
  """What is shown at the start: the quality report, and sizes."""
  sizes = (len(chosen.rows) for chosen in (data.train, data.validation, data.test))
  words = '{:,} training, {:,} validation, {:,} test'.format(*sizes)
  naive = naive_error(data, data.validation)
  return {
    'data': config.dataset,
    **data.report.lines(across_gaps=data.crosses_gaps),
    'windows': f'{words}; {len(data.shape.offsets)} inputs each',
    'naive forecast': f'validation MAE {naive:.4f} = '
    f'{naive * data.std:.3f} {data.unit}',
  }


def show(result: Mapping[str, Any], data: Data, name: str) -> None:
  """Prints the errors of both splits, in both units, beside the naive forecast's."""
  columns = {'mae': '', f'mae_{data.unit}': f'_{data.unit}'}
  rows = {
    f'{split}, {who}': {
      column: result[f'{key}_mae{unit}'] for column, unit in columns.items()
    }
    for split, who, key in (
      ('validation', name, 'val'),
      ('validation', 'naive', 'naive'),
      ('test', name, 'test'),
      ('test', 'naive', 'naive_test'),
    )
  }
  console.results_table(rows, title='Forecasts')


def naive_numbers(data: Data) -> dict[str, Any]:
  """What result.json says of the naive forecast, and of the data."""
  std = data.std
  naive = naive_error(data, data.validation)
  naive_test = naive_error(data, data.test)
  return {
    'naive_mae': naive,
    f'naive_mae_{data.unit}': naive * std,
    'naive_test_mae': naive_test,
    f'naive_test_mae_{data.unit}': naive_test * std,
    'target_std': std,
    'data': dataclasses.asdict(data.report),
  }


def forecast(
  config: Config,
  model: nn.Module,
  params: PyTree,
  values: np.ndarray,
  shape: Shape,
  rows: np.ndarray,
) -> np.ndarray:
  """Forecasts [M] for the windows with anchors [M], in standard deviations.

  The inputs have to lie in the series, values [N, D]; the targets need not.
  """
  batches = to_forecast_from(values, shape, rows)
  outputs = evaluation.make_outputs(model, config.compute_dtype)
  return outputs(params, batches, len(rows))


def draw_forecasts(
  data: Data,
  forecasters: dict[str, Callable[[np.ndarray], np.ndarray]],
  path: Path,
  target: str,
) -> None:
  """Draws forecasts of the first days of the test windows, and what came.

  Args:
    data: From `load`.
    forecasters: Name -> function of anchors [M] to normal values [M].
    path: PNG file.
    target: Name of the quantity.
  """
  days = _PICTURE_DAYS * 86_400 // data.report.step_seconds
  rows = data.test.rows[:days]
  rows = rows[:: max(1, len(rows) // 480)]
  y = data.series.values[:, data.target]
  predicted = {name: data.degrees(call(rows)) for name, call in forecasters.items()}
  predicted['naive'] = data.degrees(y[rows + data.shape.offsets[-1]])
  ahead = data.shape.ahead - data.shape.offsets[-1]
  before = f'{ahead * data.report.step_seconds / 3600:g} hours'
  if data.crosses_gaps and data.report.gaps:  # some of them are longer
    before = f'{ahead:,} rows'
  time_plots.forecasts(
    data.series.times[rows + data.shape.ahead],
    data.degrees(y[rows + data.shape.ahead]),
    predicted,
    path,
    title=f'{target}, forecast {before} before; the first days of the test set',
    ylabel=target,
  )
