"""Answers of a trained run to reviews; see predict.py."""

import contextlib
import csv
import io
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from experiments import experiment
from experiments.reviews.training import VOCABULARY_FILE
from seqjax.data.reviews.word_ids import Vocabulary
from seqjax.files import texts
from seqjax.text import Tokenizer, pad_sequences, split_words
from seqjax.types import Array, InputError, PyTree

_BATCH = 64
_SHOWN = 5  # unknown words


def predict(
  trained: experiment.Run,
  *,
  text: str | None,
  file: str | None,
  text_column: str | None,
  as_json: bool,
  load_vocabulary: Callable[[Path], Vocabulary | Tokenizer] = Vocabulary.load,
) -> None:
  """Prints an answer for each review.

  Args:
    trained: A run of an experiment on reviews.
    text: One review.
    file: Reviews, UTF-8, one a line; without both: standard input.
    text_column: Column that holds the reviews, where they come as a table.
    as_json: Print an object a line.
    load_vocabulary: Reads what the run left in `VOCABULARY_FILE`.

  Raises:
    InputError: The run or the input cannot be used.
  """
  for flag, value in (('--file', file), ('--text_column', text_column)):
    if text is not None and value is not None:
      raise InputError(f'give only one of --text, {flag}')
  if text_column is None and file and file.lower().endswith(('.csv', '.tsv')):
    raise InputError(f'--file={file} is a table: say its column with --text_column')
  vocabulary = load_vocabulary(trained.folder / VOCABULARY_FILE)
  known = _known_words(vocabulary)
  length = trained.config.length  # type: ignore[attr-defined]
  size = _BATCH if text is None else 1
  x = pad_sequences([[0]] * size, length)  # [size, T]
  params = experiment.best_params(trained, x)

  @jax.jit
  def probabilities(params: PyTree, x: Array) -> Array:
    logits: Any = trained.model.apply({'params': params}, x, train=False)
    return jax.nn.sigmoid(logits)

  found = _texts(text, file, text_column)
  while chunk := list(itertools.islice(found, size)):
    ids: Sequence[Any] = vocabulary.encode(chunk)
    x[: len(chunk)] = pad_sequences(ids, length)
    answered = jax.device_get(probabilities(params, x))
    for review, row, probability in zip(chunk, ids, answered.tolist(), strict=False):
      words = split_words(review)
      answer = {
        'probability': probability,
        'label': 'positive' if probability > 0.5 else 'negative',
        'words': len(words),
        'unknown': list(dict.fromkeys(word for word in words if word not in known)),
        'unread': max(len(row) - length, 0),
      }
      print(json.dumps(answer) if as_json else _line(answer), flush=True)


def _known_words(vocabulary: Vocabulary | Tokenizer) -> set[str]:
  """The words that have an id of their own."""
  if isinstance(vocabulary, Vocabulary):
    return set(vocabulary.words)
  return set(itertools.islice(vocabulary.word_index, vocabulary.num_ids - 1))


def _line(answer: dict[str, Any]) -> str:
  """An answer for a reader."""
  unknown = answer['unknown']
  more = ', ...' if len(unknown) > _SHOWN else ''
  names = f' ({", ".join(unknown[:_SHOWN])}{more})' if unknown else ''
  line = (
    f'{answer["probability"]:.4f}  {answer["label"]}  '
    f'{answer["words"]} words, {len(unknown)} unknown{names}'
  )
  return line + (f', first {answer["unread"]} not read' if answer['unread'] else '')


def _texts(text: str | None, file: str | None, column: str | None) -> Iterator[str]:
  """The reviews that the flags name, one after the other."""
  if text is not None:
    yield text
    return
  name = 'standard input' if file is None else f'--file={file}'
  try:
    with contextlib.ExitStack() as stack:
      raw = stack.enter_context(open(file, 'rb')) if file else sys.stdin.buffer
      if column is None:
        yield from texts.lines(raw, name)
      else:
        yield from _cells(texts.decode(raw.read(), name), column, name)
  except OSError as error:
    raise InputError(f'{name}: {error.strerror}') from error


def _cells(table: str, column: str, name: str) -> Iterator[str]:
  """What a column holds, whichever of comma, semicolon and tab is between columns."""
  file = io.StringIO(table, newline=None)  # a \r in a cell would stay in a word
  first = file.readline()
  headers = {}
  for delimiter in ',;\t':
    titles = next(csv.reader([first], delimiter=delimiter, skipinitialspace=True), [])
    headers[delimiter] = [title.strip() for title in titles]
  fitting = [d for d, header in headers.items() if header.count(column) == 1]
  if not fitting:
    found = ', '.join(map(repr, max(headers.values(), key=len)[:20]))
    raise InputError(
      f'{name}, line 1: expected a column {column!r}, once, found {found}'
    )
  header = headers[fitting[0]]
  rows = csv.reader(file, delimiter=fitting[0], skipinitialspace=True, strict=True)
  try:
    for row in rows:
      if len(row) == len(header):
        yield row[header.index(column)]
      elif any(cell.strip() for cell in row):
        wanted = f'expected {len(header)} fields, found {len(row)}'
        raise InputError(f'{name}, line {rows.line_num + 1}: {wanted}')
  except csv.Error as error:
    raise InputError(f'{name}, line {rows.line_num + 1}: {error}') from error
