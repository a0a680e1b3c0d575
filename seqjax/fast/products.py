"""Matrix products whose left operand is masked, with one mask or one for each gate.

`product(p, x)` is (x * mask[g]) @ kernel[g], the gates side by side. Its two
transposes, for the gradients of x and of the kernel, stand beside it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from seqjax.types import Array


class Product(NamedTuple):
  """A kernel and the dropout masks of what it multiplies.

  Either one entry, for all gates, or one for each gate: a kernel can't be scaled row by
  row of the batch, so gates with masks of their own are matmuls of their own. Four
  matmuls [B, H] x [H, H] are 1.4 times as slow as one [B, H] x [H, 4H]; one with a
  block-diagonal [4H, 4H] is 2.5 times, a batched one 1.8 times as slow (B 128, H 32).
  """

  kernels: tuple[Array, ...]  # [D, G] in all
  transposed: tuple[Array, ...]  # the same, [G, D] in all
  masks: tuple[Array | None, ...]  # [B, D] each


def make_product(kernel: Array, mask: Array | None) -> Product:
  """The product with `kernel` [D, G]; mask [B, D], [n, B, D] or None."""
  if mask is None or mask.ndim == 2:
    return Product((kernel,), (kernel.T,), (mask,))
  kernels = tuple(jnp.split(kernel, mask.shape[0], axis=-1))
  return Product(kernels, tuple(k.T for k in kernels), tuple(mask))


def product(p: Product, x: Array, dtype: jnp.dtype) -> Array:
  """(x * mask) @ kernel: x [B, D] -> [B, G], or [B, K, D] -> [B, K, G], in `dtype`."""
  return side_by_side(
    [
      _matmul(_masked(x, mask), kernel, dtype)
      for kernel, mask in zip(p.kernels, p.masks, strict=True)
    ]
  )


def product_to_x(p: Product, d: Array) -> Array:
  """Gradient of x: d [B, G] -> [B, D], or [B, K, G] -> [B, K, D], in d's dtype."""
  parts = jnp.split(d, len(p.kernels), axis=-1)
  terms = [
    _masked(_matmul(part, kernel, d.dtype), mask)
    for part, kernel, mask in zip(parts, p.transposed, p.masks, strict=True)
  ]
  return sum(terms[1:], start=terms[0])


def product_to_kernel(p: Product, x: Array, d: Array) -> tuple[Array, ...]:
  """Gradients of the kernels: x [B, K, D], d [B, K, G] -> [D, G] in all, in d's dtype.

  They stay apart until all chunks are added up: one concatenation, not one a chunk.
  """
  parts = jnp.split(d, len(p.kernels), axis=-1)
  return tuple(
    _outer(_masked(x, mask), part, p.kernels[0].dtype)
    for part, mask in zip(parts, p.masks, strict=True)
  )


def side_by_side(parts: Sequence[Array]) -> Array:
  """Parts of a gate width, [..., G] in all."""
  return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)


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
