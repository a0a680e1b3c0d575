"""Claim: on a GPU the whole sequence in one kernel beats cuDNN, with every feature.

python -m benchmarks.gpu [--seconds=SECONDS] [--only=TEXT] [--quick]

Needs jax, flax, numpy and this repository; PyTorch, Keras and jax.experimental.rnn are
timed where they are there. With --quick tiny sizes on whatever device there is: a
rehearsal. What an option costs is shown beside the plain layer's time.
"""

import dataclasses
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import cli
from benchmarks.ours import LAYERS, seqjax_runner
from benchmarks.peers import FLAX_CELLS, keras_runner, torch_layer, torch_runner
from benchmarks.report import Row
from benchmarks.timing import Runner, interleave
from benchmarks.workload import Workload


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
  calls: int = 10  # of a run, so that what one costs the host does not count

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


_USUAL = Work('lstm', 128, 500, 32)


def _work() -> list[tuple[Work, float | None]]:
  """Work, and the ratio to the best peer that it should reach."""
  cells = ('lstm', 'gru', 'simple_rnn')
  found: list[tuple[Work, float | None]] = []
  for H, targets in (
    (32, (0.35, 0.25, 0.45)), (64, (0.45, 0.35, 0.55)), (128, (0.6, 0.6, 1.0)),
  ):  # fmt: skip
    for cell, target, forward in zip(cells, targets, (0.8, 0.8, 1.0), strict=True):
      found.append((Work(cell, 128, 500, H), target))
      found.append((Work(cell, 128, 500, H, training=False), forward))
  for cell in cells[:2]:
    with_resets = Work(cell, 1024, 128, 128, resets=True)
    found.append((with_resets, 1.0))
    found.append((dataclasses.replace(with_resets, training=False), 0.8))
  found += [(Work(c, 64, 250, H), 1.15) for H in (256, 512, 1024) for c in cells[:2]]
  return found


def _options() -> list[tuple[Work, float]]:
  """Work, and how many times the plain layer's time it may take."""
  return [
    (dataclasses.replace(_USUAL, **change), target)  # type: ignore[arg-type]
    for change, target in (
      ({'dropout': 0.2}, 1.2), ({'mask': True}, 1.2), ({'models': 16}, 4.0),
      ({'T': 1000}, 2.1), ({'T': 4000}, 8.4),  # as T, and 5 % more
    )
  ]  # fmt: skip


def rows(options: cli.Options) -> Iterator[Row]:
  """All that are asked for, peers by turns."""
  chapter = Workload('lstm', embedding=True)
  if options.quick:
    chapter = dataclasses.replace(chapter, B=4, T=12)
  if options.only in chapter.title:
    device = 'cuda' if jax.default_backend() == 'gpu' else 'cpu'
    steps = [seqjax_runner(chapter), seqjax_runner(chapter, 'reference')]
    for peer in (torch_runner(chapter, device), keras_runner(chapter)):
      steps += [peer] if peer else []
    for runner in steps:
      runner.run()
    timings = interleave(steps, seconds=options.seconds)
    yield Row(f'a whole step, {chapter.title}', timings, 0.2)
  for full, target in [*_work(), *_options()]:
    if options.only not in full.title:
      continue
    work, plain = full, _USUAL
    if options.quick:
      work, plain = (
        dataclasses.replace(
          w, B=4, T=12, H=min(w.H, 32), models=min(w.models, 2), calls=1
        )
        for w in (work, plain)
      )
    runners = [_ours(work, 'auto'), _ours(work, 'reference')]
    if (full, target) in _options():
      runners.append(dataclasses.replace(_ours(plain, 'auto'), name='the plain layer'))
    else:
      peers = (_torch, _keras, _flax, _jax_rnn)
      runners += [r for peer in peers if (r := peer(work))]
    for runner in runners:
      runner.run()
    yield Row(work.title, interleave(runners, seconds=options.seconds), target)


def _inputs(work: Work) -> np.ndarray:
  return np.random.default_rng(0).standard_normal((work.B, work.T, work.H), np.float32)


def _runner(name: str, work: Work, step: Callable[..., Any], *arguments: Any) -> Runner:
  step = jax.jit(step)
  arguments = jax.device_put(arguments)

  def run() -> None:
    for _ in range(work.calls):
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
  return _runner(f'seqjax {implementation}', work, step, params, x)


def _flax(work: Work) -> Runner | None:
  if not work.is_plain:
    return None
  layer, x = nn.RNN(FLAX_CELLS[work.cell](work.H)), _inputs(work)
  params = layer.init(jax.random.key(0), x)
  return _runner('flax.linen.RNN', work, _step(work, layer.apply), params, x)


def _keras(work: Work) -> Runner | None:
  """Keras 3 on JAX, as it is; where it can it calls cuDNN."""
  if not work.is_plain or not importlib.util.find_spec('keras'):
    return None
  os.environ['KERAS_BACKEND'] = 'jax'
  import keras

  layer = getattr(keras.layers, LAYERS[work.cell].__name__)(
    work.H, return_sequences=True
  )
  x = _inputs(work)
  layer.build(x.shape)
  weights = [jnp.array(v.value) for v in layer.trainable_variables]
  fixed = [jnp.array(v.value) for v in layer.non_trainable_variables]

  def apply(weights: Any, x: Any) -> Any:
    return layer.stateless_call(weights, fixed, x)[0]

  return _runner('Keras (JAX)', work, _step(work, apply), weights, x)


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

  return _runner('jax.experimental.rnn', work, _step(work, apply), weights, x)


def _torch(work: Work) -> Runner | None:
  """PyTorch's defaults, TF32 in cuDNN among them; without resets where we have them."""
  if work.dropout or work.mask or work.models > 1:
    return None
  if not importlib.util.find_spec('torch'):
    return None
  import torch

  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  if device == 'cpu':  # a rehearsal
    torch.set_num_threads(1)
  layer = torch_layer(work.cell)(work.H, work.H, batch_first=True).to(device)
  x = torch.from_numpy(_inputs(work)).to(device).requires_grad_(work.training)

  def run() -> None:
    for _ in range(work.calls):
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
  cli.main('gpu', __doc__, rows, seconds=4.0)
