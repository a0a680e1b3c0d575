"""Answers of a trained run to reviews; see predict.py."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from experiments import experiment
from experiments.reviews.training import VOCABULARY_FILE
from experiments.texts import running
from experiments.texts.vocabulary import known_words, word_facts, words_line
from seqjax.data.reviews.word_ids import OOV_ID, START_ID, Vocabulary
from seqjax.text import Tokenizer, pad_sequences, split_words
from seqjax.text.tokenizer import FILTERS
from seqjax.types import Array, PyTree

_BATCH = 64


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
  texts = running.read_texts(text, file, text_column)
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

  while chunk := list(itertools.islice(texts, size)):
    ids: Sequence[Any] = vocabulary.encode(chunk)
    x[: len(chunk)] = pad_sequences(ids, length)
    answered = jax.device_get(probabilities(params, x))
    for review, row, probability in zip(chunk, ids, answered.tolist(), strict=False):
      words = split_words(review)
      answer = {
        'probability': probability,
        'label': 'positive' if probability > 0.5 else 'negative',
        **word_facts(words, known, len(row) - length),
      }
      line = f'{probability:.4f}  {answer["label"]}  {words_line(answer)}'
      running.say(answer, line, as_json)


def about(
  trained: experiment.Run,
  *,
  load_vocabulary: Callable[[Path], Vocabulary | Tokenizer] = Vocabulary.load,
) -> dict[str, Any]:
  """What a program outside must know to make inputs of a text; see export.py."""
  vocabulary = load_vocabulary(trained.folder / VOCABULARY_FILE)
  words = sorted(_known_words(vocabulary))
  ids: Sequence[Any] = vocabulary.encode(words)
  start: int | None = START_ID
  unknown: int | None = OOV_ID
  if isinstance(vocabulary, Tokenizer):
    start, unknown = None, vocabulary.word_index.get(vocabulary.oov_token or '')
  return {
    'kind': 'text',
    'shape': [trained.config.length],  # type: ignore[attr-defined]
    'dtype': 'int32',
    'separators': FILTERS,
    'ids': {word: row[-1] for word, row in zip(words, ids, strict=True)},
    'start': start,
    'unknown': unknown,
  }


def _known_words(vocabulary: Vocabulary | Tokenizer) -> set[str]:
  """The words that have an id of their own."""
  if isinstance(vocabulary, Vocabulary):
    return set(vocabulary.words)
  return known_words(vocabulary)
