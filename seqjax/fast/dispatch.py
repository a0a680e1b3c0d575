"""`recur`: the recurrence by the fastest path that can run it, and which that is."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from seqjax import scan
from seqjax.cells import Cell
from seqjax.fast import kernels
from seqjax.fast.cpu import library
from seqjax.fast.devices import over_devices
from seqjax.fast.gpu import launch as gpu_launch
from seqjax.fast.gpu import recur as gpu
from seqjax.fast.problem import ACTIVATIONS, CELLS, Static
from seqjax.scan import USUAL, Lookup, Options, Sequence
from seqjax.types import Array, PyTree

IMPLEMENTATIONS = ('auto', 'fast', 'reference')


def recur(
  cell: Cell,
  params: PyTree,
  sequence: Sequence,
  options: Options = USUAL,
  implementation: str = 'auto',
) -> tuple[PyTree, Array | None]:
  """Runs a cell over sequences: values and gradients of `scan.recur`, sooner.

  Where a mesh is set whose only axis is the batch's, each of its devices runs its rows.
  Gradients flow to params, inputs and carry; masks are constants. Both modes go to any
  order; the first gradient is the kernels', all others the reference's.

  Args:
    cell: Which equations; `params` and the carry are its NamedTuples.
    params: Weights, [D, G] and [H, G] and the bias.
    sequence: Inputs, first carry and masks.
    options: How to run.
    implementation: 'fast', 'reference', or 'auto': 'fast' wherever it can run.

  Returns:
    The carry after the last real step, and h of all steps [..., T, H] in the order of
    processing, or None without `return_sequences`.

  Raises:
    ValueError: if `implementation` is 'fast' and that can't run; it says why.
  """
  name, reason = path(cell, params, sequence, options, implementation)
  if name == 'reference' and implementation == 'fast':
    raise ValueError(f"implementation='fast' can't run: {reason}")
  one = scan.recur if name == 'reference' else _by_kernels

  def run(params: PyTree, sequence: Sequence) -> tuple[PyTree, Array | None]:
    return one(cell, params, sequence, options)

  return over_devices(run, params, sequence)


def path(
  cell: Cell,
  params: PyTree,
  sequence: Sequence,
  options: Options = USUAL,
  implementation: str = 'auto',
) -> tuple[str, str]:
  """Which path `recur` takes, and why: ('cpu', 'kernels for x86-64-v4').

  Arguments are those of `recur`; shapes (jax.ShapeDtypeStruct) will do for arrays. It
  is the default backend's view: a program that is placed on another platform takes the
  kernels of that one, or the reference.
  """
  check_implementation(implementation)
  if implementation == 'reference':
    return 'reference', "implementation='reference'"
  reason = _unsupported(cell, params, sequence)
  backend = jax.default_backend()
  if reason is None and kernels.has_gpu() and backend != 'cpu':
    *batch, T, _ = sequence.x.shape
    H = params.recurrent_kernel.shape[0]
    reason = gpu.unsupported(cell, options, math.prod(batch), T, H)
    reason = reason or gpu_launch.missing()
    return ('reference', reason) if reason else ('gpu', 'kernels in CUDA')
  if reason is None and backend != 'cpu':
    reason = f'there are no kernels for {backend}'
  build, missing = library.loaded() if reason is None else (None, reason)
  return ('cpu', f'kernels for {build}') if build else ('reference', missing)


def check_implementation(implementation: str) -> None:
  """Raises ValueError unless it is one of `IMPLEMENTATIONS`."""
  if implementation not in IMPLEMENTATIONS:
    raise ValueError(
      f'implementation must be one of {", ".join(IMPLEMENTATIONS)}, '
      f'got {implementation!r}'
    )


def _unsupported(cell: Cell, params: PyTree, sequence: Sequence) -> str | None:
  """Why the kernels can't compute this, on any machine; None if they can."""
  if cell.name not in CELLS:
    return f'there is no kernel for the cell {cell.name!r}'
  for activation in (cell.activation, cell.recurrent_activation):
    if activation is not None and activation not in ACTIVATIONS:
      return f'the kernels do not know the activation {activation!r}'
  x = sequence.x
  sizes = (*x.shape, params.recurrent_kernel.shape[0], *sequence.values.shape)
  if not all(isinstance(size, int) for size in sizes):
    return f'x {x.shape} has sizes without a number'
  if 0 in sizes:
    return f'x {x.shape} is empty'
  for array in jax.tree.leaves((params, sequence.values, sequence.carry)):
    if array.dtype not in (jnp.float32, jnp.bfloat16, jnp.float16):
      return f'it computes in float32, and was given {array.dtype}'
  for array in jax.tree.leaves(sequence.carry):
    if array.dtype != jnp.float32:
      return f'the carry is {array.dtype}, narrower than float32'
  return None


@functools.partial(jax.jit, static_argnums=(0, 3))
def _by_kernels(
  cell: Cell, params: PyTree, sequence: Sequence, options: Options
) -> tuple[PyTree, Array | None]:
  x, carry = sequence.x, sequence.carry
  *batch, T, _ = x.shape
  B, H = math.prod(batch), params.recurrent_kernel.shape[0]
  if isinstance(x, Lookup) or len(batch) != 1 or kernels.has_gpu():
    options = options._replace(time_first=False)

  def turned(a: Array) -> Array:
    return jnp.swapaxes(a, 0, 1) if options.time_first else a

  def flat(a: Array, *behind: int) -> Array:
    """[1, ..., B, *behind], whatever the batch's axes are."""
    front = a.shape[: a.ndim - len(behind) - len(batch)]
    return a.reshape(1, *front, B, *behind)

  arrays: dict[str, Any] = {
    'recurrent_kernel': params.recurrent_kernel[None],
    'kernel': params.kernel[None],
    'mask': sequence.mask,
    'reset': sequence.reset,
    'x_mask': sequence.x_mask,
    'h_mask': sequence.h_mask,
  }
  if isinstance(x, Lookup):
    arrays |= {'x': x.embedding[None], 'ids': flat(x.ids.astype(jnp.int32), T)}
  else:
    arrays['x'] = turned(x)[None] if options.time_first else flat(x, T, x.shape[-1])
  if params.bias is not None:
    arrays['bias'] = params.bias.reshape(1, -1, params.bias.shape[-1])
  if carry is not None:
    arrays |= {k: flat(c, H) for k, c in carry._asdict().items()}
  for name in ('mask', 'reset'):
    if arrays[name] is not None:
      flags = arrays[name].astype(bool)
      arrays[name] = turned(flags)[None] if options.time_first else flat(flags, T)
  for name in ('x_mask', 'h_mask'):
    if (mask := arrays[name]) is not None:
      mask = mask if mask.ndim > len(batch) + 1 else mask[None]
      arrays[name] = flat(mask, mask.shape[-1])
  arrays = {
    k: a.astype(jnp.float32) if jnp.issubdtype(a.dtype, jnp.floating) else a
    for k, a in arrays.items()
    if a is not None
  }
  precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
  outputs = kernels.run(Static(cell, options, precision=precision), arrays)
  last = cell.carry(
    *(outputs[k].reshape(*batch, H) for k in cell.carry._fields)  # type: ignore[attr-defined]
  )
  if not options.return_sequences:
    return last, None
  if options.time_first:
    return last, turned(outputs['ys'].reshape(T, B, H))
  return last, outputs['ys'].reshape(*batch, T, H)
