"""Answers of a trained run to reviews; see predict.py."""

import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from experiments import experiment
from experiments.reviews.training import VOCABULARY_FILE
from seqjax.data.reviews.word_ids import Vocabulary
from seqjax.text import Tokenizer, pad_sequences, split_words
from seqjax.types import Array, InputError, PyTree

_BATCH = 64
_SHOWN = 5  # unknown words


def predict(
  trained: experiment.Run,
  *,
  text: str | None,
  file: str | None,
  as_json: bool,
  load_vocabulary: Callable[[Path], Vocabulary | Tokenizer] = Vocabulary.load,
) -> None:
  """Prints an answer for each review.

  Args:
    trained: A run of an experiment on reviews.
    text: One review.
    file: Reviews, UTF-8, one a line; without both: standard input.
    as_json: Print an object a line.
    load_vocabulary: Reads what the run left in `VOCABULARY_FILE`.

  Raises:
    InputError: The run or the input cannot be used.
  """
  if text is not None and file is not None:
    raise InputError('give only one of --text, --file')
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

  texts = _texts(text, file)
  while chunk := list(itertools.islice(texts, size)):
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


def _texts(text: str | None, file: str | None) -> Iterator[str]:
  """The reviews that the flags name, one after the other."""
  if text is not None:
    yield text
  elif file is None:
    yield from _lines(sys.stdin.buffer, 'standard input')
  else:
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
