"""Where the chunks of projected inputs come from, and where their gradients go.

`Dense` projects inputs [B, T, D], `TimeMajorDense` inputs [T, B, D], `LookedUpDense`
rows of an embedding that it looks up; `Table` looks ids up in a table that is projected
already. All hold scaled weights and know a chunk of K steps, and how to start, to add
up and to finish their gradients. What they want of weights and constants is prepared
once, before the loop over chunks.
"""

from typing import Any, NamedTuple, Self, TypeAlias

import jax
import jax.numpy as jnp

from seqjax.fast.products import (
  kernel_gradient,
  make_product,
  no_sums,
  product,
  product_to_kernel,
  product_to_x,
)
from seqjax.types import Array, PyTree


class Constants(NamedTuple):
  """What a run takes and has no gradient."""

  ids: Any  # int [T, B], for `Table` and `LookedUpDense`; else None
  x_mask: Array | None  # dropout, [B, D] or [n, B, D], for `Dense`
  h_mask: Array | None  # dropout, [B, H] or [n, B, H]
  real: Array | None  # bool [T, B]
  carried: Array | None  # bool [T, B], False where the state starts anew before a step
  chunks: tuple[Array, Array] | None = None  # first, one past the last; None: by `real`


class Dense(NamedTuple):
  """Inputs that are projected chunk by chunk, and their weights.

  x [B, T, D] is transposed as its chunks are cut out.
  """

  x: Array  # [B, T, D], or as a subclass says
  kernel: Array  # [D, G]
  bias: Array | None  # [G]

  def prepare(self, constants: Constants) -> Any:
    """What the other methods want of constants and weights, made once."""
    return constants.ids, make_product(self.kernel, constants.x_mask)

  def chunk(self, prepared: Any, start: Array, K: int, dtype: Any) -> Array:
    """Projected steps start, ..., start + K - 1, without bias: [K, B, G] in `dtype`."""
    ids, p = prepared
    return product(p, self._steps(ids, start, K), dtype)

  def add_bias(self, z: Array) -> Array:
    """z [..., G] with the bias. Where z joins a sum anyway, that costs nothing."""
    if self.bias is None:
      return z
    return z + jnp.broadcast_to(self.bias.astype(z.dtype), z.shape)

  def no_gradients(self, prepared: Any, dtype: Any) -> PyTree:
    """Zeros for `add_gradients`: of x, of the kernel as summed up, of the bias."""
    _, p = prepared
    dbias = None if self.bias is None else jnp.zeros_like(self.bias, dtype)
    return self._no_dx(dtype), no_sums(p, dtype), dbias

  def add_gradients(
    self, prepared: Any, gradients: PyTree, start: Array, d: Array
  ) -> PyTree:
    """Adds what d [K, B, G] of the steps from `start` gives."""
    ids, p = prepared
    dx, dkernel, dbias = gradients
    part = product_to_x(p, d).astype(dx.dtype)  # [K, B, D]
    return (
      self._add_dx(dx, ids, start, part),
      dkernel + product_to_kernel(p, self._steps(ids, start, len(d)), d),
      None if dbias is None else dbias + d.sum((0, 1)),
    )

  def finish_gradients(self, prepared: Any, gradients: PyTree) -> Self:
    """The sums, each in its place."""
    _, p = prepared
    dx, dkernel, dbias = gradients
    return type(self)(dx, kernel_gradient(p, dkernel), dbias)

  def _steps(self, ids: Any, start: Array, K: int) -> Array:
    """Inputs of steps start, ..., start + K - 1: [K, B, D]."""
    del ids
    x = time_slice(self.x, start, K, axis=1)  # [B, K, D]
    return jnp.swapaxes(x, 0, 1)

  def _no_dx(self, dtype: Any) -> Array:
    """Zeros for `_add_dx`."""
    del dtype
    return jnp.zeros_like(self.x)

  def _add_dx(self, dx: Array, ids: Any, start: Array, part: Array) -> Array:
    """`dx`, in the place of self.x, with `part` [K, B, D] of the steps from `start`."""
    del ids
    part = jnp.swapaxes(part, 0, 1)  # [B, K, D]
    return put_steps(dx, part, start, axis=1)


class TimeMajorDense(Dense):
  """`Dense` of x [T, B, D]."""

  __slots__ = ()

  def _steps(self, ids: Any, start: Array, K: int) -> Array:
    del ids
    return time_slice(self.x, start, K)

  def _add_dx(self, dx: Array, ids: Any, start: Array, part: Array) -> Array:
    del ids
    return put_steps(dx, part, start)


class LookedUpDense(Dense):
  """`Dense` of rows of an embedding, x [V, D], that are looked up chunk by chunk."""

  __slots__ = ()

  def _steps(self, ids: Any, start: Array, K: int) -> Array:
    return take_rows(self.x, time_slice(ids, start, K))

  def _no_dx(self, dtype: Any) -> Array:
    return jnp.zeros_like(self.x, dtype)

  def _add_dx(self, dx: Array, ids: Any, start: Array, part: Array) -> Array:
    return add_to_rows(dx, time_slice(ids, start, len(part)), part)


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

  def add_bias(self, z: Array) -> Array:
    """z: the rows have it."""
    return z

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


def time_slice(x: Array, start: Array, K: int, axis: int = 0) -> Array:
  """Steps start, ..., start + K - 1 of x, which has T in `axis`.

  [T, B, ...] -> [K, B, ...], or [B, T, ...] -> [B, K, ...].
  """
  return jax.lax.dynamic_slice_in_dim(x, start, K, axis, allow_negative_indices=False)


def put_steps(x: Array, part: Array, start: Array, axis: int = 0) -> Array:
  """x with `part`, of K steps, as its steps from `start`; both have time in `axis`."""
  return jax.lax.dynamic_update_slice_in_dim(
    x, part, start, axis, allow_negative_indices=False
  )


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
