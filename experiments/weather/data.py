"""The flags of the experiments on weather, and the windows that they ask for."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np

from seqjax import config as config_lib
from seqjax.config import field
from seqjax.data.series import book_windows, csv_files, jena, quality, windows
from seqjax.data.series import synthetic as synthetic_weather
from seqjax.data.series.series import Series
from seqjax.data.series.windows import Shape, WindowSet
from seqjax.files import whole
from seqjax.types import InputError
from seqjax.workdir.folder import to_json

MOST_STEPS = 500  # the chapter's epoch
# The file in a workdir that makes a series what the run was trained on.
SCALING_FILE = 'scaling.json'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config_lib.TrainConfig):
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
    csv_files.DATE_FORMAT, 'How time is written, of %Y %m %d %H %M %S.'
  )
  delimiter: Literal[',', ';', 'tab'] = field(',', 'What is between columns.')
  decimal: Literal['.', ','] = field('.', 'What is in front of decimals.')
  target: str = field('T (degC)', 'Column to forecast; its unit in parentheses.')
  step_minutes: float | None = field(
    None, 'From a row to the next; default what occurs most often.', above=0
  )
  sentinel: float = field(quality.SENTINEL, 'What stands for a missing value.')
  lookback: int = field(1440, 'Rows that a window looks back.', at_least=1)
  step: int = field(6, 'One row of so many is an input.', at_least=1)
  delay: int = field(144, 'Rows from the last input to the target.', at_least=1)
  across_gaps: bool = field(False, 'Windows may go across gaps in time.')
  windows: Literal['exact', 'book'] = field(
    'exact', "book: the windows of the chapter's own generator, on the file as it is."
  )
  train_rows: int | None = field(
    None, 'Rows of the file to train on, its first; default by fraction.', at_least=1
  )
  validation_rows: int | None = field(
    None, 'Rows of the file after them to validate on.', at_least=1
  )
  train_fraction: float = field(0.6, 'Share of rows to train on.', above=0, below=1)
  validation_fraction: float = field(
    0.2, 'Share of rows to validate on.', above=0, below=1
  )
  num_epochs: int = field(20, 'Epochs.', at_least=1)
  steps_per_epoch: int | None = field(
    None, f'Default {MOST_STEPS}, or fewer if they see each window once.', at_least=1
  )
  synthetic_rows: int = field(12_000, 'Rows to generate.', at_least=50)


class Scaling(NamedTuple):
  """What makes a file's values those that a model is trained on, and back."""

  columns: tuple[str, ...]  # D names
  mean: np.ndarray  # [D] float32, of the training rows
  std: np.ndarray  # [D]
  step_seconds: int

  def normal(self, values: np.ndarray) -> np.ndarray:
    """Values [N, D] in standard deviations from the mean; 0 where all are alike."""
    return (values - self.mean) / np.where(self.std, self.std, 1)

  def save(self, path: Path) -> None:
    """Writes it as JSON, with all digits."""
    record = self._replace(mean=self.mean.tolist(), std=self.std.tolist())._asdict()
    whole.write(path, to_json(record).encode() + b'\n')

  @classmethod
  def load(cls, path: Path) -> Self:
    """Reads what `save` wrote.

    Raises:
      InputError: There is no such file, or it holds something else.
    """
    try:
      record = json.loads(path.read_text(encoding='utf-8'))
      return cls(
        tuple(record['columns']),
        np.array(record['mean'], np.float32),
        np.array(record['std'], np.float32),
        int(record['step_seconds']),
      )
    except (OSError, ValueError, KeyError, TypeError) as e:
      raise InputError(
        f'{path}: expected the scaling of a run on a series: {type(e).__name__}: {e}'
      ) from e


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
  first, second = _borders(config, file_rows, name)
  mean, std = _moments(series.values[:first])
  scaling = Scaling(series.columns, mean, std, cleaned.report.step_seconds)
  if not std[target]:
    raise InputError(f'{name}: {config.target!r} is constant over the training rows')
  series = series._replace(values=scaling.normal(series.values))
  sizes = (config.lookback, config.step, config.delay)
  shape = windows.sampled(*sizes)  # checks the sizes
  if config.windows == 'book':
    shape = book_windows.shape(*sizes)
  sets = []
  borders = (0, first, second, len(series.times))
  for split, start, stop in zip(
    ('training', 'validation', 'test'), borders[:-1], borders[1:], strict=True
  ):
    rows = _anchors(config, segments, shape, start, stop)
    if not len(rows):
      raise InputError(
        f'{name}: the {split} split, {stop - start:,} rows, has no window: one needs '
        f'{shape.ahead - shape.offsets[0] + 1:,} rows without a gap; lower --lookback '
        'or --delay, or give the split more rows'
      )
    sets.append(WindowSet(series.values, target, shape, rows))
  training, validation, test = sets
  return Data(
    series=series,
    target=target,
    scaling=scaling,
    unit=_unit(config.target),
    shape=shape,
    train=training,
    validation=validation,
    test=test,
    report=cleaned.report,
    is_published=is_published,
  )


def column(series: Series, target: str, name: str) -> int:
  """Where the target is; InputError with the columns there are, if it is not."""
  if target not in series.columns:
    known = ', '.join(series.columns)
    raise InputError(f'--target={target}: {name} has {known}')
  return series.columns.index(target)


def _borders(config: Config, file_rows: np.ndarray, name: str) -> tuple[int, int]:
  """First rows of the validation and of the test split.

  Numbers of rows are of the file: what cleaning dropped before a border moves it.
  """
  N = len(file_rows)
  if (config.train_rows is None) != (config.validation_rows is None):
    raise InputError('give --train_rows and --validation_rows, or none of them')
  if config.train_rows is not None and config.validation_rows is not None:
    ends = np.cumsum([config.train_rows, config.validation_rows])
    first, second = (int(np.sum(file_rows < end)) for end in ends)
    if ends[1] > file_rows.max():
      raise InputError(
        f'--train_rows and --validation_rows: {name} has {file_rows.max() + 1:,} rows, '
        f'{ends[1]:,} of them for training and validation leave none for the test'
      )
    return first, second
  if config.train_fraction + config.validation_fraction >= 1:
    raise InputError('--train_fraction and --validation_fraction must add up below 1')
  share = config.train_fraction + config.validation_fraction
  return int(config.train_fraction * N), int(share * N)


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


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Mean and standard deviation of [N, D] over N, float32 of float64 sums."""
  mean = values.mean(axis=0, dtype=np.float64)
  std = values.std(axis=0, dtype=np.float64)
  return mean.astype(np.float32), std.astype(np.float32)


def _unit(column: str) -> str:
  """'T (degC)' -> 'celsius', 'p (mbar)' -> 'mbar', 'load' -> 'units'."""
  found = re.search(r'\(([^)]*)\)\s*$', column)
  unit = {'degC': 'celsius', '%': 'percent'}.get(found[1], found[1]) if found else ''
  return re.sub(r'[^0-9a-zA-Z]+', '_', unit).strip('_').lower() or 'units'
