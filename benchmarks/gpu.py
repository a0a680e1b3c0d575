"""Claim: on a GPU the whole sequence in one kernel beats cuDNN, with every feature.

python -m benchmarks.gpu [--seconds=SECONDS] [--only=TEXT] [--quick]

Needs jax, flax, numpy and this repository; PyTorch and jax.experimental.rnn are timed
where they are there. With --quick tiny sizes on whatever device there is: a rehearsal.
"""

import dataclasses
import importlib.util
import sys
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import cli
from benchmarks.ours import LAYERS, seqjax_runner
from benchmarks.peers import FLAX_CELLS, torch_layer, torch_runner
from benchmarks.report import Row
from benchmarks.timing import Runner, interleave
from benchmarks.workload import Workload

CALLS = 10  # of a run, so that what one costs the host does not count


@dataclasses.dataclass(frozen=True)
class Work:
  """A layer on given inputs [B, T, D = H], all outputs wanted."""

  cell: str
  B: int
  T: int
  H: int
  training: bool = True  # forward and backward, or forward alone
  resets: bool = False
  mask: bool = False
  dropout: float = 0.0
  models: int = 1

  @property
  def title(self) -> str:
    parts = [f'{self.cell} B{self.B} T{self.T} H{self.H}']
    parts += [name for name in ('resets', 'mask') if getattr(self, name)]
    parts += [f'dropout {self.dropout} + {self.dropout}'] if self.dropout else []
    parts += [f'{self.models} models'] if self.models > 1 else []
    return ', '.join([*parts, 'forward + backward' if self.training else 'forward'])

  @property
  def is_plain(self) -> bool:
    """Whether it is one model without any option."""
    return not (self.dropout or self.mask or self.resets or self.models > 1)


def _work() -> list[tuple[Work, float | None]]:
  cells = ('lstm', 'gru', 'simple_rnn')
  found: list[tuple[Work, float | None]] = []
  for H, targets in (
    (32, (0.35, 0.25, 0.45)), (64, (0.45, 0.35, 0.55)), (128, (0.6, 0.6, 1.0)),
  ):  # fmt: skip
    for cell, target, forward in zip(cells, targets, (0.8, 0.8, 1.0), strict=True):
      found.append((Work(cell, 128, 500, H), target))
      found.append((Work(cell, 128, 500, H, training=False), forward))
  found += [(Work(cell, 1024, 128, 128, resets=True), 1.0) for cell in cells[:2]]
  found += [(Work(c, 64, 250, H), 1.15) for H in (256, 512, 1024) for c in cells[:2]]
  usual = Work('lstm', 128, 500, 32)
  for change in (
    {'dropout': 0.2}, {'mask': True}, {'models': 16}, {'T': 1000}, {'T': 4000},
  ):  # fmt: skip
    found.append((dataclasses.replace(usual, **change), None))  # type: ignore[arg-type]
  return found


def rows(options: cli.Options) -> Iterator[Row]:
  """All that are asked for, peers by turns."""
  chapter = Workload('lstm', embedding=True)
  if options.quick:
    chapter = dataclasses.replace(chapter, B=4, T=12)
  if options.only in chapter.title:
    device = 'cuda' if jax.default_backend() == 'gpu' else 'cpu'
    steps = [seqjax_runner(chapter), seqjax_runner(chapter, 'reference')]
    if peer := torch_runner(chapter, device):
      steps.append(peer)
    for runner in steps:
      runner.run()
    timings = interleave(steps, seconds=options.seconds)
    yield Row(f'a whole step, {chapter.title}', timings, 0.2)
  for work, target in _work():
    if options.only not in work.title:
      continue
    if options.quick:
      work = dataclasses.replace(work, B=4, T=12, H=min(work.H, 32))
      work = dataclasses.replace(work, models=min(work.models, 2))
    runners = [_ours(work, 'auto'), _ours(work, 'reference')]
    runners += [r for peer in (_torch, _flax, _jax_rnn) if (r := peer(work))]
    for runner in runners:
      runner.run()
    yield Row(work.title, interleave(runners, seconds=options.seconds), target)


