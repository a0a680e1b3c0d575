"""Claim: what is small stays small: one step of a stream, and a layer without jit.

python -m benchmarks.small
"""

from collections.abc import Iterator

import jax
import numpy as np

from benchmarks import cli
from benchmarks.ours import LAYERS
from benchmarks.report import Row
from benchmarks.timing import Runner, interleave


def rows(options: cli.Options) -> Iterator[Row]:
  """A step at B 1, H 32 against the reference, and calls of B 8, T 50, D 16, H 32."""
  for jits, shape in ((True, (1, 1, 32)), (False, (8, 50, 16))):
    for cell in LAYERS:
      runners = [_runner(cell, name, shape, jits) for name in ('auto', 'reference')]
      for runner in runners:
        runner.run()
      how = 'one step of a stream' if jits else 'called without jit'
      title = f'{cell} B{shape[0]} T{shape[1]} D{shape[2]} H32, {how}'
      timings = interleave(runners, seconds=min(options.seconds, 2), timed=20)
      yield Row(title, timings, target=1.0 if jits else None)


def _runner(
  cell: str, implementation: str, shape: tuple[int, ...], jits: bool
) -> Runner:
  layer = LAYERS[cell](32, return_carry=True, implementation=implementation)
  x = jax.numpy.asarray(np.random.default_rng(0).standard_normal(shape, np.float32))
  params = layer.init(jax.random.key(0), x, train=False)
  carry, _ = layer.apply(params, x, train=False)

  def call(params, carry, x):
    return layer.apply(params, x, train=False, initial_carry=carry)

  step = jax.jit(call) if jits else call
  # The reference is the peer here.
  name = 'seqjax auto' if implementation == 'auto' else 'the reference path'
  return Runner(name, lambda: jax.block_until_ready(step(params, carry, x)))


if __name__ == '__main__':
  cli.main('small', __doc__, rows)
