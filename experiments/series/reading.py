"""How a series of one's own is read: the flags of its CSV, and its rows, clean."""

import dataclasses
import pathlib
import sys
from typing import Literal, NamedTuple

import numpy as np

from experiments.series import data
from experiments.series.data import Scaling
from seqjax.config import field
from seqjax.data.series import csv_files, jena, quality, synthetic
from seqjax.data.series.series import Series
from seqjax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(data.Table):
  """What a CSV can be told; see --help."""

  data: str = field('', 'CSV file, as it is or in a zip.', path=True)
  dataset: Literal['file', 'synthetic'] = field(
    'file', 'file: the one that --data names; synthetic: generated.'
  )
  time_column: str | None = field(
    None, 'Column of time, default the first; of date and time of day: Date,Time.'
  )
  date_format: str = field(
    'iso',
    'How time is written: iso, epoch (seconds), a format of %Y %y %m %b %d %H %I %M %S '
    '%p, or rows: there is no time.',
  )
  columns: str = field(
    '', 'Columns to read, with commas between; or, each with - in front, not to read.'
  )
  categories: str = field('', 'Those that hold words, each of which is an input.')
  missing: Literal['refuse', 'previous', 'interpolate', 'gap'] = field(
    'refuse',
    'What becomes of an empty cell: the value before it, the line between its '
    'neighbours (which knows of the future), or no row.',
  )
  sentinel: float | None = field(None, 'Number that stands for an empty cell.')
  synthetic_rows: int = field(12_000, 'Rows to generate.', at_least=50)

  def is_category(self, column: str) -> bool:
    """Whether a column was made of the words of another."""
    return any(
      column.startswith(csv_files.category(name, ''))
      for name in csv_files.split(self.words)
    )

  @property
  def words(self) -> str:
    """`categories`, or those of the generated series."""
    return self.categories


# Fields that say how a file is read: runs that answer as one must share them.
INPUTS = (
  'time_column',
  'date_format',
  'delimiter',
  'decimal',
  'columns',
  'categories',
  'missing',
  'sentinel',
  'dataset',
)


def source_name(config: Config) -> str:
  """For messages."""
  generated = config.dataset == 'synthetic'
  return 'the generated series' if generated else config.data


def read(config: Config) -> Series:
  """The series as it is in the file.

  Raises:
    InputError: There is no such file, or it is not as it should be, by line and column.
  """
  if config.dataset == 'synthetic':
    made = synthetic.table(0, config.synthetic_rows)
    return parse(config, made, source_name(config), strict=True)
  path = pathlib.Path(config.data)
  if not config.data or not path.is_file():
    raise InputError(f'`data={config.data}`: expected a CSV file, there is none')
  return jena.load(jena.Source(path), cache_dir=config.cache_dir, **_layout(config))


def parse(config: Config, content: bytes, name: str, *, strict: bool = False) -> Series:
  """The series of a file's content; for `strict` see `csv_files.read_csv`."""
  return csv_files.read_csv(content, name, **_layout(config), strict=strict)


def _layout(config: Config) -> dict:
  return {
    'time_column': config.time_column,
    'date_format': config.date_format,
    'delimiter': config.delimiter,
    'decimal': config.decimal,
    'columns': config.columns,
    'categories': config.words,
    'missing': config.missing != 'refuse',
    'dtype': 'float64',
  }


def clean(
  config: Config, series: Series, name: str, step_minutes: float | None
) -> quality.Clean:
  """The rows in time order, and what became of missing values."""
  return quality.clean(
    series,
    name,
    step_minutes=step_minutes,
    sentinel=config.sentinel,
    missing=config.missing,
    held=[column for column in series.columns if config.is_category(column)],
  )


def scaling(config: Config, series: Series, step_seconds: int) -> Scaling:
  """What makes values normal, by the training rows given.

  A word that these do not hold is no input: nothing is learned of it. The others stay 0
  and 1.
  """
  mean, std = data.moments(series.values)
  words = np.array([config.is_category(column) for column in series.columns])
  kept = ~words | (std > 0) | (mean > 0)
  mean, std = np.where(words, 0, mean)[kept], np.where(words, 1, std)[kept]
  names = tuple(np.array(series.columns)[kept].tolist())
  return Scaling(names, mean, std, step_seconds)


class Aligned(NamedTuple):
  """A series with the columns of a run."""

  series: Series
  unknown: tuple[str, ...]  # words that the run has not seen


def align(
  config: Config,
  series: Series,
  columns: tuple[str, ...],
  name: str,
  *,
  whose: str = 'that the run was trained on',
) -> Aligned:
  """The series with the columns that a run was trained on, in their order.

  Raises:
    InputError: One that is not made of a word is not there, or is one too many.
  """
  expected = [column for column in columns if not config.is_category(column)]
  given = [column for column in series.columns if not config.is_category(column)]
  if expected != given:
    raise InputError(
      f'{name}: expected the columns {whose}, {", ".join(expected)}; '
      f'got {", ".join(given)}'
    )
  index_of = {column: i for i, column in enumerate(series.columns)}
  parts = [
    series.values[:, index_of[column]]
    if column in index_of
    else np.zeros(len(series.values), np.float32)
    for column in columns
  ]
  unknown = tuple(column for column in series.columns if column not in columns)
  aligned = series._replace(values=np.stack(parts, 1), columns=columns)
  return Aligned(aligned, unknown)


def content(file: str | None) -> tuple[bytes, str]:
  """What --file or standard input holds, and its name for messages."""
  if file is None:
    return sys.stdin.buffer.read(), 'standard input'
  try:
    with open(file, 'rb') as opened:
      return opened.read(), f'--file={file}'
  except OSError as error:
    raise InputError(f'--file={file}: {error.strerror}') from error
