"""Where the chunks of projected inputs come from, and where their gradients go.

`Dense` projects inputs; `Table` looks ids up in a table that is projected already. Both
hold scaled weights and know a chunk of K steps, and how to start and to add up their
gradients.
"""

from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from seqjax.fast.products import (
  make_product,
  product,
  product_to_kernel,
  product_to_x,
  side_by_side,
)
from seqjax.types import Array, PyTree


class Constants(NamedTuple):
  """What a run takes and has no gradient."""

  ids: Any  # int [B, T], for `Table`; else None
  x_mask: Array | None  # dropout, [B, D] or [n, B, D], for `Dense`
  h_mask: Array | None  # dropout, [B, H] or [n, B, H]
  real: Array | None  # bool [B, T]
  carried: Array | None  # bool [B, T], False where the state starts anew before a step


class Dense(NamedTuple):
  """Inputs and the layer's input weights."""

  x: Array  # [B, T, D]
  kernel: Array  # [D, G]
  bias: Array | None  # [G]

  def chunk(self, constants: Constants, start: Array, K: int, dtype: Any) -> Array:
    """Projected steps start, ..., start + K - 1: [B, K, G] in `dtype`."""
    p = make_product(self.kernel, constants.x_mask)
    z = product(p, time_slice(self.x, start, K), dtype)
    if self.bias is None:
      return z
    return z + jnp.broadcast_to(self.bias.astype(dtype), z.shape)

  def no_gradients(self, constants: Constants, dtype: Any) -> PyTree:
    """Zeros for `add_gradients`: of x, of the kernel in parts, of the bias."""
    p = make_product(self.kernel, constants.x_mask)
    return (
      jnp.zeros_like(self.x),
      tuple(jnp.zeros_like(kernel, dtype) for kernel in p.kernels),
      None if self.bias is None else jnp.zeros_like(self.bias, dtype),
    )

  def add_gradients(
    self, constants: Constants, gradients: PyTree, start: Array, d: Array
  ) -> PyTree:
    """Adds what d [B, K, G] of the steps from `start` gives."""
    dx, dkernel, dbias = gradients
    p = make_product(self.kernel, constants.x_mask)
    part = product_to_x(p, d).astype(dx.dtype)  # [B, K, D]
    x = time_slice(self.x, start, d.shape[1])
    return (
      jax.lax.dynamic_update_slice_in_dim(dx, part, start, 1),
      jax.tree.map(jnp.add, dkernel, product_to_kernel(p, x, d)),
      None if dbias is None else dbias + d.sum((0, 1)),
    )

  def finish_gradients(self, gradients: PyTree) -> 'Dense':
    """The sums, each in its place."""
    dx, dkernel, dbias = gradients
    return Dense(dx, side_by_side(dkernel), dbias)


class Table(NamedTuple):
  """Projected rows of an embedding: x W + b of every id."""

  rows: Array  # [V, G]

  def chunk(self, constants: Constants, start: Array, K: int, dtype: Any) -> Array:
    """Rows of steps start, ..., start + K - 1: [B, K, G] in `dtype`."""
    ids = time_slice(constants.ids, start, K)

    # Fused with the tanh behind it, a gather makes scalar code of both, and XLA:CPU
    # fuses across an optimization_barrier. It doesn't fuse across a loop.
    def body(j: Array, out: Array) -> Array:
      rows = take_rows(self.rows, ids[:, j]).astype(dtype)
      return jax.lax.dynamic_update_index_in_dim(out, rows, j, 1)

    G = self.rows.shape[-1]
    blank = jnp.zeros_like(self.rows, dtype, (*ids.shape, G))
    return jax.lax.fori_loop(0, K, body, blank)

  def no_gradients(self, constants: Constants, dtype: Any) -> Array:
    """Zeros for `add_gradients`."""
    del constants
    return jnp.zeros_like(self.rows, dtype)

  def add_gradients(
    self, constants: Constants, gradients: Array, start: Array, d: Array
  ) -> Array:
    """Adds d [B, K, G] of the steps from `start` to the rows of their ids."""
    ids = time_slice(constants.ids, start, d.shape[1])
    return gradients.at[ids].add(d, mode='drop')

  def finish_gradients(self, gradients: Array) -> 'Table':
    """The sum in its place."""
    return Table(gradients)


Source: TypeAlias = Dense | Table


def take_rows(matrix: Array, ids: Array) -> Array:
  """Rows of matrix [V, E]: ids [...] -> [..., E]; NaN for ids outside [0, V)."""
  # A negative index would count from the end: past the end it gives NaN instead.
  V = len(matrix)
  return jnp.take(matrix, jnp.where(ids < 0, V, ids), axis=0, mode='fill')


def time_slice(x: Array, start: Array, K: int) -> Array:
  """Steps start, ..., start + K - 1 of x [B, T, ...]: [B, K, ...]."""
  return jax.lax.dynamic_slice_in_dim(x, start, K, 1)
