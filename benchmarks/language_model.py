"""Claim: a training step with a token at each step of time takes less than PyTorch's.

python -m benchmarks.language_model [--quick]

A language model of characters, B 64, T 128, V 65, an embedding of 64, an LSTM of 256
units; and copying over 1,000 steps, as the experiment copy_memory has it: B 32, T 1020,
V 10, an embedding of 8, a GRU or LSTM of 64 units. Adam; the state goes on from step to
step, but not with Keras. Ours is the step that a run takes.
"""

import importlib.util
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

import seqjax as sj
from benchmarks import cli
from benchmarks.jax_runner import step_runner
from benchmarks.ours import LAYERS
from benchmarks.peers import keras_step, torch_layer
from benchmarks.report import Row
from benchmarks.timing import Runner, Timing, interleave, sgemm
from benchmarks.workload import GATES
from seqjax.cluster import mesh as mesh_lib
from seqjax.data.batches import Streams
from seqjax.training import losses, optim, steps
from seqjax.training.state import init_state
from seqjax.workdir.folder import num_cores


class Sizes(NamedTuple):
  """A model of tokens, a training step of it, and the ratio it should reach."""

  title: str
  cell: str
  B: int
  T: int
  E: int
  H: int
  V: int
  target: float | None = None

  @property
  def flops(self) -> float:
    """Of the products: forward, and twice as many on the way back."""
    G = GATES[self.cell] * self.H
    return 6 * self.B * self.T * ((self.E + self.H) * G + self.H * self.V)


WORKLOADS = (
  Sizes('language model', 'lstm', 64, 128, 64, 256, 65, 1.0),
  Sizes('copying', 'gru', 32, 1020, 8, 64, 10),
  Sizes('copying', 'lstm', 32, 1020, 8, 64, 10),
)


def rows(options: cli.Options) -> Iterator[Row]:
  """A row for each workload."""
  for sizes in WORKLOADS:
    B, T, E, H, V = sizes[2:7]
    title = f'{sizes.title}, {sizes.cell} B{B} T{T} E{E} H{H} V{V}, training'
    if options.only in title:
      timings = cli.in_new_process(_time, sizes, options.seconds)
      yield Row(title, timings, sizes.target, flops=sizes.flops)


def _time(sizes: Sizes, seconds: float) -> list[Timing]:
  ours = [_ours(sizes, 'auto'), _ours(sizes, 'reference'), sgemm()]
  peers = [_keras(sizes), _torch(sizes)]
  return interleave([*ours, *filter(None, peers)], seconds=seconds)


def _feed(sizes: Sizes) -> Streams:
  B, T = sizes.B, sizes.T
  ids = np.random.default_rng(0).integers(0, sizes.V, 20 * B * T + 1)
  return Streams(ids, B, T)


def _ours(sizes: Sizes, implementation: str) -> Runner:
  layer = LAYERS[sizes.cell](
    sizes.H, return_sequences=True, return_carry=True, implementation=implementation
  )
  model = sj.LanguageModel(sizes.V, sizes.E, layer, return_carry=True)
  mesh = mesh_lib.make_mesh(1, sizes.B)
  tx = optim.make_optimizer('adam', 1e-3)
  batch = _feed(sizes).batch(1)
  box: list[Any] = [init_state(model, tx, jax.random.key(0), batch.x, carries=True)]
  box[0] = mesh_lib.replicate(box[0], mesh)
  placed, key = mesh_lib.put_batch(batch, mesh), jax.random.key(1)
  step = steps.make_train_step(model, losses.softmax_xent, {}, tx, mesh)

  def run() -> None:
    box[0], _ = jax.block_until_ready(step(box[0], placed, key))

  run()  # compiles
  return Runner(f'seqjax {implementation}', run)


def _keras(sizes: Sizes) -> Runner | None:
  if not importlib.util.find_spec('keras'):
    return None
  os.environ['KERAS_BACKEND'] = 'jax'
  import keras

  layer = getattr(keras.layers, LAYERS[sizes.cell].__name__)
  model = keras.Sequential(
    [
      keras.layers.Embedding(sizes.V, sizes.E),
      layer(sizes.H, return_sequences=True),
      keras.layers.Dense(sizes.V),
    ]
  )
  batch = _feed(sizes).batch(1)
  x, y = np.asarray(batch.x), np.asarray(batch.y)
  model.build(x.shape)
  optimizer = keras.optimizers.Adam(1e-3)
  step, state = keras_step(model, optimizer, losses.softmax_xent)
  return step_runner('Keras (JAX)', step, state, [(x, y)], trains=True)


def _torch(sizes: Sizes) -> Runner | None:
  if not importlib.util.find_spec('torch'):
    return None
  import torch

  torch.manual_seed(0)
  torch.set_num_threads(num_cores())
  embedding = torch.nn.Embedding(sizes.V, sizes.E)
  recurrent = torch_layer(sizes.cell)(sizes.E, sizes.H, batch_first=True)
  head = torch.nn.Linear(sizes.H, sizes.V)
  params = [p for m in (embedding, recurrent, head) for p in m.parameters()]
  optimizer = torch.optim.Adam(params, 1e-3)
  batch = _feed(sizes).batch(1)
  x, y = (torch.from_numpy(np.array(a)).long() for a in (batch.x, batch.y))
  box: list[Any] = [None]

  def run() -> None:
    optimizer.zero_grad()
    h, carry = recurrent(embedding(x), box[0])
    loss = torch.nn.functional.cross_entropy(head(h).flatten(0, 1), y.flatten())
    loss.backward()
    optimizer.step()
    carry = carry if isinstance(carry, tuple) else (carry,)
    found = tuple(a.detach() for a in carry)
    box[0] = found if len(found) > 1 else found[0]

  return Runner('torch.nn', run)


if __name__ == '__main__':
  cli.main('language_model', __doc__, rows)
