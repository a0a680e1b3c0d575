"""Embedding: rows of a trained matrix, by id."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from seqjax.types import Array


def keras_uniform(
  key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32
) -> Array:
  """Uniform in (-0.05, 0.05): the initialiser of Keras's Embedding."""
  return jax.random.uniform(key, shape, dtype, minval=-0.05, maxval=0.05)


class Embedding(nn.Module):
  """Looks ids up in a matrix `embedding` [V, E].

  Ids are checked where they are made. Here NumPy ids are checked once more; ids on the
  device can't be, and there an id outside [0, V) gives a row of NaN, which stops the
  training at the next look at the loss: it never stands for another word.

  Attributes:
    num_embeddings: V, with the reserved ids.
    features: E.
    mask_zero: Id 0 is padding: `compute_mask` is then ids != 0.
    embedding_init: Initialiser of the matrix.
    dtype: Of the rows returned; None: that of the matrix.
    param_dtype: Of the matrix.
  """

  num_embeddings: int
  features: int
  mask_zero: bool = False
  embedding_init: nn.initializers.Initializer = keras_uniform
  dtype: Any = None
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, ids: Array) -> Array:
    """Integer ids [...] -> rows [..., E].

    Raises:
      ValueError: if ids are not integers, or NumPy ids lie outside [0, V).
    """
    V = self.num_embeddings
    if not jnp.issubdtype(ids.dtype, jnp.integer):
      raise ValueError(f'Embedding needs integer ids, got {ids.dtype}{ids.shape}')
    if isinstance(ids, np.ndarray) and ids.size and not 0 <= ids.min() <= ids.max() < V:
      bad = np.argwhere((ids < 0) | (ids >= V))[0].tolist()
      raise ValueError(f'id {ids[tuple(bad)]} at index {bad} is not in [0, {V})')
    embedding = self.param(
      'embedding', self.embedding_init, (V, self.features), self.param_dtype
    )
    # A negative index would count from the end: past the end it gives NaN instead.
    rows = jnp.take(embedding, jnp.where(ids < 0, V, ids), axis=0, mode='fill')
    return rows if self.dtype is None else rows.astype(self.dtype)

  def compute_mask(self, ids: Array) -> Array | None:
    """Mask [..., T] of ids [..., T]: True where real; None without `mask_zero`."""
    return ids != 0 if self.mask_zero else None
