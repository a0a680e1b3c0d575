"""What the experiments on texts share: runs, outputs over a set, lines of input."""

import contextlib
import csv
import dataclasses
import io
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import numpy as np

import seqjax as sj
from experiments.prediction import TEXTS, Members, Request
from experiments.suites import rows
from experiments.texts import vocabulary
from seqjax import train as train_lib
from seqjax.config import TrainConfig
from seqjax.data.batches import Bucketed, Feed, InOrder, Shuffled
from seqjax.data.sources import Arrays, Sequences
from seqjax.data.texts import tables
from seqjax.files import texts as files
from seqjax.text import Tokenizer
from seqjax.training import evaluation, losses
from seqjax.training.plan import Data, Task
from seqjax.types import Examples, InputError, PyTree
from seqjax.workdir.progress import Monitor

_BATCH = 64


@dataclasses.dataclass(frozen=True)
class Of:
  """The task of an experiment that reads its data in its own way.

  A kind of task adds `encode`, which makes ids of (config, what was read), and `sizes`,
  `train` and `predict`; see `experiments.experiment`.
  """

  read: Callable[[Any], Any]  # the data that the flags of a config ask for
  real: Callable[[Any], bool] = lambda config: False  # that of which was published
  encode: ClassVar[Callable[..., Any]]
  # What makes inputs of texts: files that the run left, and fields of its config.
  INPUTS: ClassVar[tuple[str, ...]] = (*vocabulary.FILES, 'length', 'tokens')
  ASKED: ClassVar[tuple[str, ...]] = (*TEXTS, 'held_out')  # of predict's flags

  def load(self, config: Any) -> Any:
    """The data that the flags ask for, as ids."""
    return self.encode(config, self.read(config))


def sequences(
  ids: Sequence[np.ndarray], y: Any, length: int, weight: np.ndarray | None = None
) -> Sequences:
  """Rows of unequal length, the last `length` steps of each, in batches of that T."""
  return Sequences(list(ids), y, weight, length=length, longest=length)


def arrays(x: np.ndarray) -> Arrays:
  """Rows [N, ...] of which the labels are not known."""
  return Arrays(x, np.zeros(len(x), np.float32))


def feeds(config: TrainConfig, *parts: Any) -> Data:
  """Training, validation and test set as the loop takes them.

  Batches are of like length, but of `Examples`, which have one.
  """
  train, *held_out = parts
  feed: Feed
  if isinstance(train, Examples):
    feed = Shuffled(train, config.batch_size, config.seed)
  else:
    feed = Bucketed(train, train.lengths, config.batch_size, config.seed)
  return Data(feed, *(InOrder(part, config.batch_size) for part in held_out))


def classes(model: nn.Module) -> Task:
  """One class an example, and the best epoch is that of the highest accuracy."""
  monitor = Monitor('accuracy', higher_is_better=True)
  return Task(model, losses.softmax_xent, {'accuracy': losses.accuracy}, monitor)


def train(
  config: TrainConfig,
  task: Task,
  data: Data,
  *,
  name: str,
  title: str,
  tokenizer: Tokenizer,
  labels: Any = None,
  facts: Mapping[str, Any],
  real: bool,
  matrix: np.ndarray | None = None,
  finish: train_lib.Finish | None = None,
  files: Mapping[str, Callable] | None = None,
) -> dict[str, Any]:
  """A run; see `train.run`.

  Args:
    config: With the flags of the experiment.
    task: What is learned.
    data: From what.
    name: Of the experiment.
    title: What is trained on what.
    tokenizer: Left in the workdir.
    labels: Likewise.
    facts: To show at the start.
    real: Whether the data is that of which something was published.
    matrix: [V, E] that the embedding starts from.
    finish: As for `train.run`.
    files: What else is left in the workdir, likewise.
  """
  if matrix is not None:
    model = task.model.clone(embedding_init=sj.pretrained(matrix))
    task = task._replace(model=model)
  metric = task.monitor.metric
  number = rows.published(name, f'best.val_{metric}') if real else None
  return train_lib.run(
    config,
    task,
    data,
    name=name,
    title=title,
    facts=facts,
    published={} if number is None else {metric: number},
    finish=finish,
    files={**vocabulary.files(tokenizer, labels), **(files or {})},
  )


