"""Initialisers of the layers: plain functions, so that a layer goes through pickle."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from seqjax.types import Array

Initializer = nn.initializers.Initializer
_GLOROT, _ORTHOGONAL = nn.initializers.glorot_uniform(), nn.initializers.orthogonal()


def glorot_uniform(key: Array, shape: Any, dtype: Any = jnp.float32) -> Array:
  """linen's initialiser of that name."""
  return _GLOROT(key, shape, dtype)


def orthogonal(key: Array, shape: Any, dtype: Any = jnp.float32) -> Array:
  """linen's initialiser of that name: rows or columns are orthonormal."""
  return _ORTHOGONAL(key, shape, dtype)


def zeros(key: Array, shape: Any, dtype: Any = jnp.float32) -> Array:
  """Zeros."""
  del key
  return jnp.zeros(shape, dtype)


def keras_uniform(key: Array, shape: Any, dtype: Any = jnp.float32) -> Array:
  """Uniform in (-0.05, 0.05): the initialiser of Keras's Embedding."""
  return jax.random.uniform(key, shape, dtype, minval=-0.05, maxval=0.05)


def chrono(longest: int, num_gates: int) -> Initializer:
  """Biases with which units remember for 1 to `longest` steps, as drawn for each.

  A unit that keeps the share 1 - 1/n at each step forgets in some n of them. It is the
  forget gate of an LSTM that has such a bias, and the input gate its opposite; of a GRU
  z, which keeps h here. For an LSTM without `unit_forget_bias`.

  Args:
    longest: Steps, more than 1.
    num_gates: 4, of an LSTM with a bias [4H]; or 3, of a GRU with [3H] or [2, 3H].

  Raises:
    ValueError: A number is none of these.

  Source: Tallec & Ollivier 2018, arXiv:1804.11188.
  """
  if num_gates not in (3, 4) or longest < 2:
    raise ValueError(
      f'chrono needs 3 or 4 gates and at least 2 steps, got {num_gates} and {longest}'
    )

  def draw(key: Array, shape: Any, dtype: Any = jnp.float32) -> Array:
    H = shape[-1] // num_gates
    keeps = jnp.log(jax.random.uniform(key, (H,), dtype, 1, longest - 1))
    bias = jnp.zeros(shape, dtype)
    first = bias if bias.ndim == 1 else bias[0]  # of a GRU's two, that of the inputs
    if num_gates == 4:
      first = first.at[:H].set(-keeps).at[H : 2 * H].set(keeps)
    else:
      first = first.at[:H].set(keeps)
    return first if bias.ndim == 1 else bias.at[0].set(first)

  return draw


def in_float32(init: Any) -> Initializer:
  """The initialiser, drawn in float32 or wider and then cast.

  The QR decomposition of an orthogonal matrix knows no bfloat16.
  """

  def draw(key: Array, shape: Any, dtype: Any = jnp.float32) -> Array:
    return init(key, shape, jnp.promote_types(jnp.float32, dtype)).astype(dtype)

  return draw
