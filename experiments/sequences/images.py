"""The task of pixels: which digit an image shows, one pixel a step."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np

import seqjax as sj
from experiments import layer_flags, prediction
from experiments.prediction import Members, Request
from experiments.texts import running
from experiments.texts.classification import by_class
from seqjax import train as train_lib
from seqjax.config import field
from seqjax.data.digits import pixels
from seqjax.data.sources import Arrays
from seqjax.types import Examples, InputError, PyTree

INPUTS = ('dataset', 'permuted')  # what makes inputs of lines
ASKED = (*prediction.TEXTS, 'held_out')  # of predict's flags
_CLASSES = [str(digit) for digit in range(pixels.NUM_CLASSES)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(layer_flags.Recurrent):
  """What it can be told; see --help."""

  dataset: str = field('digits', 'Images.')
  permuted: bool = field(False, 'Read the pixels in an order drawn once for all.')
  batch_size: int = 64


class Data(NamedTuple):
  """The images of a run, their pixels in the order in which they are read."""

  parts: tuple[Examples, ...]  # training, validation, test
  facts: dict[str, str]


def load(config: Config) -> Data:
  """The images that the flags ask for."""
  parts = pixels.load(config.dataset, config.data_dir, config.cache_dir)
  T = parts.train.x.shape[1]
  order = pixels.order(T, permuted=config.permuted)
  sizes = '{:,} training, {:,} validation, {:,} test'
  facts = {
    'images': sizes.format(*(len(part.y) for part in parts)),
    'pixels': f'{T}, {"permuted" if config.permuted else "row by row"}',
  }
  return Data(tuple(Examples(part.x[:, order], part.y) for part in parts), facts)


def make_model(config: Config) -> sj.Stack:
  """x [B, T, 1] -> logits [B, C]."""
  glorot = nn.initializers.glorot_uniform()
  head = nn.Dense(pixels.NUM_CLASSES, kernel_init=glorot)
  return sj.Stack([layer_flags.last_encoder(config), head])


def train(
  config: Config, data: Data, *, name: str, title: str, model: Any
) -> dict[str, Any]:
  """Trains a classifier; draws which digits it takes for which."""

  def finish(
    params: PyTree, _: Mapping[str, Any], folder: pathlib.Path
  ) -> dict[str, Any]:
    test = Arrays(*data.parts[2])
    return by_class(config, model, params, test, _CLASSES, folder, title)

  return train_lib.run(
    config,
    running.classes(model),
    running.feeds(config, *data.parts),
    name=name,
    title=title + (', permuted' if config.permuted else ''),
    facts=data.facts,
    finish=finish,
  )


def predict(members: Members, request: Request) -> None:
  """Prints the digit that each line shows: its pixels, row by row."""
  lines = running.read_texts(request)
  config: Any = members.first.config
  highest, T = pixels.HIGHEST[config.dataset], 784 if config.dataset == 'mnist' else 64
  order = pixels.order(T, permuted=config.permuted)

  def to_source(lines: list[str]) -> Arrays:
    x = np.stack([values(line, T, highest) for line in lines])
    return running.arrays(x[:, order, None] / np.float32(highest))

  if request.held_out:
    logits, y = members.held_out(Arrays(*members.load().parts[2]))
    prediction.say_confidence(prediction.softmax(logits), y, 'test images')
  for given, logits in running.answers(members, lines, to_source):
    answer, line = prediction.of_class(logits, range(pixels.NUM_CLASSES), 'digit')
    answer['probabilities'] = list(answer['probabilities'].values())
    running.say(answer, f'{line}  {given[:40]}', request.json)


def values(line: str, num_pixels: int, highest: int) -> np.ndarray:
  """'0 12 16 ...' -> float32 [T]; commas part them as well.

  Raises:
    InputError: They are not as many, or one is no number from 0 to `highest`.
  """
  try:
    numbers = np.array(line.replace(',', ' ').split(), np.float32)
  except ValueError:
    numbers = np.zeros(0, np.float32)
  if len(numbers) != num_pixels or not ((numbers >= 0) & (numbers <= highest)).all():
    raise InputError(
      f'expected {num_pixels} numbers from 0 to {highest}, row by row, got {line!r:.60}'
    )
  return numbers
