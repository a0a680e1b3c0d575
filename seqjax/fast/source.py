"""Where the chunks of projected inputs come from, and where their gradients go.

`Dense` projects inputs, or rows of an embedding that it looks up; `TurnedDense` inputs
that come step by step; `Table` looks ids up in a table that is projected already. All
hold scaled weights and know a chunk of K steps, and how to start, to add up and to
finish their gradients. What they want of weights and constants is prepared once, before
the loop over chunks.
"""

from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from seqjax.fast.products import (
  kernel_gradient,
  make_product,
  product,
  product_to_kernel,
  product_to_x,
)
from seqjax.types import Array, PyTree


class Constants(NamedTuple):
  """What a run takes and has no gradient."""

  ids: Any  # int [T, B], for `Table`, and for `Dense` on an embedding; else None
  x_mask: Array | None  # dropout, [B, D] or [n, B, D], for `Dense`
  h_mask: Array | None  # dropout, [B, H] or [n, B, H]
  real: Array | None  # bool [T, B]
  carried: Array | None  # bool [T, B], False where the state starts anew before a step
  chunks: tuple[Array, Array] | None = None  # first, one past the last; None: by `real`


class Dense(NamedTuple):
  """Inputs, or an embedding whose rows they are, and the layer's input weights."""

  x: Array  # [B, T, D], or with ids [V, D]
  kernel: Array  # [D, G]
  bias: Array | None  # [G]

  def prepare(self, constants: Constants) -> Any:
    """What the other methods want of constants and weights, made once."""
    return constants.ids, make_product(self.kernel, constants.x_mask)

  def chunk(self, prepared: Any, start: Array, K: int, dtype: Any) -> Array:
    """Projected steps start, ..., start + K - 1: [K, B, G] in `dtype`."""
    ids, p = prepared
    z = product(p, self._steps(ids, start, K), dtype)
    if self.bias is None:
      return z
    return z + jnp.broadcast_to(self.bias.astype(dtype), z.shape)

  def no_gradients(self, prepared: Any, dtype: Any) -> PyTree:
    """Zeros for `add_gradients`: of x, of the kernel as summed up, of the bias."""
    ids, p = prepared
    x = self._steps(ids, jnp.int32(0), 1)
    d = jnp.zeros_like(self.kernel, dtype, (*x.shape[:-1], self.kernel.shape[-1]))
    sums = jax.eval_shape(product_to_kernel, p, x, d)
    return (
      jnp.zeros_like(self.x, None if ids is None else dtype),
      jax.tree.map(lambda a: jnp.zeros_like(self.x, a.dtype, a.shape), sums),
      None if self.bias is None else jnp.zeros_like(self.bias, dtype),
    )

  def add_gradients(
    self, prepared: Any, gradients: PyTree, start: Array, d: Array
  ) -> PyTree:
    """Adds what d [K, B, G] of the steps from `start` gives."""
    ids, p = prepared
    dx, dkernel, dbias = gradients
    K = len(d)
    part = product_to_x(p, d).astype(dx.dtype)  # [K, B, D]
    if ids is None:
      dx = self._put_steps(dx, part, start)
    else:
      dx = add_to_rows(dx, time_slice(ids, start, K), part)
    more = product_to_kernel(p, self._steps(ids, start, K), d)
    return (
      dx,
      jax.tree.map(jnp.add, dkernel, more),
      None if dbias is None else dbias + d.sum((0, 1)),
    )

  def finish_gradients(self, prepared: Any, gradients: PyTree) -> 'Dense':
    """The sums, each in its place."""
    _, p = prepared
    dx, dkernel, dbias = gradients
    return type(self)(dx, kernel_gradient(p, dkernel), dbias)

  def _steps(self, ids: Array | None, start: Array, K: int) -> Array:
    """Inputs of steps start, ..., start + K - 1: [K, B, D]."""
    if ids is not None:
      return take_rows(self.x, time_slice(ids, start, K))
    x = jax.lax.dynamic_slice_in_dim(self.x, start, K, 1, allow_negative_indices=False)
    return jnp.swapaxes(x, 0, 1)

  def _put_steps(self, x: Array, part: Array, start: Array) -> Array:
    """`x`, of the shape of self.x, with `part` [K, B, D] as its steps from `start`."""
    part = jnp.swapaxes(part, 0, 1)
    return jax.lax.dynamic_update_slice_in_dim(x, part, start, 1)


