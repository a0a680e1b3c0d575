"""The task of forecasts of a series of one's own: several targets, steps, quantiles."""

import dataclasses
import functools
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from experiments.prediction import Asked, Members
from experiments.series import data as series_data
from experiments.series import reading
from experiments.series.data import MOST_STEPS, SCALING_FILE, Scaling
from experiments.texts import layers
from experiments.weather.training import CHUNK, forecast
from seqjax import train as train_lib
from seqjax.config import field
from seqjax.data.series import csv_files, quality, synthetic, windows
from seqjax.data.series.series import Series
from seqjax.data.series.windows import (
  RandomWindows,
  Shape,
  Targets,
  WindowSet,
  WindowsInOrder,
)
from seqjax.files import whole
from seqjax.training import losses, plan
from seqjax.types import Array, InputError, PyTree
from seqjax.view import console, time_plots
from seqjax.workdir.progress import Monitor

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

SERIES_FILE = 'series.csv'  # the generated series, in the workdir

_DAY, _WEEK = 86_400, 7 * 86_400
_MOST_POINTS = 480  # of a picture
_MOST_ROWS = 24  # of the table at the end


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(layers.OfSeries, reading.Config, series_data.Config):
  """What it can be told; see --help."""

  target: str = field('', 'Column to forecast, or several with commas between.')
  horizon: str = field(
    '1', 'Rows ahead of the last input: 1 or several, as 1,6,24 or 1-24.'
  )
  quantiles: str = field(
    '', 'Forecast these, as 0.1,0.5,0.9, by the pinball loss; default one number.'
  )
  season: int | None = field(
    None,
    'Rows after which a day, say, comes again, for the forecast to compare with; '
    'default a day, or a week of daily rows.',
    at_least=1,
  )
  num_epochs: int = field(20, 'Epochs.', at_least=1)
  early_stopping: int | None = field(
    5, 'End after so many epochs without a better validation value.', at_least=1
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    if not self.horizons or list(self.horizons) != sorted({*self.horizons}):
      raise InputError(f'`horizon={self.horizon}` must increase')
    levels = self.levels
    if levels and (list(levels) != sorted({*levels}) or 0.5 not in levels):
      raise InputError(f'`quantiles={self.quantiles}` must increase, and hold 0.5')

  @functools.cached_property
  def horizons(self) -> tuple[int, ...]:
    """K rows ahead."""
    found: list[int] = []
    for part in self.horizon.split(','):
      first, dash, last = part.strip().partition('-')
      try:
        found += range(int(first), int(last if dash else first) + 1)
      except ValueError:
        found.append(0)
    if not found or min(found) < 1:
      raise InputError(
        f'`horizon={self.horizon}` must be rows ahead from 1, as 1,6,24 or 1-24'
      )
    return tuple(found)

  @functools.cached_property
  def levels(self) -> tuple[float, ...]:
    """Q quantiles."""
    try:
      found = tuple(float(part) for part in filter(None, self.quantiles.split(',')))
    except ValueError:
      found = (-1.0,)
    if not all(0 < level < 1 for level in found):
      raise InputError(
        f'`quantiles={self.quantiles}` must be numbers between 0 and 1, as 0.1,0.5,0.9'
      )
    return found

  @property
  def words(self) -> str:
    """`categories`, or those of the generated series."""
    generated = self.dataset == 'synthetic' and not self.categories
    return synthetic.WORDS if generated else self.categories

  @property
  def targets(self) -> list[str]:
    """C columns."""
    generated = self.dataset == 'synthetic' and not self.target
    return [synthetic.TARGET] if generated else csv_files.split(self.target)


class Data(NamedTuple):
  """A series with normal values, and its windows."""

  series: Series
  targets: Targets
  names: list[str]  # of the targets, C
  scaling: Scaling
  shape: Shape
  segments: np.ndarray  # [N], see `quality.Clean`
  train: WindowSet
  validation: WindowSet
  test: WindowSet
  report: quality.Report
  season: int | None  # rows

  @property
  def std(self) -> np.ndarray:
    """The targets' standard deviations, [C], in their own units."""
    return self.scaling.std[list(self.targets.columns)]


def make_model(config: Config) -> sj.SequenceRegressor:
  """x [B, T, D] -> forecasts [B, K, C], or their quantiles [B, K, C, Q]."""
  shape = (len(config.horizons), len(config.targets))
  quantiles = (len(config.levels),) if config.levels else ()
  return sj.SequenceRegressor(
    layers.pooled_encoder(config), output_shape=(*shape, *quantiles)
  )


def load(config: Config) -> Data:
  """The windows that the flags ask for.

  Raises:
    InputError: The file is not as it should be, or a split has no window.
  """
  name = reading.source_name(config)
  raw = reading.read(config)
  _check_targets(config, raw, name)
  cleaned = reading.clean(config, raw, name, config.step_minutes)
  first, second = series_data.borders(config, cleaned.file_rows, name)
  whole_series = cleaned.series
  head = whole_series._replace(values=whole_series.values[:first])
  if not first:
    raise InputError(f'{name}: there is no row to train on')
  scaling = reading.scaling(config, head, cleaned.report.step_seconds)
  series = reading.align(config, whole_series, scaling.columns, name).series
  columns = tuple(scaling.columns.index(target) for target in config.targets)
  for target, column in zip(config.targets, columns, strict=True):
    if not scaling.std[column]:
      raise InputError(f'{name}: {target!r} is constant over the training rows')
  series = series._replace(values=scaling.normal(series.values))
  shape = windows.sampled(config.lookback, config.step, config.horizons[-1])
  targets = Targets(columns, config.horizons)
  made_up = [whole_series.columns.index(target) for target in config.targets]
  filled = np.any(cleaned.filled[:, made_up], axis=1)  # [N]
  sets = []
  borders = (0, first, second, len(series.times))
  for split, start, stop in zip(
    ('training', 'validation', 'test'), borders[:-1], borders[1:], strict=True
  ):
    rows = windows.anchors(
      cleaned.segments, start, stop, shape, across_gaps=config.across_gaps
    )
    # What was made up is no measurement to learn from or to be compared with.
    made_up = filled[rows[:, None] + np.array(config.horizons)]  # [M, K]
    rows = rows[~np.any(made_up, axis=1)]
    if not len(rows):
      raise InputError(
        f'{name}: the {split} split, {stop - start:,} rows, has no window: one needs '
        f'{shape.ahead - shape.offsets[0] + 1:,} rows without a gap, and targets that '
        'were measured; lower `lookback` or `horizon`, or give the split more rows'
      )
    sets.append(WindowSet(series.values, targets, shape, rows))
  training, validation, test = sets
  return Data(
    series=series,
    targets=targets,
    names=config.targets,
    scaling=scaling,
    shape=shape,
    segments=cleaned.segments,
    train=training,
    validation=validation,
    test=test,
    report=cleaned.report,
    season=config.season or _season(cleaned.report, series),
  )


def _check_targets(config: Config, series: Series, name: str) -> None:
  known = [column for column in series.columns if not config.is_category(column)]
  if not config.targets:
    words = f'`target` must name a column to forecast: {name} has {", ".join(known)}'
    raise InputError(words)
  for target in config.targets:
    if target not in known:
      raise InputError(f'--target={config.target}: {name} has {", ".join(known)}')
  if len({*config.targets}) < len(config.targets):
    raise InputError(f'--target={config.target} names a column twice')


def _season(report: quality.Report, series: Series) -> int | None:
  """Rows of a day, or of a week where a row is a day; None where there is no such."""
  step = report.step_seconds
  if series.times.dtype.kind != 'M':
    return None
  if step == _DAY:
    return 7
  return _DAY // step if step < _DAY and _DAY % step == 0 else None


def season_name(data: Data) -> str:
  """'a day before', of the season."""
  assert data.season is not None  # for mypy: who asks has one
  seconds = data.season * data.report.step_seconds
  named = {_DAY: 'a day before', _WEEK: 'a week before'}
  timed = data.series.times.dtype.kind == 'M'
  return named.get(seconds if timed else 0, f'{data.season:,} rows before')


def last_values(data: Data, rows: np.ndarray) -> np.ndarray:
  """The targets now, [M, K, C], as forecasts of all horizons; normal values."""
  now = data.series.values[rows + data.shape.offsets[-1]][:, list(data.targets.columns)]
  return np.repeat(now[:, None], len(data.targets.horizons), 1)


def season_values(data: Data, rows: np.ndarray) -> np.ndarray:
  """The targets a season before those due, [M, K, C]: yesterday at the same time.

  If that is not known yet, two seasons before, and so on. Where the file does not have
  that row, because of a gap or its beginning, it is the target now.
  """
  assert data.season is not None  # for mypy: who asks has one
  horizons = np.array(data.targets.horizons)
  back = horizons - data.season * -(-horizons // data.season)  # [K], 0 or less
  then = rows[:, None] + back  # [M, K]
  there = np.maximum(then, 0)
  same = (then >= 0) & (data.segments[there] == data.segments[rows][:, None])
  columns = list(data.targets.columns)
  before = data.series.values[there][:, :, columns]
  return np.where(same[..., None], before, last_values(data, rows))


def measured(data: Data, rows: np.ndarray) -> np.ndarray:
  """What came, [M, K, C]; normal values."""
  due = rows[:, None] + np.array(data.targets.horizons)
  return data.series.values[due][:, :, list(data.targets.columns)]


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

  def point(output: Array) -> Array:  # as `_point`
    return output if middle is None else jnp.sort(output, -1)[..., middle]

  def error(output: Array, y: Array) -> Array:
    return losses.absolute_error(point(output), y)

  def of_target(c: int, output: Array, y: Array) -> Array:
    return data.std[c] * losses.absolute_error(point(output)[..., c], y[..., c])

  names = [
    f'mae_{series_data.slug(target) or c}' for c, target in enumerate(data.names)
  ]
  if len({*names}) < len(names):
    names = [f'{metric}_{c}' for c, metric in enumerate(names)]
  metrics: dict[str, Any] = {'mae': error} if config.levels else {}
  metrics |= {m: functools.partial(of_target, c) for c, m in enumerate(names)}

  def finish(params: PyTree, result: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    found = {
      split: forecast(model, params, data.series.values, data.shape, chosen.rows)
      for split, chosen in _held_out(data).items()
    }
    _draw(config, data, title, found['test'], folder)
    return numbers(config, data, found)

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


def _point(config: Config, found: np.ndarray) -> np.ndarray:
  """The one number of a forecast: its median, if there are quantiles.

  Quantiles that cross are put in order, which never adds to the pinball loss.

  Source: Chernozhukov et al. 2010, Econometrica 78, 1093.
  """
  if not config.levels:
    return found
  return np.sort(found, -1)[..., config.levels.index(0.5)]


def numbers(
  config: Config, data: Data, found: Mapping[str, np.ndarray]
) -> dict[str, Any]:
  """What result.json says of forecasts and of those that anyone can make.

  Args:
    config: Of the run.
    data: From `load`.
    found: 'validation' and 'test' -> the model's outputs for all their windows.
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
    known = {'': _point(config, found[split]), 'naive_': last_values(data, chosen.rows)}
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
      ordered = np.sort(found[split], -1)
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
    **data.report.lines(config.missing),
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
    f'{target}, {h} ahead': {title: found[who] for who, title in titles.items()}
    for target, horizons in result['errors'].items()
    for h, found in horizons.items()
  }
  kept = np.unique(np.linspace(0, len(rows) - 1, _MOST_ROWS).astype(int))
  some = {k: v for i, (k, v) in enumerate(rows.items()) if i in kept}
  console.results_table(some, title='Mean absolute error, test set')
  if 'coverage' in result:
    shares = {q: {'share': v} for q, v in result['coverage']['test'].items()}
    console.results_table(shares, title='Share of the test set at or below a quantile')


def _draw(
  config: Config, data: Data, title: str, found: np.ndarray, folder: Path
) -> None:
  """Draws the first target's forecasts of the first test windows, and a fan."""
  rows, times = data.test.rows, data.series.times
  column, horizon = data.targets.columns[0], config.horizons[-1]
  mean, std = data.scaling.mean[column], data.scaling.std[column]
  first = slice(0, _MOST_POINTS)

  def own(values: np.ndarray) -> np.ndarray:
    return values * std + mean

  predicted = {
    title: _point(config, found)[first, -1, 0],
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
  quantiles = own(np.sort(found, -1)[:, :, 0])  # [M, K, Q]
  if len(config.horizons) > 2:  # from one moment on
    i = len(rows) // 2
    ahead = rows[i] + np.array(config.horizons)
    shown = np.arange(max(rows[i] - 2 * horizon, 0), ahead[-1] + 1)
    bands, what = quantiles[i], f'from {_said(times[rows[i]])} on'
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


def _said(time: Any) -> str:
  """A time, or the number of a row, for people."""
  return str(time).replace('T', ' ')


def predict(members: Members, asked: Asked) -> None:
  """Prints forecasts from each row with enough rows before it.

  Args:
    members: Runs of an experiment of this task.
    asked: `file`, a CSV with the columns of the run's own; default standard input.

  Raises:
    InputError: The file cannot be read, has other columns or another step, or no row
      has enough rows before it.
  """
  trained = members.first
  reading.check_asked(members, asked)
  config = trained.config
  assert isinstance(config, Config)  # for mypy: the task of the run is this one
  scaling = Scaling.load(trained.folder / SCALING_FILE)
  content, name = reading.content(asked.file)
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
  chosen = WindowSet(scaling.normal(series.values), 0, Shape(shape.offsets, 0), rows)
  outputs = members.make_outputs(chosen.resident)
  each = outputs(WindowsInOrder(chosen, CHUNK), len(rows))  # [S, M, K, C(, Q)]
  spread = _point(config, each).std(0, ddof=1) if members.size > 1 else None
  found = each.mean(0)
  _answer(config, scaling, series, cleaned.filled, rows, found, spread, asked.json)
  unknown = f'; not known to the run: {", ".join(aligned.unknown)}'
  print(
    f'{len(rows):,} forecasts of {", ".join(config.targets)} by {trained.experiment}; '
    + '; '.join(f'{k}: {v}' for k, v in cleaned.report.lines(config.missing).items())
    + (unknown if aligned.unknown else ''),
    file=sys.stderr,
  )


def _answer(
  config: Config,
  scaling: Scaling,
  series: Series,
  filled: np.ndarray,
  rows: np.ndarray,
  found: np.ndarray,
  spread: np.ndarray | None,
  as_json: bool,
) -> None:
  """Prints a line for each row, target and horizon."""
  step = scaling.step_seconds
  quantiles = np.sort(found, -1) if config.levels else found[..., None]
  names = [f'{level:g}' for level in config.levels] or ['forecast']
  names += [] if spread is None else ['spread']
  titles = ['made', 'for', 'target', *names, 'now', 'measured']
  widths = [
    -19,
    -19,
    -max(map(len, [*config.targets, 'target'])),
    *[10] * (len(titles) - 3),
  ]
  if not as_json:
    print(_line(titles, widths))
  real = np.where(filled, np.nan, series.values)
  for i, row in enumerate(rows.tolist()):
    for c, target in enumerate(config.targets):
      column = scaling.columns.index(target)
      for k, h in enumerate(config.horizons):
        due = series.times[row] + h * step
        at = min(int(np.searchsorted(series.times, due)), len(series.times) - 1)
        came = float(real[at, column]) if series.times[at] == due else float('nan')
        own = quantiles[i, k, c] * scaling.std[column] + scaling.mean[column]
        apart = [] if spread is None else [float(spread[i, k, c] * scaling.std[column])]
        numbers = [*own.tolist(), *apart, float(series.values[row, column]), came]
        if as_json:
          known = [None if np.isnan(n) else float(f'{n:.6g}') for n in numbers]
          record = dict(zip([*names, 'now', 'measured'], known, strict=True))
          words = {'made': _said(series.times[row]), 'for': _said(due)}
          print(json.dumps({'target': target, **words, 'ahead': h, **record}))
        else:
          cells = ['' if np.isnan(n) else f'{n:.6g}' for n in numbers]
          times = [_said(time) for time in (series.times[row], due)]
          print(_line([*times, target, *cells], widths))


def _line(cells: list[str], widths: list[int]) -> str:
  """Cells side by side; of a width below 0 to the left."""
  aligned = (
    cell.ljust(-width) if width < 0 else cell.rjust(width)
    for cell, width in zip(cells, widths, strict=True)
  )
  return '  '.join(aligned).rstrip()
