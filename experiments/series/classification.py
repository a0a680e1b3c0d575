"""The task of classes of series: a label for each file, or for rows of one."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import numpy as np

import seqjax as sj
from experiments import layer_flags, prediction
from experiments.prediction import Members, Request
from experiments.series import reading
from experiments.series.data import SCALING_FILE, Scaling
from experiments.texts import classification as of_texts
from experiments.texts import running
from seqjax import train as train_lib
from seqjax.config import field
from seqjax.data.batches import InOrder
from seqjax.data.series import labelled, quality, synthetic
from seqjax.data.series.labelled import Labelled
from seqjax.data.series.series import Series
from seqjax.data.sources import Sequences
from seqjax.data.texts import labelled as splitting
from seqjax.files import whole
from seqjax.training import losses, plan
from seqjax.types import InputError, PyTree
from seqjax.workdir.folder import to_json
from seqjax.workdir.progress import Monitor

LABELS_FILE = 'labels.json'
# What several runs that answer as one must share.
INPUTS = (SCALING_FILE, LABELS_FILE, 'length', *reading.INPUTS)
ASKED = ('file', 'held_out')  # of predict's flags


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(layer_flags.OfSeries, reading.Config):
  """What it can be told; see --help."""

  data: str = field(
    '',
    'Folder that holds a folder of CSV files for each class; with --labels a CSV file '
    'or a folder of such.',
    path=True,
  )
  labels: str = field(
    '',
    'File with a column label, and of file, from, to and part those that are needed.',
    path=True,
  )
  length: int = field(500, 'Rows of a series, T: its last ones.', at_least=1)
  layer: Literal['lstm', 'gru', 'simple_rnn', 'min_gru', 'conv1d'] = field(
    'lstm', 'Recurrent layers, or convolutions.'
  )
  pooling: Literal['max', 'mean', 'last'] = 'max'
  validation_split: float = field(
    0.2, 'Share of each class held out, if no part says so.', above=0, below=1
  )
  test_split: float = field(
    0.2, 'Share of each class to test on, likewise.', above=0, below=1
  )
  split_seed: int = field(0, 'Seed of that draw.', at_least=0)
  batch_size: int = 32
  num_epochs: int = field(30, 'Passes over the training set, at most.', at_least=1)
  early_stopping: int | None = 10
  synthetic_rows: int = field(240, 'Series to generate.', at_least=50)


class Data(NamedTuple):
  """The series of a run, of normal values."""

  parts: tuple[Sequences, Sequences, Sequences]  # training, validation, test
  labels: tuple[np.ndarray, np.ndarray, np.ndarray]  # numbers of classes, [N] each
  classes: list[str]
  scaling: Scaling
  facts: dict[str, str]

  @property
  def sizes(self) -> tuple[int]:
    """What `make_model` needs beside the config."""
    return (len(self.classes),)


def sizes(folder: pathlib.Path) -> tuple[int]:
  """Those of a run."""
  return (len(_classes(folder)),)


def make_model(config: Config, num_classes: int) -> sj.SequenceRegressor:
  """x [B, T, D] -> logits [B, C]."""
  return sj.SequenceRegressor(
    layer_flags.pooled_encoder(config), output_shape=(num_classes,)
  )


def load(config: Config) -> Data:
  """The series that the flags ask for.

  Raises:
    InputError: A file is not as it should be, or a class is empty.
  """
  content = _read_all(config)
  texts = splitting.Labelled(
    [str(i) for i in range(len(content.series))], content.labels, content.locations
  )
  rows_of: dict[str, list[int]] = {'train': [], 'validation': [], 'test': []}
  for i, part in enumerate(content.parts):
    rows_of[part or 'train'].append(i)
  parts = {part: texts.rows(rows) for part, rows in rows_of.items() if rows}
  if 'train' not in parts:
    raise InputError('no series is one to train on')
  splitting.check_several(parts['train'])
  splits = splitting.split(
    parts, config.validation_split, config.test_split, config.split_seed, what='series'
  )
  splitting.check_known(splits)
  chosen = [[int(i) for i in part.texts] for part in splits]
  classes = splitting.classes_of(splits.train)
  scaling = _scaling(
    config,
    [content.series[i] for i in chosen[0]],
    [content.locations[i] for i in chosen[0]],
  )
  values = [
    scaling.normal(
      reading.align(config, series, scaling.columns, location).series.values
    )
    for series, location in zip(content.series, content.locations, strict=True)
  ]
  for one, location in zip(values, content.locations, strict=True):
    _check_rows(config, one, location)
  labels = [
    np.array([classes.index(content.labels[i]) for i in rows], np.int32)
    for rows in chosen
  ]
  longest = min(config.length, max(map(len, values)))
  sequences = [
    running.sequences([values[i] for i in rows], y, longest)
    for rows, y in zip(chosen, labels, strict=True)
  ]
  counts = '{:,} training, {:,} validation, {:,} test'
  lengths = [len(series) for series in values]
  return Data(
    tuple(sequences),  # type: ignore[arg-type]
    tuple(labels),  # type: ignore[arg-type]
    classes,
    scaling,
    {
      'data': reading.source_name(config),
      'series': counts.format(*(len(rows) for rows in chosen)),
      'classes': ', '.join(classes),
      'rows': f'{min(lengths):,} to {max(lengths):,} a series, the last {longest:,} '
      f'are read; {len(scaling.columns)} columns',
    },
  )


def _read_all(config: Config) -> Labelled:
  if config.dataset == 'synthetic':
    return synthetic.shapes(0, config.synthetic_rows)

  def read(path: pathlib.Path) -> Series:
    try:
      content = path.read_bytes()
    except OSError as error:
      raise InputError(f'{path}: cannot be read: {error.strerror}') from error
    series = reading.parse(config, content, str(path), strict=True)
    return _complete(config, series, str(path))

  return labelled.load(config.data, config.labels, read, date_format=config.date_format)


def _complete(config: Config, series: Series, name: str) -> Series:
  held = [column for column in series.columns if config.is_category(column)]
  return quality.complete(
    series, name, sentinel=config.sentinel, missing=config.missing, held=held
  )


def _check_rows(config: Config, values: np.ndarray, name: str) -> None:
  """Raises InputError if a series [T, D] is too short for convolutions."""
  fewest = layer_flags.fewest_steps(config.kernel_size, 1, config.num_layers)
  rows = min(len(values), config.length)
  if config.layer == 'conv1d' and rows < fewest:
    raise InputError(
      f'{name}: convolutions of `kernel_size={config.kernel_size}`, '
      f'`num_layers={config.num_layers}` of them, need {fewest} rows, got {rows}'
    )


def _scaling(config: Config, series: list[Series], places: list[str]) -> Scaling:
  """What makes values normal, by the rows of all series to train on.

  All have the columns of the first, and those of words that any of them holds.
  """
  columns = dict.fromkeys(series[0].columns)
  for one in series:
    columns |= dict.fromkeys(filter(config.is_category, one.columns))
  whose = f'of {places[0]}'
  aligned = [
    reading.align(config, one, tuple(columns), place, whose=whose).series.values
    for one, place in zip(series, places, strict=True)
  ]
  together = Series(np.empty(0), np.concatenate(aligned), tuple(columns))
  return reading.scaling(config, together, 0)


def train(
  config: Config, data: Data, *, name: str, title: str, model: nn.Module
) -> dict[str, Any]:
  """Trains a classifier; returns the result, with the scores of each class.

  Args:
    config: With the flags of the experiment.
    data: From `load`.
    name: Of the experiment, as in its command.
    title: The model, for the picture.
    model: x [B, T, D] -> logits [B, C].
  """
  most = np.bincount(data.labels[0]).argmax()
  naive = [float(np.mean(labels == most)) for labels in data.labels[1:]]

  def finish(
    params: PyTree, result: Mapping[str, Any], folder: pathlib.Path
  ) -> dict[str, Any]:
    test = data.parts[2]
    scores = of_texts.by_class(config, model, params, test, data.classes, folder, title)
    return {**scores, 'naive_accuracy': naive[0], 'naive_test_accuracy': naive[1]}

  classes = to_json(data.classes, indent=2).encode() + b'\n'
  return train_lib.run(
    config,
    plan.Task(
      model,
      losses.softmax_xent,
      {'accuracy': losses.accuracy},
      Monitor('loss'),  # of few series many epochs have the same accuracy
    ),
    running.feeds(config, *data.parts),
    name=name,
    title=title,
    facts={
      **data.facts,
      'compared with': f'the class {data.classes[most]!r} always: validation accuracy '
      f'{naive[0]:.4f}, test {naive[1]:.4f}',
    },
    finish=finish,
    files={
      SCALING_FILE: data.scaling.save,
      **_example(config),
      LABELS_FILE: lambda path: whole.write(path, classes),
    },
  )


def _example(config: Config) -> dict[str, Any]:
  """The first generated series, as a file for `predict`."""
  if config.dataset != 'synthetic':
    return {}
  one = synthetic.shapes(0, 1).series[0]
  made = synthetic.as_csv(one.times, dict(zip(one.columns, one.values.T, strict=True)))
  return {'series.csv': lambda path: whole.write(path, made)}


def _classes(folder: pathlib.Path) -> list[str]:
  path = folder / LABELS_FILE
  try:
    names = json.loads(path.read_text(encoding='utf-8'))
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
      raise ValueError('expected a list of names')
  except (OSError, ValueError) as error:
    raise InputError(f'{path}: expected the classes of a run: {error}') from error
  return names


def predict(members: Members, request: Request) -> None:
  """Prints the class of a series, and how sure the model is of it.

  Args:
    members: Runs of an experiment of this task.
    request: `file`, a CSV with the columns of the run's own; default standard input.

  Raises:
    InputError: The file cannot be read, or has other columns.
  """
  trained = members.first
  config = trained.config
  assert isinstance(config, Config)  # for mypy: the task of the run is this one
  classes, scaling = (
    _classes(trained.folder),
    Scaling.load(trained.folder / SCALING_FILE),
  )
  content, name = reading.content(request.file)
  series = _complete(config, reading.parse(config, content, name), name)
  aligned = reading.align(config, series, scaling.columns, name)
  values = scaling.normal(aligned.series.values)[-config.length :]
  _check_rows(config, values, name)
  one = running.arrays(values[None])
  if request.held_out:
    outputs, y = members.held_out(members.load().parts[2])
    prediction.say_confidence(prediction.softmax(outputs), y, 'test series')
  logits = members.outputs(InOrder(one, 1), 1)[:, 0]  # [S, C]
  answer, line = prediction.of_class(logits, classes)
  answer |= {
    'rows': len(aligned.series.times),
    'unread': max(0, len(aligned.series.times) - config.length),
    'unknown': list(aligned.unknown),
  }
  line += f'  {answer["rows"]:,} rows'
  if answer['unread']:
    line += f', first {answer["unread"]:,} not read'
  if aligned.unknown:
    line += f'; not known to the run: {", ".join(aligned.unknown)}'
  running.say(answer, line, request.json)
