"""`recur`: the recurrence by the fastest path that can run it, and which that is."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from seqjax import scan
from seqjax.cells import Cell
from seqjax.fast import kernels
from seqjax.fast.cpu import library
from seqjax.fast.devices import over_devices
from seqjax.fast.gpu import launch as gpu_launch
from seqjax.fast.gpu import lowering
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
    ValueError: if `implementation` is 'fast' and that can't run; it says why. If an
      array's shape does not fit the others, or `bptt_steps` or `remat_chunk` is less
      than 1; it has its name.
  """
  scan.check_lengths(bptt_steps=options.bptt_steps, remat_chunk=options.remat_chunk)
  _check_sizes(cell, params, sequence)
  name, reason = path(cell, params, sequence, options, implementation)
  if name == 'reference' and implementation == 'fast':
    raise ValueError(f"implementation='fast' can't run: {reason}")
  one = scan.recur if name == 'reference' else _by_kernels
  return over_devices(lambda p, s: one(cell, p, s, options), params, sequence)


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
  if reason is None and gpu_launch.has_gpu() and backend != 'cpu':
    return lowering.path(cell, params, sequence, options)
  if reason is None and backend != 'cpu':
    reason = f'there are no kernels for {backend}'
  build, missing = library.loaded() if reason is None else (None, reason)
  return ('cpu', f'kernels for {build}') if build else ('reference', missing)


def path_of(layer: Any, x: Any) -> tuple[str, str]:
  """Which path a SimpleRNN, LSTM or GRU takes for inputs, and why, as `path` says it.

  Args:
    layer: The layer; its variables are not needed.
    x: What it is called with, [..., T, D] or a `Lookup`; shapes will do.
  """
  H, D = layer.features, x.shape[-1]
  G = layer.cell().num_gates * H
  values = Sequence(x).values
  dtype = layer.dtype or jnp.result_type(values.dtype, layer.param_dtype)
  dtype = jax.dtypes.canonicalize_dtype(dtype)

  def like(*shape: int) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)

  params = layer.params_type(like(D, G), like(H, G), None)
  values = like(*values.shape)
  x = Lookup(x.ids, values) if isinstance(x, Lookup) else values
  options = Options(remat_chunk=layer.remat_chunk)
  return path(layer.cell(), params, Sequence(x), options, layer.implementation)


def check_implementation(implementation: str) -> None:
  """Raises ValueError unless it is one of `IMPLEMENTATIONS`."""
  if implementation not in IMPLEMENTATIONS:
    raise ValueError(
      f'implementation must be one of {", ".join(IMPLEMENTATIONS)}, '
      f'got {implementation!r}'
    )


def _check_sizes(cell: Cell, params: PyTree, sequence: Sequence) -> None:
  *batch, T, D = sequence.x.shape
  H = params.recurrent_kernel.shape[0]
  carry = {} if sequence.carry is None else sequence.carry._asdict()
  sizes = {'mask': T, 'reset': T, 'x_mask': D, 'h_mask': H, **dict.fromkeys(carry, H)}
  for name, array in {**sequence._asdict(), **carry}.items():
    if name not in sizes or array is None:
      continue
    got, expected = tuple(array.shape), (*batch, sizes[name])
    # Dropout masks may have an axis for the gates in front.
    several = name[1:] == '_mask' and got[:1] in ((1,), (cell.num_gates,))
    if got != expected and not (several and got[1:] == expected):
      raise ValueError(f'{name} does not fit: {got}, expected {expected}')


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
  if isinstance(x, Lookup) or len(batch) != 1 or gpu_launch.has_gpu():
    options = options._replace(time_first=False)

  def turned(a: Array) -> Array:
    return jnp.swapaxes(a, 0, 1) if options.time_first else a

  def flat(a: Array, behind: int) -> Array:
    """[..., B, ...], with so many axes behind the batch's, whatever these are."""
    end = a.ndim - behind
    return a.reshape(*a.shape[: end - len(batch)], -1, *a.shape[end:])

  arrays: dict[str, Any] = params._asdict()
  if params.bias is not None:
    arrays['bias'] = params.bias.reshape(-1, params.bias.shape[-1])
  if carry is not None:
    arrays |= {k: flat(c, 1) for k, c in carry._asdict().items()}
  if isinstance(x, Lookup):
    arrays |= {'x': x.embedding, 'ids': flat(x.ids.astype(jnp.int32), 1)}
  else:
    arrays['x'] = turned(flat(x, 2))
  for name in ('mask', 'reset'):
    if (flags := getattr(sequence, name)) is not None:
      arrays[name] = turned(flat(flags.astype(bool), 1))
  for name in ('x_mask', 'h_mask'):
    if (mask := getattr(sequence, name)) is not None:
      arrays[name] = flat(mask if mask.ndim > len(batch) + 1 else mask[None], 1)
  arrays = {  # of one model
    k: a[None] if k in ('ids', 'mask', 'reset') else a[None].astype(jnp.float32)
    for k, a in arrays.items()
    if a is not None
  }
  precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
  static = Static(cell, options, precision=precision)
  outputs = kernels.run(static, arrays)
  last = cell.carry(*(outputs[k].reshape(*batch, -1) for k in static.fields))
  if not options.return_sequences:
    return last, None
  if options.time_first:
    return last, turned(outputs['ys'].reshape(T, *batch, -1))
  return last, outputs['ys'].reshape(*batch, T, -1)
