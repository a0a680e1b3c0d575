"""`recur`: the fast twin of `seqjax.scan.recur`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.cells import Cell
from seqjax.fast.derivatives import run
from seqjax.fast.devices import varying_as
from seqjax.fast.forward import Inputs
from seqjax.fast.gru import gru_twin
from seqjax.fast.gru_reset_before import gru_reset_before_twin
from seqjax.fast.lstm import lstm_twin
from seqjax.fast.plan import make_plan
from seqjax.fast.simple_rnn import simple_rnn_twin
from seqjax.fast.source import (
  Constants,
  Dense,
  LookedUpDense,
  Source,
  Table,
  TimeMajorDense,
  take_rows,
)
from seqjax.fast.twin import SLOPES, Twin, gate_scale
from seqjax.types import Array, PyTree

_TWINS = {
  'simple_rnn': simple_rnn_twin,
  'lstm': lstm_twin,
  'gru': gru_twin,
  'gru_reset_before': gru_reset_before_twin,
}


class Lookup(NamedTuple):
  """Inputs that are rows of an embedding, not looked up yet: x = embedding[ids]."""

  ids: Array  # int [..., T]
  embedding: Array  # [V, E]

  @property
  def shape(self) -> tuple[int, ...]:
    """That of x, [..., T, E]."""
    return (*self.ids.shape, self.embedding.shape[-1])

  def rows(self) -> Array:
    """x itself, [..., T, E]; NaN for ids outside [0, V)."""
    return take_rows(self.embedding, self.ids)


def recur(
  cell: Cell,
  params: PyTree,
  x: Array | Lookup,
  carry: PyTree,
  *,
  mask: Array | None = None,
  x_mask: Array | None = None,
  h_mask: Array | None = None,
  go_backwards: bool = False,
  zero_output_for_mask: bool = False,
  return_sequences: bool = True,
  reset: Array | None = None,
  same_carry: bool = False,
  alone: bool = True,
) -> tuple[PyTree, Array | None]:
  """Runs a cell over sequences: values and gradients of `seqjax.scan.recur`.

  Gradients flow to params, x and carry; the masks are constants. Reverse-mode
  differentiation works to any order (from the second on through the reference path);
  forward-mode raises JAX's TypeError for custom_vjp: use the reference path there.

  Args:
    cell: Which equations; `params` and `carry` are its NamedTuples.
    params: Weights, [D, G] and [H, G] and the bias.
    x: Inputs [..., T, D], or a `Lookup`: where that is less work every row of the
      embedding is projected once and the rows of the result are looked up; else the
      rows of a chunk are looked up and projected when it is their turn.
    carry: State before the first step, of [..., H]s.
    mask: bool [..., T], True where a step is real; None: all are. Chunks of time in
      which no row is real cost nothing at either end.
    x_mask: Dropout mask of the inputs, [..., D] or [n, ..., D].
    h_mask: Dropout mask of the recurrent state, [..., H] or [n, ..., H].
    go_backwards: Process from the last step to the first.
    zero_output_for_mask: The output of a masked step is 0, not the one before.
    return_sequences: Whether the outputs of all steps are wanted.
    reset: bool [..., T]; where True the state is zero again before that step.
    same_carry: All rows of `carry` are one, as in a state of zeros. Steps in front at
      which all rows of a `Lookup` have the same id, such as padding, are then run once
      for all of them, if nothing masks or drops, and so is the way back; the gradient
      of `carry` is right in its sum over rows alone.
    alone: No other device of this host runs rows at the same time, as far as one knows
      (True under pmap and in a shard_map of your own, too). Decides the length of the
      chunks, and so the time it takes; the values are those of any length.

  Returns:
    The carry after the last real step, and h of all steps [..., T, H] in the order of
    processing; None without `return_sequences`.

  Raises:
    ValueError: where `supported` gives a reason.
  """
  reason = supported(cell, params, x, carry)
  if reason is not None:
    raise ValueError(f'no fast path: {reason}')
  *batch_shape, T, D = x.shape
  H = carry.h.shape[-1]
  twin = _TWINS[cell.name](cell)
  kind = _kind_of_source(twin, x, x_mask, H)
  plan = make_plan(
    twin,
    B=carry.h.size // H,
    T=T,
    D=0 if kind is None else D,
    H=H,
    return_sequences=return_sequences,
    alone=alone,
  )
  if same_carry and isinstance(x, Lookup) and plan.num_chunks > 1:
    free = all(m is None for m in (mask, reset, x_mask, h_mask))
    plan = plan._replace(shares=free and carry.h.size > H)

  def flat(a: Array, rank: int) -> Array:
    """One batch axis B for `batch_shape`, `rank` axes behind it."""
    behind = a.shape[a.ndim - rank :]
    front = a.shape[: a.ndim - rank - len(batch_shape)]
    return a.reshape(*front, -1, *behind)

  def in_order(a: Array) -> Array:
    """[B, T, ...] in the order of processing, padded to whole chunks."""
    a = jnp.flip(a, 1) if go_backwards else a
    more = plan.padded - T
    return jnp.pad(a, [(0, 0), (0, more)] + [(0, 0)] * (a.ndim - 2)) if more else a

  def time_major(a: Array) -> Array:
    """[..., T] as [T, B], in the order of processing."""
    return in_order(flat(a, 1)).T

  if isinstance(x, Lookup):
    ids = time_major(x.ids)
    values = varying_as(x.ids, x.embedding)
  else:
    ids, values = None, in_order(flat(x, 2))
  like = values if ids is None else ids
  inputs = _scaled_inputs(
    twin,
    varying_as(like, params),
    values,
    jax.tree.map(lambda c: flat(c, 1), varying_as(like, carry)),
    kind,
  )
  constants = Constants(
    ids=ids,
    x_mask=None if x_mask is None else flat(x_mask, 1),
    h_mask=None if h_mask is None else flat(h_mask, 1),
    real=None if mask is None else time_major(mask),
    carried=None if reset is None else ~time_major(reset),
  )
  carry, ys = run(plan, inputs, constants)
  carry = jax.tree.map(lambda c: c.reshape(*batch_shape, H), carry)
  if ys is None:
    return carry, None
  if zero_output_for_mask and constants.real is not None:
    ys = jnp.where(jnp.broadcast_to(constants.real[:T, :, None], ys.shape), ys, 0)
  ys = jnp.swapaxes(ys, 0, 1)  # [B, T, H]
  return carry, ys.reshape(*batch_shape, T, H)


def supported(
  cell: Cell,
  params: PyTree,
  x: Array | Lookup,
  carry: PyTree,
) -> str | None:
  """Why `recur` can't run this, or None if it can.

  It can where the gates are sigmoids, the LSTM's activation is tanh and another cell's
  is tanh, relu, sigmoid or linear, and the carry is as wide as inputs and weights.
  """
  if cell.name not in _TWINS:
    return f'the cell {cell.name!r} has no twin'
  if cell.recurrent_activation not in (None, jax.nn.sigmoid):
    return 'the recurrent activation is not sigmoid'
  if cell.name == 'lstm' and cell.activation is not jnp.tanh:
    return "an LSTM's activation has to be tanh"
  if cell.activation not in SLOPES:
    return 'the activation is not tanh, relu, sigmoid or linear'
  if 0 in (*x.shape, *carry.h.shape):
    return f'x {x.shape} is empty'
  values = x.embedding if isinstance(x, Lookup) else x
  widest = jnp.result_type(values, *jax.tree.leaves(params))
  if jnp.promote_types(widest, carry.h.dtype) != carry.h.dtype:
    return f'the carry is {carry.h.dtype}, narrower than {widest}'
  return None


def _kind_of_source(
  twin: Twin, x: Array | Lookup, x_mask: Array | None, H: int
) -> type[Dense] | None:
  """Which source of projected inputs is the least work; None: a `Table`.

  An embedding is projected first, to be looked up then, without dropout on its rows and
  where there are fewer of them than steps to project.

  Given inputs are transposed before the steps run, if they are no wider than the units
  of a SimpleRNN: that does so little in a step that it shows, 9.5 ms instead of the
  10.1 it takes chunk by chunk (B 128, T 500, D 32, H 32). Elsewhere that is up to 6 %
  slower, and takes memory.
  """
  if isinstance(x, Lookup):
    pays = x_mask is None and len(x.embedding) <= x.ids.size
    return None if pays else LookedUpDense
  return TimeMajorDense if twin.num_gates == 1 and x.shape[-1] <= H else Dense


def _scaled_inputs(
  twin: Twin, params: PyTree, x: Array, carry: PyTree, kind: type[Dense] | None
) -> Inputs:
  """Inputs with the halves of the sigmoids in the weights (exact: powers of two).

  `x` is [B, T, D] or the embedding [V, E].
  """
  kernel, recurrent_kernel, bias = params
  scale = gate_scale(twin, carry.h.shape[-1])

  def scaled(a: Array) -> Array:
    return a * jnp.broadcast_to(scale, a.shape).astype(a.dtype)

  recurrent_bias = None
  if bias is not None:
    bias = scaled(bias)
    if bias.ndim == 2:
      bias, recurrent_bias = bias
  source: Source
  if kind is None:
    rows = x @ scaled(kernel)  # [V, G]
    source = Table(rows if bias is None else rows + jnp.broadcast_to(bias, rows.shape))
  else:
    if kind is TimeMajorDense:
      x = jnp.swapaxes(x, 0, 1)  # [T, B, D]
    source = kind(x, scaled(kernel), bias)
  return Inputs(source, scaled(recurrent_kernel), recurrent_bias, carry)