class TurnedDense(Dense):
  """Inputs in the order of the steps, x [T, B, D], and the layer's input weights."""

  __slots__ = ()

  def _steps(self, ids: Array | None, start: Array, K: int) -> Array:
    del ids  # None
    return time_slice(self.x, start, K)

  def _put_steps(self, x: Array, part: Array, start: Array) -> Array:
    return jax.lax.dynamic_update_slice_in_dim(x, part, start, 0)


class Table(NamedTuple):
  """Projected rows of an embedding: x W + b of every id."""

  rows: Array  # [V, G]

  def prepare(self, constants: Constants) -> Any:
    """The ids [T, B]."""
    return constants.ids

  def chunk(self, prepared: Any, start: Array, K: int, dtype: Any) -> Array:
    """Rows of steps start, ..., start + K - 1: [K, B, G] in `dtype`."""
    ids = time_slice(prepared, start, K)

    # Fused with the tanh behind it, a gather makes scalar code of both, and XLA:CPU
    # fuses across an optimization_barrier. It doesn't fuse across a loop.
    def body(j: Array, out: Array) -> Array:
      rows = take_rows(self.rows, step_of(ids, j)).astype(dtype)
      return put_step(out, rows, j)

    G = self.rows.shape[-1]
    blank = jnp.zeros_like(self.rows, dtype, (*ids.shape, G))
    return jax.lax.fori_loop(0, K, body, blank)

  def no_gradients(self, prepared: Any, dtype: Any) -> Array:
    """Zeros for `add_gradients`."""
    del prepared
    return jnp.zeros_like(self.rows, dtype)

  def add_gradients(
    self, prepared: Any, gradients: Array, start: Array, d: Array
  ) -> Array:
    """Adds d [K, B, G] of the steps from `start` to the rows of their ids."""
    ids = time_slice(prepared, start, len(d))
    return add_to_rows(gradients, ids, d)

  def finish_gradients(self, prepared: Any, gradients: Array) -> 'Table':
    """The sum in its place."""
    del prepared
    return Table(gradients)


Source: TypeAlias = Dense | Table


def take_rows(matrix: Array, ids: Array) -> Array:
  """Rows of matrix [V, E]: ids [...] -> [..., E]; NaN for ids outside [0, V)."""
  return jnp.take(matrix, _not_negative(ids, len(matrix)), axis=0, mode='fill')


def add_to_rows(matrix: Array, ids: Array, d: Array) -> Array:
  """Adds d [..., E] to the rows of their ids [...]; none for ids outside [0, V)."""
  return matrix.at[_not_negative(ids, len(matrix))].add(d, mode='drop')


def _not_negative(ids: Array, V: int) -> Array:
  """`ids`, V for a negative one: as an index that would count from the end."""
  return jnp.where(ids < 0, V, ids)


def time_slice(x: Array, start: Array, K: int) -> Array:
  """Steps start, ..., start + K - 1 of x [T, B, ...]: [K, B, ...]."""
  return jax.lax.dynamic_slice_in_dim(x, start, K, 0, allow_negative_indices=False)


def step_of(x: Array, j: Array) -> Array:
  """Step j of x [T, B, ...]: [B, ...]."""
  return jax.lax.dynamic_index_in_dim(
    x, j, 0, keepdims=False, allow_negative_indices=False
  )


def put_step(x: Array, value: Array, j: Array) -> Array:
  """x [T, B, ...] with value [B, ...] as its step j."""
  return jax.lax.dynamic_update_index_in_dim(
    x, value, j, 0, allow_negative_indices=False
  )
