"""The task of the experiments that tell classes of texts: words or characters in."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import numpy as np

import seqjax as sj
from experiments import layer_flags, prediction
from experiments.prediction import Members, Request
from experiments.texts import running, vocabulary
from seqjax.config import TrainConfig, field
from seqjax.data.sources import Sequences
from seqjax.data.texts.labelled import Splits, classes_of
from seqjax.text import Tokenizer
from seqjax.training.confusion import class_scores, confusion_matrix
from seqjax.types import InputError, PyTree
from seqjax.view import confusion as confusion_view
from seqjax.view import console

CONFUSION = 'confusion.png'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(layer_flags.Pooled):
  """What they can be told; see --help."""

  tokens: Literal['words', 'characters'] = field(
    'words', 'What a text is read by; words are lower-cased and lose punctuation.'
  )
  vocab_size: int = field(
    20_000, 'Ids at most, V: the most frequent words and two others.', at_least=3
  )
  length: int = field(400, 'Words of a text, T: its last ones.', at_least=1)
  freeze_vectors: bool = field(False, 'Leave them as they are.')

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.freeze_vectors and not self.vectors:
      raise InputError('`freeze_vectors` needs `vectors`')
    if self.vectors and self.tokens == 'characters':
      raise InputError('`vectors` are of words: not with `tokens=characters`')


class Data(NamedTuple):
  """The texts of a run, and what made ids of them."""

  parts: tuple[Sequences, Sequences, Sequences]  # training, validation, test
  texts: Splits
  tokenizer: Tokenizer
  classes: list[str]
  matrix: np.ndarray | None
  facts: dict[str, str]

  @property
  def sizes(self) -> tuple[int, int]:
    """What `make_model` needs beside the config."""
    return self.tokenizer.num_ids, len(self.classes)


def sizes(folder: pathlib.Path) -> tuple[int, int]:
  """Those of a run."""
  tokenizer, classes = vocabulary.read(folder)
  return tokenizer.num_ids, len(classes)


def make_model(
  config: Config, vocab_size: int, num_classes: int
) -> sj.SequenceClassifier:
  """ids [B, T] -> logits [B, C]."""
  return sj.SequenceClassifier(
    vocab_size,
    config.embed_size,
    layer_flags.pooled_encoder(config),
    frozen=config.freeze_vectors,
    num_classes=num_classes,
  )


def encode(config: Config, texts: Splits) -> Data:
  """Makes ids of texts, by the words of the training part."""
  tokenizer = vocabulary.fit(texts.train.texts, config.vocab_size, by=config.tokens)
  classes = classes_of(texts.train)
  matrix, about = vocabulary.vectors(config.vectors, tokenizer, config.embed_size)
  ids = {
    name: vocabulary.encode(tokenizer, part.texts)
    for name, part in texts._asdict().items()
  }
  longest = max(len(row) for rows in ids.values() for row in rows)
  length = min(config.length, longest)
  number = {name: i for i, name in enumerate(classes)}
  parts = tuple(
    running.sequences(
      ids[name], np.array([number[label] for label in part.labels], np.int32), length
    )
    for name, part in texts._asdict().items()
  )
  counts = '{:,} training, {:,} validation, {:,} test'
  cut = np.mean([len(row) > length for row in ids['train']])
  facts = {
    'texts': counts.format(*(len(part.texts) for part in texts)),
    'classes': _shown(classes),
    config.tokens: f'{np.mean([len(r) for r in ids["train"]]):.0f} a text; '
    f'{cut:.1%} of texts cut; {tokenizer.num_ids:,} ids',
    **about,
  }
  return Data(parts, texts, tokenizer, classes, matrix, facts)  # type: ignore[arg-type]


def _shown(names: list[str], most: int = 12) -> str:
  suffix = f', ... ({len(names)})' if len(names) > most else ''
  return ', '.join(names[:most]) + suffix


def by_class(
  config: TrainConfig,
  model: nn.Module,
  params: PyTree,
  part: Any,
  classes: Sequence[str],
  folder: pathlib.Path,
  title: str,
) -> dict[str, Any]:
  """Scores of each class on the test set, a source; shows and draws them."""
  logits = running.outputs(config, model, params, part)
  matrix = confusion_matrix(part.labels, logits.argmax(-1), len(classes))
  scores = class_scores(matrix, classes)
  console.results_table(scores, title='Test, by class')
  confusion_view.draw(matrix, classes, folder / CONFUSION, title=f'{title}: test set')
  macro = float(np.mean([row['f1'] for row in scores.values()]))
  return {'test_macro_f1': macro, 'classes': scores, 'confusion': matrix.tolist()}


def predict(members: Members, request: Request) -> None:
  """Prints the class of each text, and how sure the model is of it."""
  texts = running.read_texts(request)
  trained = members.first
  tokenizer, classes = vocabulary.read(trained.folder)
  config: Any = trained.config
  known = vocabulary.known_words(tokenizer)

  def to_source(texts: list[str]) -> Sequences:
    ids = vocabulary.encode(tokenizer, texts)
    return running.sequences(ids, np.zeros(len(texts), np.int32), config.length)

  if request.held_out:
    logits, y = members.held_out(members.load().parts[2])
    prediction.say_confidence(prediction.softmax(logits), y, 'test texts')
  for given, logits in running.answers(members, texts, to_source):
    answer, line = prediction.of_class(logits, classes)
    words = vocabulary.words_of(tokenizer, given)
    answer |= vocabulary.word_facts(words, known, len(words) - config.length)
    unknown_words = vocabulary.words_line(answer, config.tokens)
    running.say(answer, f'{line}  {unknown_words}', request.json)


class Of(running.Of):
  """The task of an experiment that reads its texts in its own way."""

  encode = staticmethod(encode)
  sizes = staticmethod(sizes)
  predict = staticmethod(predict)

  def train(
    self, config: Config, data: Data, *, name: str, title: str, model: Any
  ) -> dict[str, Any]:
    """Trains a classifier; returns the result, with the scores of each class."""

    def finish(
      params: PyTree, _: Mapping[str, Any], folder: pathlib.Path
    ) -> dict[str, Any]:
      test = data.parts[2]
      return by_class(config, model, params, test, data.classes, folder, title)

    return running.train(
      config,
      running.classes(model),
      running.feeds(config, *data.parts),
      name=name,
      title=title,
      tokenizer=data.tokenizer,
      labels=data.classes,
      facts=data.facts,
      real=self.real(config),
      matrix=data.matrix,
      finish=finish,
    )
