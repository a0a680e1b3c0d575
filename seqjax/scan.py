"""The only loop over time."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from seqjax.cells import Cell
from seqjax.types import Array, PyTree


def recur(
  cell: Cell,
  params: PyTree,
  x: Array,
  carry: PyTree,
  *,
  mask: Array | None = None,
  x_mask: Array | None = None,
  h_mask: Array | None = None,
  go_backwards: bool = False,
  zero_output_for_mask: bool = False,
) -> tuple[PyTree, Array]:
  """Runs a cell over sequences: one matmul for all inputs, then a step at a time.

  Args:
    cell: Which equations; `params` and `carry` are its NamedTuples.
    params: Weights, [D, G] and [H, G] and the bias.
    x: Inputs [..., T, D].
    carry: State before the first step, of [..., H]s.
    mask: bool [..., T], True where a step is real; None: all are.
    x_mask: Dropout mask of the inputs, [..., D] or [n, ..., D].
    h_mask: Dropout mask of the recurrent state, [..., H] or [n, ..., H].
    go_backwards: Process from the last step to the first.
    zero_output_for_mask: The output of a masked step is 0, not the one before.

  Returns:
    The carry after the last real step, and h of all steps [..., T, H] in the order of
    processing.
  """
  step = functools.partial(cell.step, params, h_mask=h_mask)
  return scan_time(
    step,
    carry,
    cell.project(params, x, x_mask),
    mask,
    go_backwards=go_backwards,
    zero_output_for_mask=zero_output_for_mask,
  )


def scan_time(
  step: Callable[[PyTree, Array], PyTree],
  carry: PyTree,
  x: Array,
  mask: Array | None = None,
  *,
  go_backwards: bool = False,
  zero_output_for_mask: bool = False,
) -> tuple[PyTree, Array]:
  """Applies `step` along axis -2 of x.

  A masked step carries the state through unchanged, and its output is the h it carries:
  the output before it, or at the start the h of the initial carry.

  Args:
    step: (carry, x of one step [..., G]) -> carry; the carry's field `h` is the output.
    carry: NamedTuple of [..., H]s.
    x: [..., T, G].
    mask: bool [..., T].
    go_backwards: Process from the last step to the first.
    zero_output_for_mask: The output of a masked step is 0.

  Returns:
    (carry after the last step, h of all steps [..., T, H] in the order of processing).
  """

  def body(carry: PyTree, inputs: tuple[Array, Array | None]) -> tuple[PyTree, Array]:
    x, real = inputs
    new = step(carry, x)
    if real is None:
      return new, new.h
    new = jax.tree.map(functools.partial(_select, real), new, carry)
    h = _select(real, new.h, jnp.zeros_like(new.h)) if zero_output_for_mask else new.h
    return new, h

  xs = jnp.moveaxis(x, -2, 0)  # [T, ..., G]
  masks = None if mask is None else jnp.moveaxis(mask, -1, 0)  # [T, ...]
  carry, ys = jax.lax.scan(body, carry, (xs, masks), reverse=go_backwards)
  if go_backwards:
    ys = jnp.flip(ys, 0)
  return carry, jnp.moveaxis(ys, 0, -2)  # [..., T, H]


def _select(real: Array, new: Array, old: Array) -> Array:
  """Rows of `new` [..., H] where `real` [...] holds, else of `old`."""
  return jnp.where(jnp.broadcast_to(jnp.expand_dims(real, -1), new.shape), new, old)
