"""The state of a training run: all that a step changes."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from seqjax.types import Array, PyTree


class TrainState(NamedTuple):
  """Step, parameters, optimiser state. Nothing more: keys and data follow from step."""

  step: Array  # [] int32, steps done
  params: PyTree
  opt_state: PyTree


def init_state(
  model: nn.Module, tx: optax.GradientTransformation, key: Array, x: Array
) -> TrainState:
  """A fresh state: parameters drawn from `key` for inputs like x [B, ...]."""
  params = jax.jit(model.init, static_argnames='train')(key, x, train=False)['params']
  return TrainState(jnp.zeros([], jnp.int32), params, tx.init(params))
