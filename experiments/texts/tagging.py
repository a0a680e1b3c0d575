"""The task of the experiments that tag words, and maybe tell the class of the whole."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import seqjax as sj
from experiments import layer_flags, prediction
from experiments.prediction import Members, Request
from experiments.texts import running, vocabulary
from seqjax.config import field
from seqjax.data.sources import Sequences
from seqjax.data.texts.known import Tagged
from seqjax.text import Tokenizer
from seqjax.training import losses, metrics, plan, spans
from seqjax.types import Array, InputError
from seqjax.workdir.progress import Monitor


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(layer_flags.BothWays):
  """What they can be told; see --help."""

  min_count: int = field(
    2, 'Words that occur less often are unknown: so what is unknown is trained too.',
    at_least=1,
  )  # fmt: skip
  length: int = field(100, 'Words of a sentence, T: its first ones.', at_least=1)
  batch_size: int = 32


class Data(NamedTuple):
  """The sentences of a run, and what made ids of them."""

  parts: tuple[Sequences, ...]  # training, validation, test
  tokenizer: Tokenizer
  tags: list[str]
  classes: list[str] | None
  facts: dict[str, str]

  @property
  def sizes(self) -> tuple[int, int, int | None]:
    """What `make_model` needs beside the config."""
    return _sizes(self.tokenizer, self.tags, self.classes)


def _sizes(
  tokenizer: Tokenizer, tags: list[str], classes: list[str] | None
) -> tuple[int, int, int | None]:
  # One id more than words: that of the step before the first word.
  return tokenizer.num_ids + 1, len(tags), classes and len(classes)  # type: ignore[return-value]


def sizes(folder: pathlib.Path) -> tuple[int, int, int | None]:
  """Those of a run."""
  tokenizer, labels = vocabulary.read(folder)
  return _sizes(tokenizer, labels['tags'], labels['classes'])


def make_model(
  config: Config, vocab_size: int, num_tags: int, num_classes: int | None
) -> sj.SequenceTagger:
  """ids [B, T] -> logits of tags [B, T, C], and of classes [B, K] where there are."""
  return sj.SequenceTagger(
    vocab_size,
    config.embed_size,
    layer_flags.sequence_encoder(config),
    num_tags=num_tags,
    num_classes=num_classes,
  )


def encode(config: Config, parts: Mapping[str, Tagged]) -> Data:
  """Makes ids of sentences, by the words of the training part.

  Where sentences have classes, a step before the first word holds the class as label.

  Raises:
    InputError: A class is not in the training part.
  """
  tokenizer = vocabulary.fit(
    parts['train'].words, by='words', min_count=config.min_count
  )
  # A tag of the test alone is never found, but it counts among those wanted.
  tags = sorted({tag for part in parts.values() for row in part.tags for tag in row})
  of_train = parts['train'].classes
  classes = None if of_train is None else sorted(set(of_train))
  if classes is not None:
    for name, part in parts.items():
      if odd := set(part.classes or ()) - set(classes):
        raise InputError(f'the {name} set has {sorted(odd)[0]!r}: no class of training')
  encoded = tuple(
    _part(config, part, tokenizer, tags, classes) for part in parts.values()
  )
  known = vocabulary.known_words(tokenizer)
  tested = [word.lower() for row in parts['test'].words for word in row]
  sizes = '{:,} training, {:,} validation, {:,} test'
  facts = {
    'sentences': sizes.format(*(len(part.words) for part in parts.values())),
    'words': sizes.format(*(sum(map(len, part.words)) for part in parts.values()))
    + f'; {np.mean([word not in known for word in tested]):.1%} of the test unknown',
    'tags': f'{len(tags)}' + (f', {len(classes)} classes' if classes else ''),
  }
  return Data(encoded, tokenizer, tags, classes, facts)


def _part(
  config: Config,
  part: Tagged,
  tokenizer: Tokenizer,
  tags: list[str],
  classes: list[str] | None,
) -> Sequences:
  number = {tag: i for i, tag in enumerate(tags)}
  x = with_start(tokenizer, part.words, config.length, classes is not None)
  y = [
    np.array([number[tag] for tag in row[: config.length]], np.int32)
    for row in part.tags
  ]
  longest = config.length + (classes is not None)
  if classes is None:
    # So the loss is the mean over all words, and not of the means of sentences.
    weight = np.array([len(row) for row in y], np.float32)
    return running.sequences(x, y, longest, weight / weight.mean())
  assert part.classes is not None  # for mypy: `encode` has looked
  firsts = (classes.index(name) for name in part.classes)
  y = [np.append(np.int32(i), row) for i, row in zip(firsts, y, strict=True)]
  return running.sequences(x, y, longest)


def with_start(
  tokenizer: Tokenizer, words: list[list[str]], length: int, starts: bool
) -> list[np.ndarray]:
  """Ids of the first `length` words of each row, and of the step before them if any."""
  ids = [row[:length] for row in vocabulary.encode(tokenizer, words)]
  first = np.int32(tokenizer.num_ids)
  return [np.append(first, row) for row in ids] if starts else ids


def _words_alone(y: Array) -> Array:
  """Labels [B, T] without that of the class, at the first step."""
  return y.at[:, 0].set(-1)


def joint_loss(output: tuple[Array, Array], y: Array) -> Array:
  """Tags' cross-entropy, the mean of a sentence, and that of its class: -> [B]."""
  tags, classes = output
  of_class = losses.softmax_xent(classes, y[:, 0])
  return losses.softmax_xent(tags, _words_alone(jnp.asarray(y))) + of_class


