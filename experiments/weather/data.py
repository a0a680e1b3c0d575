"""The flags of the experiments on weather, and the windows that they ask for."""

import dataclasses
from typing import Literal, NamedTuple

import numpy as np

from experiments.series import data as series_data
from experiments.series.data import Scaling
from seqjax.config import field
from seqjax.data.series import book_windows, csv_files, jena, quality, windows
from seqjax.data.series import synthetic as synthetic_weather
from seqjax.data.series.series import Series
from seqjax.data.series.windows import Shape, WindowSet
from seqjax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(series_data.Config):
  """The chapter's settings; see --help."""

  dataset: Literal['jena', 'synthetic'] = field(
    'jena', 'Series: jena from a file in --data_dir, synthetic from a generator.'
  )
  csv: str = field(
    '', 'File in --data_dir; default the Jena file that is there.', path=True
  )
  time_column: str = field(
    csv_files.TIME_COLUMN, 'Column of time; of date and time of day: Date,Time.'
  )
  date_format: str = field(
    csv_files.DATE_FORMAT,
    'How time is written: iso, epoch, rows, or of %Y %y %m %b %d %H %M %S %I %p.',
  )
  target: str = field('T (degC)', 'Column to forecast; its unit in parentheses.')
  sentinel: float = field(quality.SENTINEL, 'What stands for a missing value.')
  lookback: int = 1440
  step: int = 6
  delay: int = field(144, 'Rows from the last input to the target.', at_least=1)
  windows: Literal['exact', 'book'] = field(
    'exact', "book: the windows of the chapter's own generator, on the file as it is."
  )
  synthetic_rows: int = field(12_000, 'Rows to generate.', at_least=50)

  @property
  def crosses_gaps(self) -> bool:
    """If windows cross gaps: those of the chapter's generator do."""
    return self.across_gaps or self.windows == 'book'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Untrained(Config):
  """Those of what trains nothing: its flags of training change nothing."""

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.num_seeds > 1:
      raise InputError('`num_seeds` must be 1: nothing is trained')


class Data(NamedTuple):
  """A series with normal values, and its windows."""

  series: Series  # values in standard deviations from the mean of the training rows
  target: int  # its column
  scaling: Scaling
  unit: str  # 'celsius', for the name of a metric
  shape: Shape
  train: WindowSet
  validation: WindowSet
  test: WindowSet
  report: quality.Report
  crosses_gaps: bool
  is_published: bool  # whether the published numbers are of this file

  @property
  def std(self) -> float:
    """The target's standard deviation, in its own unit."""
    return float(self.scaling.std[self.target])

  def degrees(self, values: np.ndarray) -> np.ndarray:
    """The target's normal values in its own unit."""
    return values * self.std + float(self.scaling.mean[self.target])


def read(config: Config) -> tuple[Series, str, bool]:
  """The series as it is in the file, its name, and whether it is the published one."""
  if config.dataset == 'synthetic':
    made = synthetic_weather.weather(0, config.synthetic_rows, faults=True)
    return made, 'the generated series', False
  source = jena.find(config.data_dir, config.csv)
  series = jena.load(
    source,
    time_column=config.time_column,
    date_format=config.date_format,
    delimiter=config.delimiter,
    decimal=config.decimal,
    cache_dir=config.cache_dir,
  )
  return series, source.name, source.is_published


def load(config: Config) -> Data:
  """The windows that the flags ask for.

  Raises:
    InputError: The file is not as it should be, or a split has no window.
  """
  series, name, is_published = read(config)
  target = column(series, config.target, name)
  cleaned = quality.clean(
    series, name, step_minutes=config.step_minutes, sentinel=config.sentinel
  )
  segments, file_rows = cleaned.segments, cleaned.file_rows
  if config.windows == 'book':  # which knew of no fault
    segments, file_rows = np.zeros(len(series.times)), np.arange(len(series.times))
  else:
    series = cleaned.series
  borders = series_data.borders(config, file_rows, name)
  mean, std = series_data.moments(series.values[: borders[0]])
  scaling = Scaling(series.columns, mean, std, cleaned.report.step_seconds)
  if not std[target]:
    raise InputError(f'{name}: {config.target!r} is constant over the training rows')
  series = series._replace(values=scaling.normal(series.values))
  sizes = (config.lookback, config.step, config.delay)
  shape = windows.sampled(*sizes)  # checks the sizes
  if config.windows == 'book':
    shape = book_windows.shape(*sizes)
  training, validation, test = windows.in_splits(
    series.values,
    target,
    shape,
    borders,
    lambda start, stop: _anchors(config, segments, shape, start, stop),
    name,
    '; lower `lookback` or `delay`',
  )
  return Data(
    series=series,
    target=target,
    scaling=scaling,
    unit=series_data.unit(config.target),
    shape=shape,
    train=training,
    validation=validation,
    test=test,
    report=cleaned.report,
    crosses_gaps=config.crosses_gaps,
    is_published=is_published,
  )


def column(series: Series, target: str, name: str) -> int:
  """Where the target is; InputError with the columns there are, if it is not."""
  if target not in series.columns:
    known = ', '.join(series.columns)
    raise InputError(f'--target={target}: {name} has {known}')
  return series.columns.index(target)


def _anchors(
  config: Config, segments: np.ndarray, shape: Shape, start: int, stop: int
) -> np.ndarray:
  if config.windows == 'exact':
    return windows.anchors(segments, start, stop, shape, across_gaps=config.across_gaps)
  if stop == len(segments):
    stop -= config.delay + 1  # the generator's own default for the last split
  if start == 0:
    return book_windows.training_rows(start, stop, config.lookback)
  return book_windows.evaluation_rows(start, stop, config.lookback, config.batch_size)
