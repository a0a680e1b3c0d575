"""The state of a training run: all that a step changes."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from seqjax.layers.base import call_options
from seqjax.types import Array, InputError, PyTree


class TrainState(NamedTuple):
  """Step, parameters, optimiser state. Nothing more: keys and data follow from step."""

  step: Array  # [] int32, steps done
  params: PyTree
  opt_state: PyTree


def init_state(
  model: nn.Module, tx: optax.GradientTransformation, key: Array, x: Array
) -> TrainState:
  """A fresh state: parameters drawn from `key` for inputs like x [B, ...].

  Raises:
    InputError: The model has variables beside its parameters.
  """
  options = call_options(model, train=False)
  variables = jax.jit(functools.partial(model.init, **options))(key, x)
  params = variables.get('params', {})
  if others := sorted(set(variables) - {'params'}):
    raise InputError(
      f'the model has {", ".join(others)} beside params: not trained here'
    )
  return TrainState(jnp.zeros([], jnp.int32), params, tx.init(params))
