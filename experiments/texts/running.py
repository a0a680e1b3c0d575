"""What the experiments on texts share: runs, outputs over a set, lines of input."""

import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

import seqjax as sj
from experiments import experiment
from experiments.suites import rows
from experiments.texts import vocabulary
from seqjax import train as train_lib
from seqjax.config import TrainConfig
from seqjax.data.batches import Bucketed, InOrder
from seqjax.data.sources import Arrays, Sequences
from seqjax.layers.base import call_options
from seqjax.text import Tokenizer
from seqjax.training.plan import Data, Task
from seqjax.types import InputError, PyTree

_BATCH = 64


def sequences(
  ids: Sequence[np.ndarray], y: Any, length: int, weight: np.ndarray | None = None
) -> Sequences:
  """Rows of unequal length, the last `length` steps of each, in batches of that T."""
  return Sequences(list(ids), y, weight, length=length, longest=length)


def arrays(x: np.ndarray) -> Arrays:
  """Rows [N, ...] of which the labels are not known."""
  return Arrays(x, np.zeros(len(x), np.float32))


def feeds(config: TrainConfig, *parts: Sequences) -> Data:
  """Training, validation and test set as the loop takes them."""
  train, *held_out = parts
  feed = Bucketed(train, train.lengths, config.batch_size, config.seed)
  return Data(feed, *(InOrder(part, config.batch_size) for part in held_out))


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
    files=vocabulary.files(tokenizer, labels),
  )


def outputs(model: nn.Module, params: PyTree, part: Any, batch_size: int) -> PyTree:
  """The model's outputs for a set of N examples, leaves [N, ...] on the host."""

  @jax.jit
  def apply(params: PyTree, x: Any, mask: Any) -> Any:
    options = call_options(model, train=False, mask=mask)
    return model.apply({'params': params}, x, **options)

  found = [
    jax.device_get(apply(params, batch.x, batch.mask))
    for batch in InOrder(part, batch_size)
  ]
  return jax.tree.map(lambda *a: np.concatenate(a)[: len(part)], *found)


def answers(
  trained: experiment.Run, texts: Iterable[str], to_source: Callable[[list[str]], Any]
) -> Iterator[tuple[str, Any]]:
  """Yields each text with the model's output for it, as texts come in.

  Args:
    trained: The run.
    texts: Any number.
    to_source: Makes examples of some texts, all batches alike in T.
  """
  params = None
  texts = iter(texts)
  while chunk := list(itertools.islice(texts, _BATCH)):
    source = to_source(chunk)
    if params is None:
      params = experiment.best_params(trained, source.take(np.zeros(1, int)).x)
    found = outputs(trained.model, params, source, min(_BATCH, len(chunk)))
    for i, text in enumerate(chunk):
      yield text, jax.tree.map(lambda a, i=i: a[i], found)


def read_texts(text: str | None, file: str | None) -> Iterator[str]:
  """The texts that --text and --file name, one after the other; default stdin.

  Raises:
    InputError: Both are given, the file cannot be read, or a line is not UTF-8.
  """
  if text is not None and file is not None:
    raise InputError('give only one of --text, --file')
  if text is not None:
    return iter([text])
  if file is None:
    return _lines(sys.stdin.buffer, 'standard input')
  return _lines_of(file)


def _lines_of(file: str) -> Iterator[str]:
  try:
    with open(file, 'rb') as opened:
      yield from _lines(opened, f'--file={file}')
  except OSError as error:
    raise InputError(f'--file={file}: {error.strerror}') from error


def _lines(file: Iterable[bytes], name: str) -> Iterator[str]:
  for number, line in enumerate(file, 1):
    try:
      yield line.decode('utf-8').rstrip('\r\n')
    except UnicodeDecodeError as error:
      raise InputError(f'{name}, line {number} is not UTF-8') from error


def say(answer: Mapping[str, Any], line: str, as_json: bool) -> None:
  """Prints an answer, as a JSON object or as a line for a reader."""
  print(json.dumps(answer) if as_json else line, flush=True)
