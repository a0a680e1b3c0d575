"""The task of the experiments that learn to write: language models of one long text."""

import dataclasses
import math
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from experiments import experiment, layer_flags, prediction
from experiments.prediction import TEXTS, Members, Request
from experiments.texts import running, vocabulary
from seqjax import generation
from seqjax.config import field
from seqjax.data.batches import Streams
from seqjax.data.sources import Sequences
from seqjax.files import whole
from seqjax.text import Tokenizer
from seqjax.training import losses, metrics, plan
from seqjax.types import InputError, PyTree
from seqjax.workdir.progress import Monitor

SAMPLE = 'sample.txt'
_SAMPLE_TOKENS = 400
# A word with the space before it, a sign likewise, or white space: joined by nothing
# they are the text again.
_TOKEN = re.compile(r" ?\w+(?:'\w+)?| ?[^\w\s]|\s")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(layer_flags.Config):
  """What they can be told; see --help."""

  tokens: Literal['characters', 'words'] = field(
    'characters', 'What is read and written at each step.'
  )
  min_count: int = field(
    1, 'Tokens that occur less often are unknown; with words 2 at least is meant.',
    at_least=1,
  )  # fmt: skip
  length: int = field(
    128, 'Tokens of a step, T: gradients go no further back, the state goes on.',
    at_least=1,
  )  # fmt: skip
  tied: bool = field(False, 'The embedding is the matrix of the logits; needs H = E.')
  validation_split: float = field(
    0.1, 'Share of the text held out, its end.', above=0, below=1
  )
  batch_size: int = field(64, 'Places of the text read at once.', at_least=1)

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.tied and self.features != self.embed_size:
      raise InputError(
        f'`tied` needs `features={self.features}` and `embed_size={self.embed_size}` '
        'to be the same'
      )


class Data(NamedTuple):
  """The text of a run as ids, and what made them."""

  train: np.ndarray  # int32 [n]
  validation: np.ndarray
  tokenizer: Tokenizer
  facts: dict[str, str]

  @property
  def sizes(self) -> tuple[int]:
    """What `make_model` needs beside the config."""
    return (self.tokenizer.num_ids,)


def make_model(config: Config, vocab_size: int) -> sj.LanguageModel:
  """ids [B, T] -> (carry, logits [B, T, V])."""
  return sj.LanguageModel(
    vocab_size,
    config.embed_size,
    layer_flags.sequence_encoder(config, return_carry=True),
    tied=config.tied,
    return_carry=True,
  )


def tokens_of(config: Config, text: str) -> str | list[str]:
  """The characters of a text, or its words with the spaces before them."""
  return text if config.tokens == 'characters' else _TOKEN.findall(text)


def encode(config: Config, text: str) -> Data:
  """Makes ids of a text, by the tokens of its training part.

  Raises:
    InputError: A part is too short.
  """
  tokens = tokens_of(config, text)
  cut = int(len(tokens) * (1 - config.validation_split))
  train, held_out = tokens[:cut], tokens[cut:]
  if min(len(train), len(held_out)) <= config.batch_size:
    raise InputError(
      f'a text of {len(tokens):,} {config.tokens} is too short for '
      f'`batch_size={config.batch_size}` and `validation_split`'
    )
  # Each token stands for itself: a list of characters is not split again.
  tokenizer = Tokenizer(
    oov_token=vocabulary.OOV, lower=False, char_level=config.tokens == 'characters'
  ).fit([train])
  vocabulary.drop_rare(tokenizer, config.min_count)
  ids = [np.array(row, np.int32) for row in tokenizer.encode([train, held_out])]
  facts = {
    str(config.tokens): f'{len(train):,} training, {len(held_out):,} validation; '
    f'{tokenizer.num_ids:,} ids; {np.mean(ids[1] == 1):.2%} of validation unknown'
  }
  return Data(ids[0], ids[1], tokenizer, facts)


