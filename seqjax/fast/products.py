"""Matrix products whose left operand is masked, with one mask or one for each gate.

`product(p, x)` is (x * mask[g]) @ kernel[g], the gates side by side. Its two
transposes, for the gradients of x and of the kernel, stand beside it.

A kernel can't be scaled row by row of the batch, so gates with masks of their own are
matmuls of their own. A step of an LSTM with four matmuls [B, H] x [H, H] takes 1.3
times as long as with one [B, H] x [H, 4H]; with a block-diagonal [4H, 4H] 2.4 times,
with a batched one 1.7 times (B 64, H 32). A chunk of K steps can do better where
kernels are small: with a kernel for each row of the batch, the masks folded in, it is
[K, D] x [D, G] for each row, and nothing is masked or put side by side.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax.types import Array

# Kernels of rows pay where they are about as large as a chunk of inputs and fit in a
# core's cache: with masks for each gate, an LSTM of B 64, T 500, H 32 takes 46 ms on a
# core where it took 52; but one of B 128 takes 140, not 128, and of B 64, H 64 the
# chunks take 1.4 times as long.
FOLD_UP_TO = 32  # D
FOLD_BYTES = 2**20  # of the kernels of all rows


class Product(NamedTuple):
  """A kernel and the dropout masks of what it multiplies: one, or one for each gate."""

  kernels: tuple[Array, ...]  # [D, G] in all
  transposed: tuple[Array, ...]  # the same, [G, D] in all
  masks: tuple[Array | None, ...]  # [B, D] each
  of_rows: Array | None = None  # [B, D, G] kernels with the masks folded in
  of_rows_transposed: Array | None = None  # [B, G, D]


def folds(B: int, D: int, G: int) -> bool:
  """Whether kernels [D, G] with masks for each gate become one for each row of B."""
  return D <= FOLD_UP_TO and 4 * B * D * G <= FOLD_BYTES


def make_product(kernel: Array, mask: Array | None) -> Product:
  """The product with `kernel` [D, G]; mask [B, D], [n, B, D] or None."""
  if mask is None or mask.ndim == 2:
    return Product((kernel,), (kernel.T,), (mask,))
  kernels = tuple(jnp.split(kernel, mask.shape[0], axis=-1))
  made = Product(kernels, tuple(k.T for k in kernels), tuple(mask))
  if not folds(mask.shape[1], *kernel.shape):
    return made
  of_rows = _of_rows(made.masks, [k[None] for k in kernels])
  return made._replace(
    of_rows=of_rows, of_rows_transposed=jnp.swapaxes(of_rows, -1, -2)
  )


def product(p: Product, x: Array, dtype: jnp.dtype) -> Array:
  """(x * mask) @ kernel: x [B, D] -> [B, G], or [B, K, D] -> [B, K, G], in `dtype`."""
  if p.of_rows is not None and x.ndim == 3:
    return _matmul(x, p.of_rows, dtype)
  return side_by_side(
    [
      _matmul(_masked(x, mask), kernel, dtype)
      for kernel, mask in zip(p.kernels, p.masks, strict=True)
    ]
  )


def product_to_x(p: Product, d: Array) -> Array:
  """Gradient of x: d [B, G] -> [B, D], or [B, K, G] -> [B, K, D], in d's dtype."""
  if p.of_rows_transposed is not None and d.ndim == 3:
    return _matmul(d, p.of_rows_transposed, d.dtype)
  parts = jnp.split(d, len(p.kernels), axis=-1)
  terms = [
    _masked(_matmul(part, kernel, d.dtype), mask)
    for part, kernel, mask in zip(parts, p.transposed, p.masks, strict=True)
  ]
  return sum(terms[1:], start=terms[0])


def product_to_kernel(p: Product, x: Array, d: Array) -> tuple[Array, ...]:
  """What a chunk adds to the gradient of the kernel: x [B, K, D], d [B, K, G].

  Sums over all chunks are for `kernel_gradient`, which then finishes them: [D, G] in
  all, or [B, D, G] where each row of the batch has a kernel; in d's dtype.
  """
  if p.of_rows is not None:
    dtype = p.of_rows.dtype
    # Transposed first: XLA:CPU is 1.2 times as fast as when the matmul does that too.
    steps = jax.lax.optimization_barrier(jnp.swapaxes(x, -1, -2).astype(dtype))
    return (jnp.matmul(steps, d.astype(dtype), preferred_element_type=d.dtype),)
  parts = jnp.split(d, len(p.kernels), axis=-1)
  return tuple(
    _outer(_masked(x, mask), part, p.kernels[0].dtype)
    for part, mask in zip(parts, p.masks, strict=True)
  )


def kernel_gradient(p: Product, sums: tuple[Array, ...]) -> Array:
  """The gradient of the kernel [D, G], of `product_to_kernel` added up over chunks."""
  if p.of_rows is not None:
    parts = jnp.split(sums[0], len(p.masks), axis=-1)
    return _of_rows(p.masks, parts).sum(0)
  return side_by_side(sums)


def side_by_side(parts: Sequence[Array]) -> Array:
  """Parts of a gate width, [..., G] in all."""
  return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)


def _of_rows(masks: Sequence[Any], parts: Sequence[Array]) -> Array:
  """mask [B, D] times part [B or 1, D, H], of each gate, side by side: [B, D, G]."""
  return side_by_side(
    [
      part * mask[..., None].astype(part.dtype)
      for mask, part in zip(masks, parts, strict=True)
    ]
  )


def _masked(x: Array, mask: Array | None) -> Array:
  if mask is None:
    return x
  mask = mask if x.ndim == mask.ndim else mask[:, None]
  return x * jnp.broadcast_to(mask.astype(x.dtype), x.shape)


def _matmul(x: Array, kernel: Array, dtype: jnp.dtype) -> Array:
  """x [..., D] @ kernel [D, G], multiplied in the kernel's dtype, added in `dtype`."""
  return jnp.matmul(x.astype(kernel.dtype), kernel, preferred_element_type=dtype)


def _outer(x: Array, d: Array, dtype: jnp.dtype) -> Array:
  """Sum over rows of x [..., D] and d [..., G]: [D, G], in d's dtype."""
  # Rows as one axis, B first: an axis cut over devices may be merged as the major one.
  x_rows = x.reshape(-1, x.shape[-1]).astype(dtype)
  d_rows = d.reshape(-1, d.shape[-1]).astype(dtype)
  return jnp.matmul(x_rows.T, d_rows, preferred_element_type=d.dtype)
