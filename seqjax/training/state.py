"""The state of a training run: all that a step changes."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from seqjax.layers.base import call_options
from seqjax.types import Array, InputError, PyTree


class TrainState(NamedTuple):
  """All that steps change: keys and data follow from `step`."""

  step: Array  # [] int32, steps done
  params: PyTree
  opt_state: PyTree
  carry: PyTree = ()  # of [B, H]s, of a model whose rows go on from batch to batch


def init_state(
  model: nn.Module,
  tx: optax.GradientTransformation,
  key: Array,
  x: Array,
  *,
  carries: bool = False,
) -> TrainState:
  """A fresh state: parameters drawn from `key` for inputs like x [B, ...].

  With `carries` the model's state goes on from batch to batch: it begins with what the
  model's `zero_carry(B)` says.

  Raises:
    InputError: The model has variables beside its parameters.
  """
  return initializer(model, tx, x, carries=carries)(key)


def initializer(
  model: nn.Module, tx: optax.GradientTransformation, x: Array, *, carries: bool = False
) -> Callable[[Array], TrainState]:
  """`init_state` of any number of keys, compiled once."""
  options = call_options(model, train=False)
  init = jax.jit(functools.partial(model.init, **options))

  def state(key: Array) -> TrainState:
    variables = init(key, x)
    params = variables.get('params', {})
    if others := sorted(set(variables) - {'params'}):
      raise InputError(
        f'the model has {", ".join(others)} beside params: not trained here'
      )
    carry = model.zero_carry(len(x)) if carries else ()
    return TrainState(jnp.zeros([], jnp.int32), params, tx.init(params), carry)

  return state