class Of(running.Of):
  """The task of an experiment that reads its text in its own way."""

  encode = staticmethod(encode)
  ASKED = TEXTS
  sizes = staticmethod(vocabulary.num_ids)

  def train(
    self, config: Config, data: Data, *, name: str, title: str, model: Any
  ) -> dict[str, Any]:
    """Trains a language model, lets it write a sample; returns the result."""
    names = {'characters': 'bits_per_character', 'words': 'perplexity'}
    metric = names[config.tokens]

    def finish(
      params: PyTree, result: Mapping[str, Any], folder: pathlib.Path
    ) -> dict[str, Any]:
      first = tokens_of(config, '\n')
      sample = ''.join(
        write(
          model, params, data.tokenizer, first, num_tokens=_SAMPLE_TOKENS, seed=0,
          temperature=0.8,
        )
      )  # fmt: skip
      print(f'A sample, at temperature 0.8:\n{sample}\n')
      whole.write(folder / SAMPLE, sample.encode())
      return {}

    return running.train(
      config,
      plan.Task(
        model, losses.softmax_xent, {metric: metrics.NAMED[metric]}, Monitor('loss')
      ),
      plan.Data(
        Streams(data.train, config.batch_size, config.length),
        Streams(data.validation, config.batch_size, config.length),
      ),
      name=name,
      title=title,
      tokenizer=data.tokenizer,
      facts=data.facts,
      real=self.real(config),
      finish=finish,
    )

  def predict(self, members: Members, request: Request) -> None:
    """Prints how likely each text is after the beginning of a line."""
    texts = running.read_texts(request)
    tokenizer, _ = vocabulary.read(members.first.folder)
    config: Any = members.first.config
    first = list(tokens_of(config, '\n'))

    def ids_of(texts: list[str]) -> list[np.ndarray]:
      rows = [[*first, *tokens_of(config, line)] for line in texts]
      return [np.array(row, np.int32) for row in tokenizer.encode(rows)]

    def to_source(texts: list[str]) -> Sequences:
      ids = ids_of(texts)
      T = 64 * -(-max(map(len, ids)) // 64)  # few lengths, so few programs
      return Sequences(ids, np.zeros(len(ids), np.int32), longest=T)

    for given, (_, logits) in running.answers(members, texts, to_source):
      (ids,) = ids_of([given])
      y = ids[1:]
      each = np.zeros(members.size)
      if len(y):
        of_members = logits[:, : len(y)]  # [S, T, V]
        nll = losses.softmax_xent(of_members, jnp.broadcast_to(y, of_members.shape[:2]))
        each = np.asarray(nll, np.float64).reshape(members.size, -1).mean(-1)
      nats, apart = float(each.mean()), prediction.spread(each)
      answer = {
        'tokens': len(y),
        'unknown': int((y == 1).sum()),
        'nats': nats,
        **apart,
        'perplexity': math.exp(min(nats, 700.0)),
      }
      line = f'{nats:.4f}{prediction.spread_line(apart)} nats, '
      line += f'perplexity {answer["perplexity"]:.2f}  '
      line += f'{len(y)} {config.tokens}, {answer["unknown"]} unknown  {given[:60]}'
      running.say(answer, line, request.json)


def write(
  model: Any,
  params: PyTree,
  tokenizer: Tokenizer,
  prompt: str | list[str],
  *,
  num_tokens: int,
  seed: int,
  chunk: int = 100,
  **sampling: Any,
) -> Iterator[str]:
  """Yields the text that goes on from a prompt, some tokens at a time.

  Args:
    model: A language model.
    params: Its parameters.
    tokenizer: Of its ids.
    prompt: Tokens, one at least.
    num_tokens: How many to write.
    seed: Of the draws.
    chunk: Tokens at a time.
    **sampling: As of `generation.generate`.
  """
  ids = np.array(tokenizer.encode([prompt]), np.int32)
  text = generation.start(model, params, ids, jax.random.key(seed))
  for begun in range(0, num_tokens, chunk):
    text, tokens = generation.generate(
      model, params, text, chunk, never=(0, 1), **sampling
    )
    kept = np.asarray(tokens)[0, : num_tokens - begun].tolist()
    yield vocabulary.spelled(tokenizer, kept)


def open_writer(trained: experiment.Run) -> tuple[Any, PyTree, Tokenizer]:
  """Model, parameters and tokenizer of a run.

  Raises:
    InputError: It is no run of these experiments.
  """
  if not isinstance(trained.task, Of):
    raise InputError(
      f'--workdir={trained.folder} is a run of {trained.experiment}, which cannot write'
    )
  tokenizer, _ = vocabulary.read(trained.folder)
  params = experiment.best_params(trained, np.zeros((1, 1), np.int32))
  return trained.model, params, tokenizer
