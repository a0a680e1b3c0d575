"""Applies a trained run to new data.

python -m experiments.predict --workdir=RUN --text="A film to remember."
python -m experiments.predict --workdir=RUN --file=reviews.txt
cat reviews.txt | python -m experiments.predict --workdir=RUN
python -m experiments.predict --workdir=RUN --file=weather.csv

Reviews are one a line, and so are the answers: the probability that the review is
positive, the label, how many words there are, which of them the run does not know, and
how many at the beginning it does not read because they are too many. The run's folder
is all that is needed: model, parameters of the best epoch and vocabulary are there.

A run on weather forecasts from each row of a CSV file, of the columns that it was
trained on, that has enough rows before it: when the forecast is made and for when, its
value in the target's own unit, the value now, and what was measured if the file has it.
"""

import dataclasses
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax

from experiments import reviews, runs, weather
from experiments.reviews import few
from experiments.weather import prediction
from seqjax import config as config_lib
from seqjax.config import field
from seqjax.data.reviews.word_ids import Vocabulary
from seqjax.text import Tokenizer, pad_sequences, split_words
from seqjax.types import Array, InputError, PyTree

_BATCH = 64
_SHOWN = 5  # unknown words


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config_lib.Flags):
  """See --help."""

  workdir: str = field('', 'Folder of the run.')
  text: str | None = field(None, 'One review.')
  file: str | None = field(
    None, 'File of reviews, UTF-8, one a line, or CSV; default stdin.'
  )
  json: bool = field(False, 'Print a JSON object a line, all unknown words in it.')


def run(config: Config) -> None:
  """Prints a line for each example.

  Raises:
    InputError: The run or the input cannot be used.
  """
  trained = runs.open_run(config.workdir)
  for kind, predict in _PREDICTORS.items():
    if isinstance(trained.config, kind):
      return predict(config, trained)
  raise InputError(
    f'--workdir={config.workdir} is a run of {trained.experiment}, for which there is '
    'no prediction'
  )


def _predict_reviews(config: Config, trained: runs.Run) -> None:
  """Reviews by a classifier of reviews."""
  if config.text is not None and config.file is not None:
    raise InputError('give only one of --text, --file')
  vocabulary = _vocabulary(trained)
  known = _known_words(vocabulary)
  length = trained.config.length  # type: ignore[attr-defined]
  size = _BATCH if config.text is None else 1
  x = pad_sequences([[0]] * size, length)  # [size, T]
  params = runs.best_params(trained, x)

  @jax.jit
  def probabilities(params: PyTree, x: Array) -> Array:
    logits: Any = trained.model.apply({'params': params}, x, train=False)
    return jax.nn.sigmoid(logits)

  texts = _texts(config)
  while chunk := list(itertools.islice(texts, size)):
    ids: Sequence[Any] = vocabulary.encode(chunk)
    x[: len(chunk)] = pad_sequences(ids, length)
    found = jax.device_get(probabilities(params, x))
    for text, row, probability in zip(chunk, ids, found.tolist(), strict=False):
      words = split_words(text)
      answer = {
        'probability': probability,
        'label': 'positive' if probability > 0.5 else 'negative',
        'words': len(words),
        'unknown': list(dict.fromkeys(word for word in words if word not in known)),
        'unread': max(len(row) - length, 0),
      }
      print(json.dumps(answer) if config.json else _line(answer), flush=True)


def _predict_series(config: Config, trained: runs.Run) -> None:
  """A series by a forecaster."""
  if config.text is not None:
    raise InputError(f'--text: a run of {trained.experiment} needs --file')
  prediction.predict(config.file, config.json, trained)


def _vocabulary(trained: runs.Run) -> Vocabulary | Tokenizer:
  path = trained.folder / reviews.VOCABULARY_FILE
  if isinstance(trained.config, few.Config):
    return Tokenizer.load(path)
  return Vocabulary.load(path)


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


def _texts(config: Config) -> Iterator[str]:
  """The reviews that the flags name, one after the other."""
  if config.text is not None:
    yield config.text
  elif config.file is None:
    yield from _lines(sys.stdin.buffer, 'standard input')
  else:
    try:
      with open(config.file, 'rb') as file:
        yield from _lines(file, f'--file={config.file}')
    except OSError as error:
      raise InputError(f'--file={config.file}: {error.strerror}') from error


def _lines(file: Iterable[bytes], name: str) -> Iterator[str]:
  for number, line in enumerate(file, 1):
    try:
      yield line.decode('utf-8').rstrip('\r\n')
    except UnicodeDecodeError as error:
      raise InputError(f'{name}, line {number} is not UTF-8') from error


# Config of the experiments -> what predicts from their runs.
_PREDICTORS: dict[type, Callable[[Config, runs.Run], None]] = {
  reviews.Config: _predict_reviews,
  weather.Config: _predict_series,
}

if __name__ == '__main__':
  config_lib.main(Config, run)