def joint_metrics(tags: list[str]) -> dict[str, metrics.Metric]:
  """Span F1, the share of classes that are right, and of whole sentences."""

  def of_tags(fn: Callable[..., Array]) -> Callable[..., Array]:
    return lambda output, y: fn(output[0], _words_alone(jnp.asarray(y)))

  def intent(output: tuple[Array, Array], y: Array) -> Array:
    return losses.accuracy(output[1], y[:, 0])

  f1 = spans.span_metrics(tags)['f1']
  exact = of_tags(losses.exact_match)
  return {
    'f1': f1._replace(parts={name: of_tags(fn) for name, fn in f1.parts.items()}),
    'intent': intent,
    'exact': lambda output, y: exact(output, y) * intent(output, y),
  }


class Of(running.Of):
  """The task of an experiment that reads its sentences in its own way."""

  encode = staticmethod(encode)
  sizes = staticmethod(sizes)

  def train(
    self, config: Config, data: Data, *, name: str, title: str, model: Any
  ) -> dict[str, Any]:
    """Trains a tagger; returns the result."""
    task = plan.Task(
      model,
      losses.softmax_xent,
      {'accuracy': metrics.label_accuracy},
      Monitor('accuracy', higher_is_better=True),
    )
    if data.classes is not None:
      monitor = Monitor('f1', higher_is_better=True)
      task = plan.Task(model, joint_loss, joint_metrics(data.tags), monitor)
    return running.train(
      config,
      task,
      running.feeds(config, *data.parts),
      name=name,
      title=title,
      tokenizer=data.tokenizer,
      labels={'tags': data.tags, 'classes': data.classes},
      facts=data.facts,
      real=self.real(config),
    )

  def predict(self, members: Members, request: Request) -> None:
    """Prints the tag of each word of a text, whose words spaces part."""
    texts = running.read_texts(request)
    tokenizer, labels = vocabulary.read(members.first.folder)
    config: Any = members.first.config
    starts = labels['classes'] is not None
    known = vocabulary.known_words(tokenizer)

    def to_source(texts: list[str]) -> Sequences:
      rows = [text.split() for text in texts]
      ids = with_start(tokenizer, rows, config.length, starts)
      y = np.zeros(len(texts), np.int32)
      return running.sequences(ids, y, config.length + starts)

    if request.held_out:
      outputs, y = members.held_out(members.load().parts[2])
      p = prediction.softmax(outputs[0][:, :, 1:] if starts else outputs)
      y = y[:, 1:] if starts else y
      prediction.say_confidence(p[:, y >= 0], y[y >= 0], 'words of test sentences')
    for given, output in running.answers(members, texts, to_source):
      words = given.split()
      each = prediction.softmax(output[0][:, 1:] if starts else output)  # [S, T, C]
      p = each.mean(0)[: len(words)]
      best = p.argmax(-1)
      best_tags = [labels['tags'][i] for i in best]
      answer: dict[str, Any] = {'tags': list(zip(words, best_tags, strict=False))}
      if starts:
        classes = prediction.softmax(output[1])  # [S, K]
        number = int(classes.mean(0).argmax())
        apart = prediction.spread(classes[:, number])
        answer = {'class': labels['classes'][number], **apart, **answer}
      sure, details = prediction.of_steps(each, words)
      answer |= {'sure': sure} if sure else {}
      answer |= {
        'unknown': [word for word in words if word.lower() not in known],
        'unread': max(len(words) - config.length, 0),
      }
      line = ' '.join(f'{word}/{tag}' for word, tag in answer['tags'])
      line = f'{answer["class"]}  {line}' if starts else line
      details += f', last {answer["unread"]} not read' if answer['unread'] else ''
      summary = f'  {len(answer["unknown"])} unknown{details}'
      running.say(answer, line + summary, request.json)
