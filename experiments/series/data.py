"""What the experiments on series share: flags, splits, normal values, windows."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np

from experiments import layer_flags
from seqjax import config as config_lib
from seqjax.config import field
from seqjax.data.series.batches import WindowsInOrder
from seqjax.data.series.windows import Shape, WindowSet
from seqjax.files import whole
from seqjax.types import InputError
from seqjax.workdir.folder import to_json

MOST_STEPS = 500  # of an epoch, the chapter's
# The file in a workdir that makes a series what the run was trained on.
SCALING_FILE = 'scaling.json'

_CHUNK = 256  # windows at a time, where they are forecast outside of the loop


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table(config_lib.TrainConfig):
  """What any CSV of a series can be told; see --help."""

  delimiter: Literal[',', ';', 'tab'] = field(',', 'What is between columns.')
  decimal: Literal['.', ','] = field('.', 'What is in front of decimals.')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Table):
  """What windows of any series can be told; see --help."""

  step_minutes: float | None = field(
    None, 'From a row to the next; default what occurs most often.', above=0
  )
  lookback: int = field(96, 'Rows that a window looks back.', at_least=1)
  step: int = field(1, 'One row of so many is an input.', at_least=1)
  across_gaps: bool = field(False, 'Windows may go across gaps in time.')
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


class Scaling(NamedTuple):
  """What makes a file's values those that a model is trained on, and back."""

  columns: tuple[str, ...]  # D names
  mean: np.ndarray  # [D] of the training rows
  std: np.ndarray  # [D]
  step_seconds: int

  def normal(self, values: np.ndarray) -> np.ndarray:
    """float32 [N, D]: standard deviations from the mean; 0 where all are alike."""
    mean, std = self.mean.astype(values.dtype), self.std.astype(values.dtype)
    return ((values - mean) / np.where(std, std, 1)).astype(np.float32)

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
        np.array(record['mean'], np.float64),
        np.array(record['std'], np.float64),
        int(record['step_seconds']),
      )
    except (OSError, ValueError, KeyError, TypeError) as e:
      raise InputError(
        f'{path}: expected the scaling of a run on a series: {type(e).__name__}: {e}'
      ) from e


def borders(config: Config, file_rows: np.ndarray, name: str) -> tuple[int, int]:
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


def check_rows(config: Config, kernel_size: int, pool_size: int, number: int) -> None:
  """Raises InputError unless windows are as long as `layer_flags.convolutions` need."""
  fewest = layer_flags.fewest_steps(kernel_size, pool_size, number)
  inputs = config.lookback // config.step
  if inputs < fewest:
    raise InputError(
      f'`lookback` must be at least {fewest} times `step`, got {inputs} times: '
      f'convolutions of `kernel_size={kernel_size}`, {number} of them with '
      f'`pool_size={pool_size}` between, need as many inputs'
    )


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Mean and standard deviation of [N, D] over N, of float64 sums, as values are."""
  mean = values.mean(axis=0, dtype=np.float64)
  from_first = values.astype(np.float64) - values[:1]  # exactly 0 where all are alike
  std = from_first.std(axis=0)
  return mean.astype(values.dtype), std.astype(values.dtype)


def to_forecast_from(
  values: np.ndarray, shape: Shape, rows: np.ndarray
) -> WindowsInOrder:
  """The windows with anchors [M] of a series [N, D], whose targets it need not have."""
  return WindowsInOrder(WindowSet(values, 0, Shape(shape.offsets, 0), rows), _CHUNK)


def unit(column: str) -> str:
  """'T (degC)' -> 'celsius', 'p (mbar)' -> 'mbar', 'load' -> 'units'."""
  match = re.search(r'\(([^)]*)\)\s*$', column)
  name = {'degC': 'celsius', '%': 'percent'}.get(match[1], match[1]) if match else ''
  return slug(name) or 'units'


def slug(name: str) -> str:
  """'T (degC)' -> 't_degc', for the name of a metric or a file."""
  return re.sub(r'[^0-9a-zA-Z]+', '_', name).strip('_').lower()