def _inputs(work: Work) -> np.ndarray:
  return np.random.default_rng(0).standard_normal((work.B, work.T, work.H), np.float32)


def _runner(name: str, step: Callable[..., Any], *arguments: Any) -> Runner:
  step = jax.jit(step)
  arguments = jax.device_put(arguments)

  def run() -> None:
    for _ in range(CALLS):
      found = step(*arguments)
    jax.block_until_ready(found)

  return Runner(name, run)


def _step(work: Work, apply: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
  if not work.training:
    return apply
  return jax.grad(lambda params, x: apply(params, x).sum(), (0, 1))


def _ours(work: Work, implementation: str) -> Runner:
  layer = LAYERS[work.cell](
    work.H,
    return_sequences=True,
    dropout=work.dropout,
    recurrent_dropout=work.dropout,
    implementation=implementation,
  )
  x, rng = _inputs(work), np.random.default_rng(1)
  params = layer.init(jax.random.key(0), x, train=False)
  flags: dict[str, Any] = {}
  if work.resets:
    flags['reset'] = rng.random((work.B, work.T)) < 0.05
  if work.mask:
    flags['mask'] = rng.random((work.B, work.T)) < 0.8
  rngs = {'dropout': jax.random.key(1)} if work.dropout else None

  def apply(params: Any, x: Any) -> Any:
    return layer.apply(params, x, train=bool(work.dropout), rngs=rngs, **flags)

  step = _step(work, apply)
  if work.models > 1:
    step = jax.vmap(step)
    params, x = jax.tree.map(lambda a: np.stack([a] * work.models), (params, x))
  return _runner(f'seqjax {implementation}', step, params, x)


def _flax(work: Work) -> Runner | None:
  if not work.is_plain:
    return None
  layer, x = nn.RNN(FLAX_CELLS[work.cell](work.H)), _inputs(work)
  params = layer.init(jax.random.key(0), x)
  return _runner('flax.linen.RNN', _step(work, layer.apply), params, x)


def _jax_rnn(work: Work) -> Runner | None:
  """cuDNN from JAX: an LSTM, on a GPU."""
  if work.cell != 'lstm' or not work.is_plain or jax.default_backend() != 'gpu':
    return None
  from jax.experimental import rnn

  x = _inputs(work)
  weights = rnn.init_lstm_weight(jax.random.key(0), work.H, work.H, 1, False)
  lengths = jnp.full((work.B,), work.T, jnp.int32)
  zeros = jnp.zeros((1, work.B, work.H))

  def apply(weights: Any, x: Any) -> Any:
    ys, _, _ = rnn.lstm(
      x, zeros, zeros, weights, lengths, work.H, work.H, 1, 0.0, False
    )
    return ys

  return _runner('jax.experimental.rnn', _step(work, apply), weights, x)


def _torch(work: Work) -> Runner | None:
  """PyTorch's defaults, TF32 in cuDNN among them; without resets where we have them."""
  if work.dropout or work.mask or work.models > 1:
    return None
  if not importlib.util.find_spec('torch'):
    return None
  import torch

  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  layer = torch_layer(work.cell)(work.H, work.H, batch_first=True).to(device)
  x = torch.from_numpy(_inputs(work)).to(device).requires_grad_(work.training)

  def run() -> None:
    for _ in range(CALLS):
      if work.training:
        layer.zero_grad()
        x.grad = None
        layer(x)[0].sum().backward()
      else:
        with torch.inference_mode():
          layer(x)
    if device == 'cuda':
      torch.cuda.synchronize()

  return Runner(f'torch.nn on {device}', run)


if __name__ == '__main__':
  if (where := jax.default_backend()) != 'gpu' and '--quick' not in sys.argv:
    sys.exit(f"this needs a GPU of NVIDIA's, and JAX has {where}; --quick rehearses")
  cli.main('gpu', __doc__, rows)
