"""Claim: a training step of a language model of characters takes less than PyTorch's.

python -m benchmarks.language_model [--quick]

B 64, T 128, V 65, an embedding of 64, an LSTM of 256 units, Adam; the state goes on
from step to step. Ours is the step that a run takes.
"""

import importlib.util
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

import seqjax as sj
from benchmarks import cli
from benchmarks.report import Row
from benchmarks.timing import Runner, Timing, interleave
from seqjax.cluster import mesh as mesh_lib
from seqjax.data.batches import Streams
from seqjax.training import losses, optim, steps
from seqjax.training.state import init_state
from seqjax.workdir.folder import num_cores

B, T, E, H, V = 64, 128, 64, 256, 65


def rows(options: cli.Options) -> Iterator[Row]:
  """The one workload."""
  title = f'language model B{B} T{T} E{E} H{H} V{V}, training'
  if options.only in title:
    timings = cli.in_new_process(_time, options.seconds)
    yield Row(title, timings, 1.0, flops=6 * B * T * ((E + H) * 4 * H + H * V))


def _time(seconds: float) -> list[Timing]:
  made = [_ours('auto'), _ours('reference'), _torch()]
  return interleave([runner for runner in made if runner], seconds=seconds)


def _feed() -> Streams:
  ids = np.random.default_rng(0).integers(0, V, 20 * B * T + 1)
  return Streams(ids, B, T)


def _ours(implementation: str) -> Runner:
  layer = sj.LSTM(
    H, return_sequences=True, return_carry=True, implementation=implementation
  )
  model = sj.LanguageModel(V, E, layer, return_carry=True)
  mesh = mesh_lib.make_mesh(1, B)
  tx = optim.make_optimizer('adam', 1e-3)
  batch = _feed().batch(1)
  box: list[Any] = [init_state(model, tx, jax.random.key(0), batch.x, carries=True)]
  box[0] = mesh_lib.replicate(box[0], mesh)
  placed, key = mesh_lib.put_batch(batch, mesh), jax.random.key(1)
  step = steps.make_train_step(model, losses.softmax_xent, {}, tx, mesh)

  def run() -> None:
    box[0], _ = jax.block_until_ready(step(box[0], placed, key))

  run()  # compiles
  return Runner(f'seqjax {implementation}', run)


def _torch() -> Runner | None:
  if not importlib.util.find_spec('torch'):
    return None
  import torch

  torch.manual_seed(0)
  torch.set_num_threads(num_cores())
  embedding, lstm = torch.nn.Embedding(V, E), torch.nn.LSTM(E, H, batch_first=True)
  head = torch.nn.Linear(H, V)
  params = [p for m in (embedding, lstm, head) for p in m.parameters()]
  optimizer = torch.optim.Adam(params, 1e-3)
  batch = _feed().batch(1)
  x, y = (torch.from_numpy(np.array(a)).long() for a in (batch.x, batch.y))
  box: list[Any] = [(torch.zeros(1, B, H), torch.zeros(1, B, H))]

  def run() -> None:
    optimizer.zero_grad()
    h, carry = lstm(embedding(x), box[0])
    loss = torch.nn.functional.cross_entropy(head(h).flatten(0, 1), y.flatten())
    loss.backward()
    optimizer.step()
    box[0] = tuple(a.detach() for a in carry)

  return Runner('torch.nn', run)


if __name__ == '__main__':
  cli.main('language_model', __doc__, rows)
