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


def in_float32(init: Any) -> Initializer:
  """The initialiser, drawn in float32 or wider and then cast.

  The QR decomposition of an orthogonal matrix knows no bfloat16.
  """

  def draw(key: Array, shape: Any, dtype: Any = jnp.float32) -> Array:
    return init(key, shape, jnp.promote_types(jnp.float32, dtype)).astype(dtype)

  return draw
