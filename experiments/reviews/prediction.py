"""Answers of a trained run to reviews; see predict.py."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import experiment, prediction
from experiments.prediction import Members, Request
from experiments.reviews.training import VOCABULARY_FILE, Data
from experiments.texts import running
from experiments.texts.vocabulary import known_words, word_facts, words_line
from seqjax.data.reviews.word_ids import OOV_ID, START_ID, Vocabulary
from seqjax.data.sources import Arrays
from seqjax.text import Tokenizer, pad_sequences, split_words
from seqjax.text.tokenizer import FILTERS


def predict(
  members: Members,
  request: Request,
  *,
  load_vocabulary: Callable[[Path], Vocabulary | Tokenizer] = Vocabulary.load,
  data_of: Callable[[Any], Data] = lambda loaded: loaded,
) -> None:
  """Prints an answer for each review.

  Args:
    members: Runs of an experiment on reviews.
    request: The reviews.
    load_vocabulary: Reads what the run left in `VOCABULARY_FILE`.
    data_of: What the task's `load` returned -> the data.

  Raises:
    InputError: The run or the input cannot be used.
  """
  texts, trained = running.read_texts(request), members.first
  vocabulary = load_vocabulary(trained.folder / VOCABULARY_FILE)
  known = _known_words(vocabulary)
  length = trained.config.length  # type: ignore[attr-defined]

  def ids_of(texts: list[str]) -> Sequence[Any]:
    return vocabulary.encode(texts)

  def to_source(texts: list[str]) -> Arrays:
    return running.arrays(pad_sequences(ids_of(texts), length))

  if request.held_out:
    logits, y = members.held_out(Arrays(*data_of(members.load()).test))
    p = _sigmoid(logits)
    prediction.say_confidence(np.stack([1 - p, p], -1), y, 'test reviews')
  for review, logits in running.answers(members, texts, to_source):
    words, each = split_words(review), _sigmoid(logits)  # [S]
    (row,) = ids_of([review])
    probability, apart = float(each.mean()), prediction.spread(each)
    answer = {
      'probability': probability,
      **apart,
      'label': 'positive' if probability > 0.5 else 'negative',
      **word_facts(words, known, len(row) - length),
    }
    line = f'{probability:.4f}{prediction.spread_line(apart)}  {answer["label"]}  '
    running.say(answer, line + words_line(answer), request.json)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
  return prediction.softmax(np.stack([0 * logits, logits], -1))[..., 1]


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
