"""The tasks of the experiments on long memory: adding and copying.

Training draws new sequences at each step; validation and test are 1,000 each, the same
for all seeds.
"""

import dataclasses
import math
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

import seqjax as sj
from experiments import layer_flags, prediction
from experiments.prediction import Members, Request
from experiments.texts import running
from seqjax import train as train_lib
from seqjax.config import field
from seqjax.data import memory
from seqjax.data.batches import Drawn, InOrder
from seqjax.data.sources import Arrays, Sequences
from seqjax.layers.initializers import chrono
from seqjax.training import losses, plan
from seqjax.types import Array, Examples, InputError, PyTree
from seqjax.view import means

PICTURE = 'distances.png'
_HELD_OUT = 1_000  # examples of validation and of test
_SHORT = 20  # steps, at most, of --dataset=synthetic
_MARKED = re.compile(r'(\S+?)(\*?)')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(layer_flags.Recurrent):
  """What they can be told; see --help."""

  dataset: Literal['generated', 'synthetic'] = field(
    'generated', 'generated: as long as --length says; synthetic: of 20 steps at most.'
  )
  length: int = field(600, 'Steps to remember over.', at_least=2)
  steps_per_epoch: int = field(500, 'Steps between two validations.', at_least=1)
  clip_global_norm: float | None = 1.0
  batch_size: int = 32
  longest_memory: int | None = field(
    None, 'Draw the biases of the gates so that units remember up to so many steps.',
    at_least=2,
  )  # fmt: skip

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.longest_memory is not None and self.layer == 'simple_rnn':
      raise InputError('`longest_memory` needs gates, and `layer=simple_rnn` has none')

  @property
  def span(self) -> int:
    """The steps that are meant."""
    return self.length if self.dataset == 'generated' else min(self.length, _SHORT)


class Data(NamedTuple):
  """What is drawn, and what is held out."""

  draw: Callable[[np.random.RandomState, int], Examples]
  validation: Examples
  test: Examples


def _load(draw: Callable[[np.random.RandomState, int], Examples]) -> Data:
  # Keys of one number: those of training have two.
  return Data(draw, *(draw(np.random.RandomState([k]), _HELD_OUT) for k in (0, 1)))


def _train(
  config: Config,
  task: plan.Task,
  data: Data,
  *,
  name: str,
  title: str,
  chance: float,
  finish: Callable[[PyTree, pathlib.Path], Mapping[str, Any]],
) -> dict[str, Any]:
  """A run; `chance` is the loss without memory, `finish` as for `train.run`."""
  return train_lib.run(
    config,
    task,
    plan.Data(
      Drawn(data.draw, config.batch_size, config.seed, config.steps_per_epoch),
      *(InOrder(part, config.batch_size) for part in (data.validation, data.test)),
    ),
    name=name,
    title=f'{title}, {config.span} steps',
    facts={
      'sequences': f'new at each step; {_HELD_OUT:,} validation, {_HELD_OUT:,} test',
      'loss without memory': f'{chance:.4f}',
    },
    finish=lambda params, _, folder: {'chance_loss': chance, **finish(params, folder)},
  )


