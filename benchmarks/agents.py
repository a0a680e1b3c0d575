"""Claim: a learning update of a recurrent agent takes half the time of a scan of cells.

python -m benchmarks.agents
"""

import functools
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from benchmarks import cli
from benchmarks.report import Row
from benchmarks.timing import Runner, interleave, sgemm
from seqjax import ScannedRNN

T, H = 128, 128


class TheirScannedRNN(nn.Module):
  """As the training loops of reinforcement learning write it: a scan of flax's cell."""

  @functools.partial(
    nn.scan,
    variable_broadcast='params',
    in_axes=0,
    out_axes=0,
    split_rngs={'params': False},
  )
  @nn.compact
  def __call__(self, carry: Any, x: tuple[Any, Any]) -> tuple[Any, Any]:
    xs, resets = x
    carry = jnp.where(resets[:, None], jnp.zeros_like(carry), carry)
    return nn.GRUCell(features=xs.shape[-1])(carry, xs)


def rows(options: cli.Options) -> Iterator[Row]:
  """Forward and backward of 64 to 1,024 environments: of weights and of inputs."""
  for B in (64, 256, 1024):
    title = f'gru of an agent, {B} environments T{T} D{H} H{H}, resets, training'
    if options.only not in title:
      continue
    runners = [
      _runner('seqjax auto', ScannedRNN(), B),
      sgemm(),
      _runner('scan of flax.linen.GRUCell', TheirScannedRNN(), B),
    ]
    flops = 3 * 2 * B * T * (H + H) * 3 * H
    yield Row(title, interleave(runners, seconds=options.seconds), 0.5, flops=flops)


def _runner(name: str, module: nn.Module, B: int) -> Runner:
  keys = jax.random.split(jax.random.key(0), 4)
  xs, weights = (jax.random.normal(key, (T, B, H)) for key in keys[:2])
  resets = jax.random.bernoulli(keys[2], 0.05, (T, B))
  carry = jnp.zeros((B, H))
  params = module.init(keys[3], carry, (xs[:1], resets[:1]))

  def loss(params: Any, xs: Any) -> Any:
    return jnp.sum(module.apply(params, carry, (xs, resets))[1] * weights)

  step = jax.jit(jax.grad(loss, (0, 1)))
  step(params, xs)
  return Runner(name, lambda: jax.block_until_ready(step(params, xs)))


if __name__ == '__main__':
  cli.main('agents', __doc__, rows)
