"""The task of the experiments that tell how like two texts are."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

import seqjax as sj
from experiments import layer_flags, prediction
from experiments.prediction import Members, Request
from experiments.texts import running, vocabulary
from seqjax.config import field
from seqjax.data.sources import Arrays
from seqjax.data.texts.known import Pairs
from seqjax.text import Tokenizer, pad_sequences
from seqjax.training import losses, metrics, plan
from seqjax.types import Examples, InputError
from seqjax.workdir.progress import Monitor

LOWEST, HIGHEST = 1.0, 5.0  # of a score


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(layer_flags.Pooled):
  """What they can be told; see --help."""

  min_count: int = field(
    2, 'Words that occur less often are unknown: so what is unknown is trained too.',
    at_least=1,
  )  # fmt: skip
  length: int = field(40, 'Words of a text, T: its first ones.', at_least=1)
  comparison_size: int = field(50, 'Units that compare the two vectors.', at_least=1)
  batch_size: int = 32


class Data(NamedTuple):
  """The pairs of a run, and what made ids of them."""

  parts: tuple[
    Examples, ...
  ]  # x [N, 2, T], y [N] in [0, 1]; training, validation, test
  tokenizer: Tokenizer
  matrix: np.ndarray | None
  facts: dict[str, str]

  @property
  def sizes(self) -> tuple[int]:
    """What `make_model` needs beside the config."""
    return (self.tokenizer.num_ids,)


def make_model(config: Config, vocab_size: int) -> sj.SequenceComparer:
  """ids [B, 2, T] -> [B], 0 for the lowest score and 1 for the highest."""
  return sj.SequenceComparer(
    vocab_size,
    config.embed_size,
    layer_flags.pooled_encoder(config),
    mask_zero=True,
    features=config.comparison_size,
  )


def rows(tokenizer: Tokenizer, pairs: list[tuple[str, str]], length: int) -> np.ndarray:
  """Ids of pairs, int32 [N, 2, T], padded at the end."""
  ids = vocabulary.encode(tokenizer, [text for pair in pairs for text in pair])
  padded = pad_sequences(ids, length, padding='post', truncating='post')
  return padded.reshape(len(pairs), 2, length)


def encode(config: Config, parts: Mapping[str, Pairs]) -> Data:
  """Makes ids of pairs, by the words of the training part."""
  texts = [text for pair in parts['train'].pairs for text in pair]
  tokenizer = vocabulary.fit(texts, by='words', min_count=config.min_count)
  matrix, about = vocabulary.vectors(config.vectors, tokenizer, config.embed_size)
  examples = []
  for part in parts.values():
    y = (np.array(part.scores, np.float32) - LOWEST) / (HIGHEST - LOWEST)
    examples.append(Examples(rows(tokenizer, part.pairs, config.length), y))
  sizes = '{:,} training, {:,} validation, {:,} test'
  facts = {
    'pairs': sizes.format(*(len(part.pairs) for part in parts.values())),
    'words': f'{tokenizer.num_ids:,} ids',
    **about,
  }
  return Data(tuple(examples), tokenizer, matrix, facts)


class Of(running.Of):
  """The task of an experiment that reads its pairs in its own way."""

  encode = staticmethod(encode)
  sizes = staticmethod(vocabulary.num_ids)

  def train(
    self, config: Config, data: Data, *, name: str, title: str, model: Any
  ) -> dict[str, Any]:
    """Trains a comparer; returns the result."""
    return running.train(
      config,
      plan.Task(
        model,
        losses.squared_error,
        {'pearson_r': metrics.pearson_r},
        Monitor('pearson_r', higher_is_better=True),
      ),
      running.feeds(config, *data.parts),
      name=name,
      title=title,
      tokenizer=data.tokenizer,
      facts=data.facts,
      real=self.real(config),
      matrix=data.matrix,
    )

  def predict(self, members: Members, request: Request) -> None:
    """Prints how like two texts are; a line holds both, parted by a tab.

    Raises:
      InputError: A line holds another number of texts.
    """
    texts = running.read_texts(request)
    tokenizer, _ = vocabulary.read(members.first.folder)
    config: Any = members.first.config
    known = vocabulary.known_words(tokenizer)

    def to_source(texts: list[str]) -> Any:
      x = rows(tokenizer, [_pair(line) for line in texts], config.length)
      return running.arrays(x)

    find_interval: Callable[[np.ndarray], np.ndarray] = prediction.interval
    prediction.check_several(members)
    if request.held_out:
      _, *parts = members.load().parts
      held_out = [members.held_out(Arrays(*part)) for part in parts]
      (outputs, y), test = ((_score(output), _score(y)) for output, y in held_out)
      calibration = prediction.Calibration.of(outputs, y)
      prediction.say_coverage(calibration, *test, 'test pairs')
      find_interval = calibration.interval
    for given, output in running.answers(members, texts, to_source):
      words = [vocabulary.words_of(tokenizer, part) for part in _pair(given)]
      each = _score(output)  # [S]
      apart = prediction.spread(each)
      if apart:
        apart['low'], apart['high'] = find_interval(each).tolist()
      score = float(each.mean())
      unread = sum(max(len(row) - config.length, 0) for row in words)
      answer = {
        'score': score,
        **apart,
        **vocabulary.word_facts([w for row in words for w in row], known, 0),
      }
      line = f'{score:.2f}{prediction.spread_line(apart)}  '
      line += vocabulary.words_line(answer)
      line += f', last {unread} not read' if unread else ''
      running.say({**answer, 'unread': unread}, line, request.json)


def _score(output: np.ndarray) -> np.ndarray:
  """What the model says, from 0 to 1, as a score."""
  return LOWEST + (HIGHEST - LOWEST) * np.clip(output.astype(np.float64), 0, 1)


def _pair(line: str) -> tuple[str, str]:
  parts = line.replace('\\t', '\t').split('\t')
  if len(parts) != 2:
    raise InputError(
      f'expected two texts with a tab between them, got {len(parts)}: {line!r:.60}'
    )
  return parts[0], parts[1]