def outputs(config: TrainConfig, model: nn.Module, params: PyTree, part: Any) -> PyTree:
  """A model's outputs for a set of N examples, leaves [N, ...] on the host."""
  batches = InOrder(part, config.batch_size)
  run = evaluation.make_outputs(model, config.compute_dtype)
  return run(params, batches, len(part))


def answers(
  members: Members, texts: Iterator[str], to_source: Callable[[list[str]], Any]
) -> Iterator[tuple[str, Any]]:
  """Yields each text with its outputs, leaves [S, ...], as texts come in.

  Args:
    members: Who answers.
    texts: Any number.
    to_source: Makes examples of some texts, all batches alike in T.
  """
  for start in itertools.count():
    chunk = list(itertools.islice(texts, _BATCH))
    if not chunk:
      return
    batches = InOrder(to_source(chunk), min(_BATCH, len(chunk)))
    of_chunk = members.outputs(batches, len(chunk), start)
    for i, text in enumerate(chunk):
      yield text, jax.tree.map(lambda a, i=i: a[:, i], of_chunk)


def read_texts(request: Request) -> Iterator[str]:
  """The texts that --text and --file name, one after the other; default stdin.

  Raises:
    InputError: Flags do not fit each other, the file cannot be read, or a line of it is
      no text.
  """
  text, file, text_column = request.text, request.file, request.text_column
  for flag, value in (('--file', file), ('--text_column', text_column)):
    if text is not None and value is not None:
      raise InputError(f'give only one of --text, {flag}')
  if text_column is None and file and file.lower().endswith(tuple(tables.KINDS)):
    raise InputError(f'--file={file} is a table: say its column with --text_column')
  return iter([text]) if text is not None else _texts_of(file, text_column)


def _texts_of(file: str | None, column: str | None) -> Iterator[str]:
  name = 'standard input' if file is None else f'--file={file}'
  try:
    with contextlib.ExitStack() as stack:
      raw = stack.enter_context(open(file, 'rb')) if file else sys.stdin.buffer
      if column is None:
        yield from files.lines(raw, name)
      else:
        table = files.decode(raw.read(), name)
        if table.lstrip().startswith('{'):
          rows = tables.objects(name, table, (column,))
          yield from (row.values[0] for row in rows)
        else:
          yield from _cells(table, column, name)
  except OSError as error:
    raise InputError(f'{name}: {error.strerror}') from error


def _cells(table: str, column: str, name: str) -> Iterator[str]:
  """What a column holds, whichever of comma, semicolon and tab is between columns."""
  file = io.StringIO(table)
  first = file.readline()
  headers = {}
  for delimiter in ',;\t':
    titles = next(csv.reader([first], delimiter=delimiter, skipinitialspace=True), [])
    headers[delimiter] = [title.strip() for title in titles]
  fitting = [d for d, header in headers.items() if header.count(column) == 1]
  if not fitting:
    columns = ', '.join(map(repr, max(headers.values(), key=len)[:20]))
    raise InputError(
      f'{name}, line 1: expected a column {column!r}, once, found {columns}'
    )
  header = headers[fitting[0]]
  rows = csv.reader(file, delimiter=fitting[0], skipinitialspace=True, strict=True)
  try:
    for row in rows:
      if len(row) == len(header):
        yield row[header.index(column)]
      elif any(cell.strip() for cell in row):
        mismatch = f'expected {len(header)} fields, found {len(row)}'
        raise InputError(f'{name}, line {rows.line_num + 1}: {mismatch}')
  except csv.Error as error:
    raise InputError(f'{name}, line {rows.line_num + 1}: {error}') from error


def say(answer: Mapping[str, Any], line: str, as_json: bool) -> None:
  """Prints an answer, as a JSON object or as a line for a reader."""
  print(json.dumps(answer) if as_json else line, flush=True)
