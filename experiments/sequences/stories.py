"""The task of answers: a question about a short story, with attention or without."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from experiments import layer_flags, prediction
from experiments.prediction import Members, Request
from experiments.texts import running, vocabulary
from seqjax.config import field
from seqjax.data.sources import Sequences
from seqjax.data.texts import stories
from seqjax.data.texts.stories import Story
from seqjax.text import Tokenizer
from seqjax.types import Array, PyTree
from seqjax.view import attention, means

ATTENTION, PICTURE = 'attention.png', 'distances.png'
INPUTS = ('vocabulary.json', 'hops')  # what runs that answer together have in common
ASKED = (*prediction.TEXTS, 'held_out')  # of predict's flags
sizes = vocabulary.num_ids  # of a run
_DRAWN = 4  # stories whose attention is drawn
_SYNTHETIC = 600  # stories of --dataset=synthetic, for all parts
_HELD_OUT = 1_000  # of validation and of test


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(layer_flags.BothWays):
  """What it can be told; see --help."""

  dataset: Literal['generated', 'synthetic'] = field(
    'generated', 'Stories: generated, or few of them to try it.'
  )
  task: int = field(
    1, 'How many sentences an answer follows from: 1, 2 or 3.', at_least=1, below=4
  )
  num_stories: int = field(10_000, 'Stories to train on.', at_least=1)
  hops: int = field(
    3, 'How often it looks back at the story; 0: never, without attention.', at_least=0
  )
  batch_size: int = 32
  num_epochs: int = 20


class Reader(nn.Module):
  """Reads a story and its question, looks back at the story, and answers.

  What is known after the last word is the first query; with each look it takes in what
  was found. Without a look it answers by the state after the last word.

  Source: Bahdanau et al. 2015, arXiv:1409.0473, of how to look; Sukhbaatar et al. 2015,
  arXiv:1503.08895, of looking several times.

  Attributes:
    vocab_size: V, with the reserved ids.
    embed_size: E.
    encoder: (x [B, T, E], train=, mask=) -> [B, T, H].
    num_classes: C.
    hops: Looks.
    return_weights: Return (logits, weights [B, hops, T]).
  """

  vocab_size: int
  embed_size: int
  encoder: nn.Module
  num_classes: int
  hops: int = 1
  return_weights: bool = False

  @nn.compact
  def __call__(self, ids: Array, *, train: bool, mask: Array | None = None) -> Any:
    """int ids [B, T], mask bool [B, T] -> logits [B, C]."""
    (B, T), glorot = ids.shape, nn.initializers.glorot_uniform()
    mask = jnp.ones((B, T), bool) if mask is None else mask
    x = sj.Embedding(self.vocab_size, self.embed_size, name='embedding')(ids)
    encoder: Any = self.encoder
    h = encoder(x, train=train, mask=mask)  # [B, T, H]
    H = h.shape[-1]
    end = jnp.max(jnp.where(mask, jnp.arange(T)[None], 0), 1)  # [B]
    query = jnp.take_along_axis(h, end[:, None, None], 1)[:, 0]  # [B, H]
    weights = []
    if self.hops:
      keys = nn.Dense(H, kernel_init=glorot, name='keys')(h)
    for hop in range(self.hops):
      projected = nn.Dense(H, use_bias=False, kernel_init=glorot, name=f'query_{hop}')(
        query
      )
      scores = nn.Dense(1, use_bias=False, kernel_init=glorot, name=f'score_{hop}')(
        jnp.tanh(keys + jnp.broadcast_to(projected[:, None], keys.shape))
      )[..., 0]  # [B, T]
      weight = jax.nn.softmax(jnp.where(mask, scores, -jnp.inf))
      context = jnp.einsum('bt,bth->bh', weight, h)
      both = jnp.concatenate([query, context], -1)
      query = nn.tanh(nn.Dense(H, kernel_init=glorot, name=f'joined_{hop}')(both))
      weights.append(weight)
    logits = nn.Dense(self.num_classes, kernel_init=glorot, name='head')(query)
    if not self.return_weights:
      return logits
    return logits, jnp.stack(weights, 1) if weights else jnp.zeros((B, 0, T))


class Data(NamedTuple):
  """The stories of a run, and what made ids of them."""

  parts: tuple[Sequences, ...]  # training, validation, test
  test: list[Story]
  tokenizer: Tokenizer
  facts: dict[str, str]

  @property
  def sizes(self) -> tuple[int]:
    """What `make_model` needs beside the config."""
    return (self.tokenizer.num_ids,)


def load(config: Config) -> Data:
  """Draws stories, the same for all seeds; all words that they may hold have ids."""
  number, held_out = config.num_stories, _HELD_OUT
  if config.dataset == 'synthetic':
    number = held_out = _SYNTHETIC // 3
  seeds = (2, number), (0, held_out), (1, held_out)
  parts = [stories.stories(seed, n, config.task) for seed, n in seeds]
  tokenizer = vocabulary.fit([stories.words(config.task)], by='words')
  examples = tuple(
    _examples(tokenizer, [story.text for story in part], [s.answer for s in part])
    for part in parts
  )
  counts = '{:,} training, {:,} validation, {:,} test'
  training_texts = {story.text for story in parts[0]}
  known = np.mean([story.text in training_texts for story in parts[2]])
  facts = {
    'stories': counts.format(*map(len, parts))
    + f'; {known:.1%} of the test are among those of training',
    'sentences': f'{np.mean([len(s.sentences) for s in parts[0]]):.0f} a story; '
    f'{tokenizer.num_ids} ids',
    'answers': ', '.join(stories.PLACES),
  }
  return Data(examples, parts[2], tokenizer, facts)


def _examples(
  tokenizer: Tokenizer, texts: list[str], answers: list[str] | None = None
) -> Sequences:
  ids = vocabulary.encode(tokenizer, texts)
  y = np.zeros(len(ids), np.int32)
  if answers is not None:
    y = np.array([stories.PLACES.index(answer) for answer in answers], np.int32)
  T = 32 * -(-max(map(len, ids)) // 32)  # few lengths, so few programs
  return Sequences(ids, y, longest=T)


def make_model(config: Config, vocab_size: int) -> Reader:
  """ids [B, T] -> logits [B, C] of the places."""
  return Reader(
    vocab_size,
    config.embed_size,
    layer_flags.sequence_encoder(config),
    len(stories.PLACES),
    config.hops,
  )


def train(
  config: Config, data: Data, *, name: str, title: str, model: Reader
) -> dict[str, Any]:
  """Trains; draws accuracy over distance, and where it looks."""

  def finish(
    params: PyTree, _: Mapping[str, Any], folder: pathlib.Path
  ) -> dict[str, Any]:
    whole = model.clone(return_weights=True)
    logits, weights = running.outputs(config, whole, params, data.parts[2])
    answers = np.array([stories.PLACES.index(story.answer) for story in data.test])
    right = logits.argmax(-1) == answers
    far = np.array([len(story.sentences) - min(story.facts) for story in data.test])
    means.draw(
      far, right, folder / PICTURE, title=f'{title}: test set',
      xlabel='Sentences from the first fact to the question', ylabel='Share right',
      levels={'without reading': 1 / len(stories.PLACES)},
    )  # fmt: skip
    if not model.hops:
      return {}
    shares, drawn = [], []
    for i, story in enumerate(data.test):
      looks = by_sentence(data.tokenizer, weights[i], story.sentences)
      shares.append(looks[:, list(story.facts)].max(0).mean())
      if i < _DRAWN:
        rows = [f'look {n + 1}' for n in range(model.hops)]
        rows[-1] += f': {stories.PLACES[int(logits[i].argmax())]}'
        columns = [*story.sentences, f'{story.question}?']
        drawn.append(attention.Looks(columns, rows, looks))
    attention.draw(drawn, folder / ATTENTION, title=f'{title}: test set')
    # Of the largest share that a look gives to a fact, the mean over facts.
    return {'test_attention_on_facts': float(np.mean(shares))}

  return running.train(
    config,
    running.classes(model),
    running.feeds(config, *data.parts),
    name=name,
    title=title,
    tokenizer=data.tokenizer,
    facts=data.facts,
    real=config.dataset == 'generated',
    finish=finish,
  )


def sentences_of(tokenizer: Tokenizer, text: str) -> list[str]:
  """The sentences of a text that hold a word, the question as the last one."""
  pieces = re.split(r'[.?!]', text)
  return [piece for piece in pieces if vocabulary.words_of(tokenizer, piece)]


def by_sentence(
  tokenizer: Tokenizer, weights: np.ndarray, sentences: list[str]
) -> np.ndarray:
  """Weights of words [hops, T] -> [hops, S + 1] of sentences and of the question."""
  sizes = [len(vocabulary.words_of(tokenizer, sentence)) for sentence in sentences]
  return np.add.reduceat(weights, [0, *np.cumsum(sizes)], axis=1)


def predict(members: Members, request: Request) -> None:
  """Prints the answer to the question at the end of each text, and where it looked."""
  texts = running.read_texts(request)
  tokenizer, _ = vocabulary.read(members.first.folder)
  known = vocabulary.known_words(tokenizer)
  if request.held_out:
    told = members.load().test
    source = _examples(tokenizer, [s.text for s in told], [s.answer for s in told])
    logits, y = members.held_out(source)
    prediction.say_confidence(prediction.softmax(logits), y, 'test stories')
  members.runs = [
    run._replace(model=run.model.clone(return_weights=True)) for run in members.runs
  ]

  def to_source(texts: list[str]) -> Sequences:
    return _examples(tokenizer, texts)

  for given, (logits, weights) in running.answers(members, texts, to_source):
    answer, line = prediction.of_class(logits, stories.PLACES, 'answer')
    answer |= vocabulary.word_facts(vocabulary.words_of(tokenizer, given), known, 0)
    line += f'  {vocabulary.words_line(answer)}'
    sentences = sentences_of(tokenizer, given)
    if weights.shape[1] and len(sentences) > 1:
      shares = by_sentence(tokenizer, weights.mean(0), sentences[:-1])
      looked = [sentences[int(i)].strip() for i in shares[:, :-1].argmax(1)]
      answer['looked_at'] = looked
      line += '; looked at: ' + ' | '.join(dict.fromkeys(looked))
    running.say(answer, line, request.json)