class Adding:
  """The sum of two marked numbers."""

  INPUTS: ClassVar = ()  # numbers, as many as there are
  ASKED: ClassVar = prediction.TEXTS

  def load(self, config: Config) -> Data:
    """What is drawn."""
    return _load(lambda rng, number: memory.adding(rng, number, config.span))

  def train(
    self, config: Config, data: Data, *, name: str, title: str, model: Any
  ) -> dict[str, Any]:
    """Trains; draws the error over how long the first number is to be kept."""

    def finish(params: PyTree, folder: pathlib.Path) -> dict[str, Any]:
      sums = running.outputs(config, model, params, Arrays(*data.test))
      error = np.square(sums - data.test.y)
      kept = config.span - data.test.x[..., 1].argmax(1)
      means.draw(
        kept, error, folder / PICTURE, title=f'{title}: test set',
        xlabel='Steps from the first marked number to the end',
        ylabel='Squared error', levels={'without memory': 1 / 6},
      )  # fmt: skip
      right = float(np.mean(np.abs(sums - data.test.y) < 0.04))
      return {'test_right': right}

    return _train(
      config,
      plan.Task(model, losses.squared_error, {'mae': losses.absolute_error}),
      data,
      name=name,
      title=title,
      chance=1 / 6,
      finish=finish,
    )

  def predict(self, members: Members, request: Request) -> None:
    """Prints the sum of the marked numbers of each line, as found and as it is."""

    def to_source(texts: list[str]) -> Sequences:
      x = [_numbers(line) for line in texts]
      T = 64 * -(-max(map(len, x)) // 64)  # few lengths, so few programs
      return Sequences(x, np.zeros(len(x), np.float32), longest=T)

    texts = running.read_texts(request)
    for given, sums in running.answers(members, texts, to_source):
      values, marks = _numbers(given).T
      answer = {
        'sum': float(sums.mean()),
        **(apart := prediction.spread(sums)),
        'true': float(values @ marks),
        'steps': len(values),
      }
      line = f'{answer["sum"]:.4f}{prediction.spread_line(apart)}  truly '
      line += f'{answer["true"]:.4f}, {len(values)} steps'
      running.say(answer, line, request.json)


def _numbers(line: str) -> np.ndarray:
  """'0.5* 0.25 0.125*' -> float32 [T, 2].

  Raises:
    InputError: It is no such line.
  """
  steps = [_MARKED.fullmatch(word) for word in line.split()]
  try:
    x = np.array([[float(s[1]), s[2] == '*'] for s in steps if s], np.float32)
  except ValueError:
    x = np.zeros((0, 2), np.float32)
  if len(x) < 2 or not np.isfinite(x).all() or x[:, 1].sum() != 2:
    raise InputError(
      f'expected numbers with spaces between them, two of them marked as in 0.5*, got '
      f'{line!r:.60}'
    )
  return x


class Copying:
  """Ten symbols, said again after a long wait."""

  INPUTS: ClassVar = ('length', 'dataset')
  ASKED: ClassVar = prediction.TEXTS

  def load(self, config: Config) -> Data:
    """What is drawn."""
    return _load(lambda rng, number: memory.copying(rng, number, config.span))

  def train(
    self, config: Config, data: Data, *, name: str, title: str, model: Any
  ) -> dict[str, Any]:
    """Trains; draws the share of right symbols over their places."""
    n = memory.NUM_COPIED

    def recall(logits: Array, y: Array) -> Array:
      return losses.accuracy(logits[:, -n:], y[:, -n:])

    def finish(params: PyTree, folder: pathlib.Path) -> dict[str, Any]:
      logits = running.outputs(config, model, params, Arrays(*data.test))
      right = logits[:, -n:].argmax(-1) == data.test.y[:, -n:]
      position = np.broadcast_to(np.arange(1, n + 1), right.shape)
      means.draw(
        position.reshape(-1), right.reshape(-1), folder / PICTURE,
        title=f'{title}: test set', xlabel='Which of the symbols',
        ylabel='Share recalled', levels={'without memory': 1 / memory.NUM_SYMBOLS},
      )  # fmt: skip
      return {}

    return _train(
      config,
      plan.Task(model, losses.softmax_xent, {'recall': recall}),
      data,
      name=name,
      title=title,
      chance=n * math.log(memory.NUM_SYMBOLS) / (config.span + 2 * n),
      finish=finish,
    )

  def predict(self, members: Members, request: Request) -> None:
    """Prints what is recalled of the ten symbols of each line."""
    n, config = memory.NUM_COPIED, members.first.config
    assert isinstance(config, Config)  # for mypy: the task of the run is this one

    def to_source(texts: list[str]) -> Any:
      x = np.full((len(texts), config.span + 2 * n), memory.BLANK, np.int32)
      x[:, :n] = [_symbols(line) for line in texts]
      x[:, -n - 1 :] = memory.CALL
      return running.arrays(x)

    texts = running.read_texts(request)
    for given, logits in running.answers(members, texts, to_source):
      expected = _symbols(given)
      each = prediction.softmax(logits[:, -n:])  # [S, n, C]
      p = each.mean(0)
      recalled = p.argmax(-1).tolist()
      right = sum(a == b for a, b in zip(recalled, expected, strict=True))
      answer = {
        'recalled': recalled,
        'probabilities': p.max(-1).tolist(),
        'right': right,
      }
      sure, details = prediction.of_steps(each, recalled)
      answer |= {'sure': sure} if sure else {}
      line = f'{" ".join(map(str, recalled))}  {right} of {n} right{details}'
      running.say(answer, line, request.json)


def _symbols(line: str) -> list[int]:
  """'1 2 3 4 5 6 7 8 1 2' -> its numbers.

  Raises:
    InputError: It is no such line.
  """
  known = {str(i) for i in range(1, memory.NUM_SYMBOLS + 1)}
  words = line.split()
  if len(words) != memory.NUM_COPIED or not known.issuperset(words):
    raise InputError(
      f'expected {memory.NUM_COPIED} numbers from 1 to {memory.NUM_SYMBOLS} with '
      f'spaces between them, got {line!r:.60}'
    )
  return [int(word) for word in words]


def make_adder(config: Config) -> sj.SequenceRegressor:
  """x [B, T, 2] -> sums [B]."""
  return sj.SequenceRegressor(_remembering(config, layer_flags.last_encoder(config)))


def make_copier(config: Config, embed_size: int) -> sj.SequenceTagger:
  """ids [B, T] -> logits [B, T, C]."""
  C = memory.NUM_SYMBOLS + 2
  encoder = _remembering(config, layer_flags.sequence_encoder(config))
  return sj.SequenceTagger(C, embed_size, encoder, num_tags=C)


def _remembering(config: Config, encoder: Any) -> Any:
  """The encoder, its gates with the biases that `longest_memory` asks for."""
  if config.longest_memory is None:
    return encoder
  if isinstance(encoder, sj.Stack):
    return sj.Stack([_remembering(config, layer) for layer in encoder.layers])
  num_gates = encoder.cell().num_gates
  options = {'unit_forget_bias': False} if num_gates == 4 else {}
  return encoder.clone(bias_init=chrono(config.longest_memory, num_gates), **options)
