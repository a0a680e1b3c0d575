"""The task of music: which of 88 keys sound in a frame, given the frames before it."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from experiments import layer_flags, prediction
from experiments.prediction import Members, Request
from experiments.suites import rows
from experiments.texts import running
from seqjax import train as train_lib
from seqjax.config import field
from seqjax.data.batches import InOrder
from seqjax.data.music import LOWEST_NOTE, NUM_KEYS, Roll, midi
from seqjax.data.music.rolls import Rolls
from seqjax.data.sources import Sequences
from seqjax.training import losses, metrics, plan
from seqjax.types import Array, InputError, PyTree
from seqjax.view import piano_roll
from seqjax.workdir.progress import Monitor

SAMPLE, PICTURE = 'sample.mid', 'rolls.png'
_BEGIN, _SAMPLE_FRAMES = 16, 128  # frames given, and added, of the sample


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(layer_flags.Recurrent):
  """What it can be told; see --help."""

  length: int = field(
    256, 'Frames of a piece in training, T: longer ones are cut.', at_least=2
  )
  frames_per_beat: int = field(
    1, 'Frames of a quarter note, for files of MIDI.', at_least=1, below=midi.TICKS + 1
  )
  batch_size: int = 16


class Data(NamedTuple):
  """The pieces of a run."""

  parts: tuple[Sequences, ...]  # training, validation, test
  rolls: Rolls
  facts: dict[str, str]


def make_model(config: Config) -> sj.Stack:
  """x [B, T, 88] -> logits [B, T, 88], of the frames one later."""
  return _model(config)


def _model(config: Config, *, return_carry: bool = False) -> sj.Stack:
  glorot = nn.initializers.glorot_uniform()
  return sj.Stack(
    [
      *layer_flags.recurrent(config, return_carry=return_carry),
      nn.Dropout(config.dropout),
      nn.Dense(NUM_KEYS, kernel_init=glorot),
    ]
  )


def examples(rolls: list[Roll], length: int | None = None) -> Sequences:
  """The frames but for the last, and those but for the first, of each piece.

  An example weighs as its frames, so that the loss is the mean over all of them.

  Args:
    rolls: bool [T, 88] each.
    length: Most frames of an example; longer pieces make several.
  """
  x, y = [], []
  for roll in rolls:
    frames = roll.astype(np.float32)
    step = length or len(frames)
    for start in range(0, len(frames) - 1, step):
      x.append(frames[start : start + step][: len(frames) - 1 - start])
      y.append(frames[start + 1 : start + 1 + step])
  weight = np.array([len(row) for row in x], np.float32)
  return Sequences(x, y, weight / weight.mean())


class Of(running.Of):
  """The task of an experiment that reads its pieces in its own way."""

  INPUTS: ClassVar[tuple[str, ...]] = ('frames_per_beat',)
  ASKED: ClassVar[tuple[str, ...]] = ('file',)  # of predict's flags

  @staticmethod
  def encode(config: Config, rolls: Rolls) -> Data:
    """Makes examples of pieces."""
    for name, part in rolls._asdict().items():
      if not part or min(map(len, part)) < 2:
        raise InputError(f'{name}: needs pieces of two frames at least')
    parts = (examples(rolls.train, config.length),
             examples(rolls.validation), examples(rolls.test))  # fmt: skip
    sizes = '{:,} training, {:,} validation, {:,} test'
    sounding = np.mean([frame.sum() for roll in rolls.train for frame in roll])
    facts = {
      'pieces': sizes.format(*map(len, rolls)),
      'frames': sizes.format(*(sum(map(len, part)) for part in rolls))
      + f'; {sounding:.1f} keys sound',
    }
    return Data(parts, rolls, facts)

  def train(
    self, config: Config, data: Data, *, name: str, title: str, model: Any
  ) -> dict[str, Any]:
    """Trains; leaves a sample as a MIDI file, and a picture of piano rolls."""
    number = rows.published(name, 'test_frame_nll') if self.real(config) else None

    def finish(
      params: PyTree, _: Mapping[str, Any], folder: pathlib.Path
    ) -> dict[str, Any]:
      given = data.rolls.test[0][: _BEGIN + _SAMPLE_FRAMES]
      logits = running.outputs(config, model, params, examples([given]))[0]
      made = compose(config, params, given[:_BEGIN], _SAMPLE_FRAMES, seed=0)
      sample = np.concatenate([given[:_BEGIN], made])
      midi.write(folder / SAMPLE, sample, frames_per_beat=config.frames_per_beat)
      expected = np.concatenate([given[:1], jax.nn.sigmoid(logits)])
      piano_roll.draw(
        {'A piece of the test set': given, 'How likely each key was': expected,
         f'Its first {_BEGIN} frames, and what the model makes of them': sample},
        folder / PICTURE, title=title, lowest_note=LOWEST_NOTE,
      )  # fmt: skip
      return {}

    return train_lib.run(
      config,
      plan.Task(
        model,
        losses.frame_xent,
        {'frame_nll': metrics.frame_nll},
        Monitor('frame_nll'),
      ),
      running.feeds(config, *data.parts),
      name=name,
      title=title,
      facts=data.facts,
      published={} if number is None else {'frame_nll': number},
      finish=finish,
    )

  def predict(self, members: Members, request: Request) -> None:
    """Prints how likely a piece is, a MIDI file, frame by frame.

    Raises:
      InputError: It is no MIDI file of two frames at least.
    """
    if request.file is None:
      raise InputError(f'a run of {members.first.experiment} needs --file=FILE.mid')
    config: Any = members.first.config
    path = pathlib.Path(request.file)
    roll = midi.read(path, frames_per_beat=config.frames_per_beat)
    if len(roll) < 2:
      raise InputError(f'--file={request.file}: needs two frames at least')
    logits = members.outputs(InOrder(examples([roll]), 1), 1)[:, 0]
    signed = np.where(roll[1:], logits, -logits)
    each = np.logaddexp(0, -signed).sum(-1)  # -log p, [S, T]
    nats, apart = each.mean(0), prediction.spread(each.mean(1))
    answer = {
      'frames': len(roll),
      'nats': float(nats.mean()),
      **apart,
      'nats_of_frames': nats.tolist(),
    }
    line = f'{nats.mean():.4f}{prediction.spread_line(apart)} nats a frame  '
    line += f'{len(roll)} frames, the least likely is {int(nats.argmax()) + 1}, '
    running.say(answer, f'{line}{nats.max():.2f} nats', request.json)


def compose(
  config: Config,
  params: PyTree,
  begin: Roll,
  num_frames: int,
  *,
  seed: int,
  temperature: float = 1.0,
) -> Roll:
  """What a model goes on with after the frames [P, 88]: bool [num_frames, 88].

  Each key is drawn by its probability, at temperature 0 it sounds where that is over a
  half.
  """
  key, model = jax.random.key(seed), _model(config, return_carry=True)
  frames = jnp.asarray(begin, jnp.float32)
  drawn = _compose(model, num_frames, temperature, params, frames, key)
  return np.asarray(drawn) > 0.5


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _compose(
  model: sj.Stack,
  num_frames: int,
  temperature: float,
  params: PyTree,
  begin: Array,
  key: Array,
) -> Array:
  def apply(x: Array, carry: Any) -> tuple[Any, Array]:
    """x [T, 88] -> (carry, logits [88] after the last)."""
    given = {'params': params}
    result: Any = model.apply(given, x[None], train=False, initial_carry=carry)
    return result[0], result[1][0, -1]

  def step(now: Any, key: Array) -> tuple[Any, Array]:
    carry, logits = now
    frame = logits > 0
    if temperature:
      frame = jax.random.bernoulli(key, jax.nn.sigmoid(logits / temperature))
    frame = frame.astype(jnp.float32)
    return apply(frame[None], carry), frame

  _, frames = jax.lax.scan(step, apply(begin, None), jax.random.split(key, num_frames))
  return frames
