"""What is forecast of a series: its flags, its windows, and what needs no model."""

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np

from experiments import layer_flags
from experiments.series import data as series_data
from experiments.series import reading
from experiments.series.data import Scaling
from seqjax.config import field
from seqjax.data.series import csv_files, quality, synthetic, windows
from seqjax.data.series.series import Series
from seqjax.data.series.windows import Shape, Targets, WindowSet
from seqjax.types import InputError

_DAY, _WEEK = 86_400, 7 * 86_400


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(layer_flags.OfSeries, reading.Config, series_data.Config):
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
  pool_size: int = field(
    3, 'Steps that become one between convolutions of conv1d.', at_least=1
  )
  num_epochs: int = field(20, 'Epochs.', at_least=1)
  early_stopping: int | None = 5

  def __post_init__(self) -> None:
    super().__post_init__()
    if not self.horizons or list(self.horizons) != sorted({*self.horizons}):
      raise InputError(f'`horizon={self.horizon}` must increase')
    if self.layer == 'conv1d':
      series_data.check_rows(self, self.kernel_size, self.pool_size, self.num_layers)
    levels = self.levels
    if levels and (list(levels) != sorted({*levels}) or 0.5 not in levels):
      raise InputError(f'`quantiles={self.quantiles}` must increase, and hold 0.5')

  @functools.cached_property
  def horizons(self) -> tuple[int, ...]:
    """K rows ahead."""
    horizons: list[int] = []
    for part in self.horizon.split(','):
      first, dash, last = part.strip().partition('-')
      try:
        horizons += range(int(first), int(last if dash else first) + 1) or [0]
      except ValueError:
        horizons.append(0)
    if not horizons or min(horizons) < 1:
      raise InputError(
        f'`horizon={self.horizon}` must be rows ahead from 1, as 1,6,24 or 1-24'
      )
    return tuple(horizons)

  @functools.cached_property
  def levels(self) -> tuple[float, ...]:
    """Q quantiles."""
    try:
      levels = tuple(float(part) for part in filter(None, self.quantiles.split(',')))
    except ValueError:
      levels = (-1.0,)
    if not all(0 < level < 1 for level in levels):
      raise InputError(
        f'`quantiles={self.quantiles}` must be numbers between 0 and 1, as 0.1,0.5,0.9'
      )
    return levels

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
  across_gaps: bool

  @property
  def std(self) -> np.ndarray:
    """The targets' standard deviations, [C], in their own units."""
    return self.scaling.std[list(self.targets.columns)]


def load(config: Config) -> Data:
  """The windows that the flags ask for.

  Raises:
    InputError: The file is not as it should be, or a split has no window.
  """
  name = reading.source_name(config)
  raw = reading.read(config)
  _check_targets(config, raw, name)
  cleaned = reading.clean(config, raw, name, config.step_minutes)
  borders = series_data.borders(config, cleaned.file_rows, name)
  whole_series = cleaned.series
  head = whole_series._replace(values=whole_series.values[: borders[0]])
  if not borders[0]:
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
  places = [whole_series.columns.index(target) for target in config.targets]
  filled = np.any(cleaned.filled[:, places], axis=1)  # [N]

  def anchors_of(start: int, stop: int) -> np.ndarray:
    rows = windows.anchors(
      cleaned.segments, start, stop, shape, across_gaps=config.across_gaps
    )
    # What was made up is no measurement to learn from or to be compared with.
    made_up = filled[rows[:, None] + np.array(config.horizons)]  # [M, K]
    return rows[~np.any(made_up, axis=1)]

  training, validation, test = windows.in_splits(
    series.values,
    targets,
    shape,
    borders,
    anchors_of,
    name,
    _remedy(config, shape, cleaned.segments),
  )
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
    across_gaps=config.across_gaps,
  )


def _remedy(config: Config, shape: Shape, segments: np.ndarray) -> str:
  """What a window needs besides rows, and what helps a split that has none."""
  longest = int(np.bincount(segments).max())
  if config.across_gaps or longest > shape.ahead - shape.offsets[0]:
    return ', and targets that were measured; lower `lookback` or `horizon`'
  return (
    f', and there are {longest:,} together at most: cross gaps by `across_gaps`, or '
    'count rows by `date_format=rows` and `columns=-NAME`, of the time; or lower '
    '`lookback` or `horizon`'
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
  if data.across_gaps and data.report.gaps:  # some of them are longer ago
    timed = False
  return named.get(seconds if timed else 0, f'{data.season:,} rows before')


def last_values(data: Data, rows: np.ndarray) -> np.ndarray:
  """The targets now, [M, K, C], as forecasts of all horizons; normal values."""
  now = data.series.values[rows + data.shape.offsets[-1]][:, list(data.targets.columns)]
  return np.repeat(now[:, None], len(data.targets.horizons), 1)


def season_values(data: Data, rows: np.ndarray) -> np.ndarray:
  """The targets a season before those due, [M, K, C]: yesterday at the same time.

  If that is not known yet, two seasons before, and so on. Where the file does not have
  that row, because of its beginning or of a gap that windows do not cross, it is the
  target now.
  """
  assert data.season is not None  # for mypy: who asks has one
  horizons = np.array(data.targets.horizons)
  back = horizons - data.season * -(-horizons // data.season)  # [K], 0 or less
  then = rows[:, None] + back  # [M, K]
  there = np.maximum(then, 0)
  same = data.segments[there] == data.segments[rows][:, None]
  same = (then >= 0) & (same | data.across_gaps)
  columns = list(data.targets.columns)
  before = data.series.values[there][:, :, columns]
  return np.where(same[..., None], before, last_values(data, rows))


def measured(data: Data, rows: np.ndarray) -> np.ndarray:
  """What came, [M, K, C]; normal values."""
  due = rows[:, None] + np.array(data.targets.horizons)
  return data.series.values[due][:, :, list(data.targets.columns)]


def point(config: Config, forecasts: np.ndarray) -> np.ndarray:
  """The one number of a forecast: its median, if there are quantiles.

  Quantiles that cross are put in order, which never adds to the pinball loss.

  Source: Chernozhukov et al. 2010, Econometrica 78, 1093.
  """
  if not config.levels:
    return forecasts
  return np.sort(forecasts, -1)[..., config.levels.index(0.5)]


def readable_time(time: Any) -> str:
  """A time, or the number of a row, for people."""
  return str(time).replace('T', ' ')
