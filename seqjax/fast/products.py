"""Matrix products whose left operand is masked, with one mask or one for each gate.

`product(p, x)` is (x * mask[g]) @ kernel[g], the gates side by side. Its two
transposes, for the gradients of x and of the kernel, stand beside it.

A kernel can't be scaled row by row of the batch, so gates with masks of their own are a
batch of matmuls, [B, H] x [H, H] for each gate: 7.7 us for a step of an LSTM that takes
6.6 us with one [B, H] x [H, 4H] and 10.9 with four matmuls, each of them masked and all
of them put side by side by a kernel of its own (B 64, H 32).
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax.fast.devices import may_be_cut
from seqjax.types import Array


class Product(NamedTuple):
  """A kernel and the dropout masks of what it multiplies: one, or one for each gate."""

  kernel: Array  # [D, G], or of each gate with masks of their own [n, D, G / n]
  transposed: Array  # the same with D last
  mask: Array | None  # [B, D], or [n, B, D]

  @property
  def per_gate(self) -> bool:
    return self.kernel.ndim == 3


def make_product(kernel: Array, mask: Array | None) -> Product:
  """The product with `kernel` [D, G]; mask [B, D], [n, B, D] or None."""
  if mask is not None and mask.ndim == 3:
    kernel = _gates_first(kernel, len(mask))
  return Product(kernel, jnp.swapaxes(kernel, -1, -2), mask)


def product(p: Product, x: Array, dtype: jnp.dtype) -> Array:
  """(x * mask) @ kernel: x [B, D] -> [B, G], or [K, B, D] -> [K, B, G], in `dtype`."""
  z = _matmul(_masked(x, p.mask, x.ndim), p.kernel, dtype)
  if not p.per_gate:
    return z
  # A step goes on with an axis for the gates, `lay_out`; for a chunk, XLA:CPU is five
  # times as fast at putting gates side by side as at moving their axis.
  return _gates_last(z) if x.ndim == 2 else jnp.concatenate(list(z), -1)


def product_to_x(p: Product, d: Array) -> Array:
  """Gradient of x: d [B, G] -> [B, D], or [K, B, G] -> [K, B, D], in d's dtype."""
  dx = _matmul(_of_gates(p, d), p.transposed, d.dtype)
  dx = _masked(dx, p.mask, d.ndim)
  # Not dx.sum(0), which XLA:CPU fuses with mask and matmul: up to 20 times as slow.
  return functools.reduce(jnp.add, dx) if p.per_gate else dx


def product_to_kernel(p: Product, x: Array, d: Array) -> Array:
  """What a chunk adds to the gradient of the kernel: x [K, B, D], d [K, B, G].

  Returns:
    As `no_sums`; of the sum over chunks, `kernel_gradient` makes the gradient.
  """
  dtype = d.dtype
  d = _of_gates(p, d).astype(p.kernel.dtype)
  x = _masked(x, p.mask, x.ndim).astype(p.kernel.dtype)
  gates, steps, rows = tuple(range(x.ndim - 3)), x.ndim - 3, x.ndim - 2  # axes
  left, right = x, d
  summed: Any = ((steps, rows), (steps, rows))
  if _sums_transposed(p):
    # XLA merges the transpositions of one d for the kernels of x and of h. The barrier
    # keeps it from folding them into the matmuls.
    left = jax.lax.optimization_barrier(jnp.moveaxis(d, -1, -3))  # [..., G, K, B]
    right, summed = x, ((steps + 1, rows + 1), (steps, rows))
  elif not may_be_cut():  # merged, [..., K * B, .]: that saves 5 to 9 % of a step
    left, right = (a.reshape(*a.shape[:steps], -1, a.shape[-1]) for a in (x, d))
    summed = ((steps,), (steps,))
  return jax.lax.dot_general(
    left, right, (summed, (gates, gates)), preferred_element_type=dtype
  )


def no_sums(p: Product, dtype: jnp.dtype) -> Array:
  """Zeros for `product_to_kernel` to be added to."""
  return jnp.zeros_like(p.transposed if _sums_transposed(p) else p.kernel, dtype)


def kernel_gradient(p: Product, sums: Array) -> Array:
  """The gradient of the kernel [D, G], of `product_to_kernel` added up over chunks."""
  if _sums_transposed(p):
    sums = jnp.swapaxes(sums, -1, -2)
  return _gates_last(sums) if p.per_gate else sums


def lay_out(p: Product, z: Array, num_gates: int) -> Array:
  """z [..., num_gates * H], or with masks for each gate [..., num_gates, H].

  XLA:CPU does not vectorise a loop over all gates whose index is taken apart into that
  of the gate and that of the unit, as after a matmul for each gate. Where it need not
  be, a loop over all gates is the faster one.
  """
  return z.reshape(*z.shape[:-1], num_gates, -1) if p.per_gate else z


def gates_together(z: Array) -> Array:
  """z [..., num_gates, H] side by side again: [..., num_gates * H]."""
  return z.reshape(*z.shape[:-2], -1)


def _of_gates(p: Product, d: Array) -> Array:
  """d [..., G] as the kernel has its gates: [n, ..., G / n] with masks for each."""
  return _gates_first(d, len(p.kernel)) if p.per_gate else d


def _gates_first(z: Array, n: int) -> Array:
  """z [..., G] as [n, ..., G / n]."""
  return jnp.moveaxis(z.reshape(*z.shape[:-1], n, -1), -2, 0)


def _gates_last(z: Array) -> Array:
  """z [n, ..., G / n] as [..., G]."""
  return gates_together(jnp.moveaxis(z, 0, -2))


def _masked(x: Array, mask: Array | None, rank: int) -> Array:
  """x of `rank` axes, [B, D] or [K, B, D] behind that of the gates, times its mask."""
  if mask is None:
    return x
  mask = mask if rank == 2 else jnp.expand_dims(mask, -3)
  shape = jnp.broadcast_shapes(x.shape, mask.shape)
  return jnp.broadcast_to(x, shape) * jnp.broadcast_to(mask.astype(x.dtype), shape)


def _matmul(x: Array, kernel: Array, dtype: jnp.dtype) -> Array:
  """x [..., D] @ kernel [D, G], multiplied in the kernel's dtype, added in `dtype`.

  With x [n, ..., D] and kernel [n, D, G] one of each.
  """
  equation = '...d,dg->...g' if kernel.ndim == 2 else 'n...d,ndg->n...g'
  return jnp.einsum(
    equation, x.astype(kernel.dtype), kernel, preferred_element_type=dtype
  )


def _sums_transposed(p: Product) -> bool:
  """Whether the kernel's gradient is added up as d^T x: where d is no wider than x.

  XLA:CPU makes a slow matmul of x^T d there; docs/fast_path.md has the times.
  """
  return p.kernel.shape[-2] >= p.kernel.shape[-1]
