"""The task of forecasts of a series of one's own: several targets, steps, quantiles."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from experiments import layer_flags
from experiments.series import data as series_data
from experiments.series import reading
from experiments.series.data import MOST_STEPS, SCALING_FILE, to_forecast_from
from experiments.series.forecast_prediction import predict
from experiments.series.targets import (
  Config,
  Data,
  last_values,
  load,
  measured,
  point,
  readable_time,
  season_name,
  season_values,
)
from seqjax import train as train_lib
from seqjax.data.series import synthetic
from seqjax.data.series.batches import RandomWindows, WindowsInOrder
from seqjax.data.series.windows import WindowSet
from seqjax.files import whole
from seqjax.training import evaluation, losses, plan
from seqjax.types import Array, PyTree
from seqjax.view import console, time_plots
from seqjax.workdir.progress import Monitor

__all__ = ['ASKED', 'INPUTS', 'Config', 'load', 'make_model', 'predict', 'train']

# What several runs that answer as one must share.
INPUTS = (
  SCALING_FILE,
  'target',
  'horizon',
  'quantiles',
  'lookback',
  'step',
  'across_gaps',
  *reading.INPUTS,
)

ASKED = ('file', 'held_out', 'picture')  # of predict's flags

SERIES_FILE = 'series.csv'  # the generated series, in the workdir

_MOST_POINTS = 480  # of a picture
_MOST_ROWS = 24  # of the table at the end


def make_model(config: Config) -> sj.SequenceRegressor:
  """x [B, T, D] -> forecasts [B, K, C], or their quantiles [B, K, C, Q]."""
  shape = (len(config.horizons), len(config.targets))
  quantiles = (len(config.levels),) if config.levels else ()
  encoder = layer_flags.pooled_encoder(config, config.pool_size)
  return sj.SequenceRegressor(encoder, output_shape=(*shape, *quantiles))


def train(
  config: Config, data: Data, *, name: str, title: str, model: nn.Module
) -> dict[str, Any]:
  """Trains a forecaster; returns the result.

  Args:
    config: With the flags of the experiment.
    data: From `load`.
    name: Of the experiment, as in its command.
    title: The model, for the pictures.
    model: x [B, T, D] -> [B, K, C] or [B, K, C, Q], in standard deviations.
  """
  middle = config.levels.index(0.5) if config.levels else None

  def middle_of(output: Array) -> Array:  # as `point`
    return output if middle is None else jnp.sort(output, -1)[..., middle]

  def error(output: Array, y: Array) -> Array:
    return losses.absolute_error(middle_of(output), y)

  def of_target(c: int, output: Array, y: Array) -> Array:
    normal = losses.absolute_error(middle_of(output)[..., c], y[..., c])
    return float(data.std[c]) * normal

  names = [
    f'mae_{series_data.slug(target) or c}' for c, target in enumerate(data.names)
  ]
  if len({*names}) < len(names):
    names = [f'{metric}_{c}' for c, metric in enumerate(names)]
  metrics: dict[str, Any] = {'mae': error} if config.levels else {}
  metrics |= {m: functools.partial(of_target, c) for c, m in enumerate(names)}

  def finish(params: PyTree, result: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    outputs = evaluation.make_outputs(model, config.compute_dtype)
    forecasts = {}
    for split, chosen in _held_out(data).items():
      batches = to_forecast_from(data.series.values, data.shape, chosen.rows)
      forecasts[split] = outputs(params, batches, len(chosen.rows))
    _draw(config, data, title, forecasts['test'], folder)
    return numbers(config, data, forecasts)

  steps = -(-len(data.train.rows) // config.batch_size)
  steps = config.steps_per_epoch or min(MOST_STEPS, steps)
  files: dict[str, Any] = {SCALING_FILE: data.scaling.save}
  if config.dataset == 'synthetic':
    table = synthetic.table(0, config.synthetic_rows)
    files[SERIES_FILE] = lambda path: whole.write(path, table)
  loss = losses.pinball(config.levels) if config.levels else losses.absolute_error
  result = train_lib.run(
    config,
    plan.Task(model, loss, metrics, Monitor('loss')),
    plan.Data(
      RandomWindows(data.train, config.batch_size, config.seed, steps),
      WindowsInOrder(data.validation, config.batch_size),
      WindowsInOrder(data.test, config.batch_size),
    ),
    name=name,
    title=f'{title}, {", ".join(data.names)}, {config.horizon} rows ahead',
    facts=facts(config, data),
    finish=finish,
    files=files,
  )
  _show(result.get('mean', result), data, name)
  return result


def _held_out(data: Data) -> dict[str, WindowSet]:
  return {'validation': data.validation, 'test': data.test}


def numbers(
  config: Config, data: Data, outputs: Mapping[str, np.ndarray]
) -> dict[str, Any]:
  """What result.json says of forecasts and of those that anyone can make.

  Args:
    config: Of the run.
    data: From `load`.
    outputs: 'validation' and 'test' -> the model's outputs for all their windows.
  """
  result: dict[str, Any] = {}
  coverage: dict[str, dict[str, float]] = {}
  errors: dict[str, dict[str, dict[str, float]]] = {
    target: {str(h): {} for h in config.horizons} for target in data.names
  }
  for split, chosen in _held_out(data).items():
    key = {'validation': 'val', 'test': 'test'}[split]
    infix = '' if split == 'validation' else 'test_'
    came = measured(data, chosen.rows)
    known = {
      '': point(config, outputs[split]),
      'naive_': last_values(data, chosen.rows),
    }
    if data.season is not None:
      known['season_'] = season_values(data, chosen.rows)
    for who, forecasts in known.items():
      error = np.abs(forecasts - came).mean(0, dtype=np.float64)  # [K, C]
      whole_name = f'{who}{infix}mae' if who else f'{key}_mae'
      result[whole_name] = float(error.mean())
      if split == 'test':
        for c, target in enumerate(data.names):
          for h, value in zip(config.horizons, error[:, c] * data.std[c], strict=True):
            errors[target][str(h)][who.rstrip('_') or 'model'] = float(value)
    if config.levels:
      ordered = np.sort(outputs[split], -1)
      coverage[split] = {
        str(level): float(np.mean(came <= ordered[..., q]))
        for q, level in enumerate(config.levels)
      }
  return {
    **result,
    **({'coverage': coverage} if config.levels else {}),
    'errors': errors,
    'target_std': dict(zip(data.names, data.std.tolist(), strict=True)),
    'season': data.season,
    'data': dataclasses.asdict(data.report),
  }


def facts(config: Config, data: Data) -> dict[str, str]:
  """What is shown at the start: what was found in the file, and sizes."""
  sizes = (len(chosen.rows) for chosen in (data.train, data.validation, data.test))
  words = '{:,} training, {:,} validation, {:,} test'.format(*sizes)
  inputs = ', '.join(data.scaling.columns)
  return {
    'data': reading.source_name(config),
    **data.report.lines(config.missing, across_gaps=config.across_gaps),
    'inputs': f'{len(data.shape.offsets)} rows of {inputs}',
    'windows': words,
    'compared with': 'the last value'
    + (f', and that {season_name(data)}' if data.season else ''),
  }


def _show(result: Mapping[str, Any], data: Data, name: str) -> None:
  """Prints the errors on the test set, beside those that need no model."""
  titles = {'model': name, 'naive': 'last value'}
  if data.season:
    titles['season'] = season_name(data)
  rows = {
    f'{target}, {h} ahead': {title: errors[who] for who, title in titles.items()}
    for target, horizons in result['errors'].items()
    for h, errors in horizons.items()
  }
  kept = np.unique(np.linspace(0, len(rows) - 1, _MOST_ROWS).astype(int))
  some = {k: v for i, (k, v) in enumerate(rows.items()) if i in kept}
  console.results_table(some, title='Mean absolute error, test set')
  if 'coverage' in result:
    shares = {q: {'share': v} for q, v in result['coverage']['test'].items()}
    console.results_table(shares, title='Share of the test set at or below a quantile')


def _draw(
  config: Config, data: Data, title: str, forecasts: np.ndarray, folder: Path
) -> None:
  """Draws the first target's forecasts of the first test windows, and a fan."""
  rows, times = data.test.rows, data.series.times
  column, horizon = data.targets.columns[0], config.horizons[-1]
  mean, std = data.scaling.mean[column], data.scaling.std[column]
  first = slice(0, _MOST_POINTS)

  def own(values: np.ndarray) -> np.ndarray:
    return values * std + mean

  predicted = {
    title: point(config, forecasts)[first, -1, 0],
    'last value': last_values(data, rows[first])[:, -1, 0],
  }
  if data.season:
    predicted[season_name(data)] = season_values(data, rows[first])[:, -1, 0]
  words = f'{horizon:,} rows before' if horizon > 1 else 'a row before'
  time_plots.forecasts(
    times[rows[first] + horizon],
    own(measured(data, rows[first])[:, -1, 0]),
    {name: own(values) for name, values in predicted.items()},
    folder / 'forecasts.png',
    title=f'{data.names[0]}, forecast {words}; the first of the test set',
    ylabel=data.names[0],
  )
  if not config.levels:
    return
  quantiles = own(np.sort(forecasts, -1)[:, :, 0])  # [M, K, Q]
  if len(config.horizons) > 2:  # from one moment on
    i = len(rows) // 2
    ahead = rows[i] + np.array(config.horizons)
    shown = np.arange(max(rows[i] - 2 * horizon, 0), ahead[-1] + 1)
    bands, what = quantiles[i], f'from {readable_time(times[rows[i]])} on'
  else:
    ahead = shown = rows[first] + horizon
    bands, what = quantiles[first, -1], words
  time_plots.fan(
    times[shown],
    own(data.series.values[shown, column]),
    times[ahead],
    {level: bands[:, q] for q, level in enumerate(config.levels)},
    folder / 'fan.png',
    title=f'{data.names[0]}, {title}: quantiles of its forecast {what}',
    ylabel=data.names[0],
  )
