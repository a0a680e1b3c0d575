"""The recurrence: what it is asked, and the loop that all other paths equal.

In a step that a mask leaves out the state goes on as it is.

Example:
  >>> cell, x = sj.cells.simple_rnn(), jnp.ones((2, 5, 3))
  >>> kernels = jnp.ones((3, 4)), jnp.ones((4, 4))
  >>> params = sj.cells.SimpleRNNParams(*kernels, bias=jnp.zeros(4))
  >>> carry, y = sj.scan.recur(cell, params, sj.scan.Sequence(x))
  >>> carry.h.shape, y.shape
  ((2, 4), (2, 5, 4))
"""

import functools
import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType

from seqjax.cells import ACTIVATIONS, Cell, zero_carry
from seqjax.types import Array, PyTree


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
    V = len(self.embedding)
    # As an index, a negative id would count from the end.
    ids = jnp.where(self.ids < 0, V, self.ids)
    return jnp.take(self.embedding, ids, axis=0, mode='fill')


class Sequence(NamedTuple):
  """What a recurrence runs over. None: not there."""

  x: Array | Lookup  # [..., T, D]
  carry: PyTree = None  # of [..., H]s, before the first step; None: zeros
  mask: Array | None = None  # bool [..., T], True where a step is real
  reset: Array | None = None  # bool [..., T]; True: the state is zero before that step
  x_mask: Array | None = None  # dropout of the inputs, [..., D] or [n, ..., D]
  h_mask: Array | None = None  # of the recurrent state, [..., H] or [n, ..., H]

  @property
  def values(self) -> Array:
    """The numbers behind x: x itself, or the embedding."""
    return self.x.embedding if isinstance(self.x, Lookup) else self.x


class Options(NamedTuple):
  """How it runs; each is part of the compiled program."""

  go_backwards: bool = False  # from the last step to the first
  zero_output_for_mask: bool = False  # a masked step's output is 0, not the one before
  return_sequences: bool = True  # h of all steps is wanted
  bptt_steps: int | None = None  # as in `scan_time`
  remat_chunk: int | None = None  # likewise
  time_first: bool = False  # in memory x and y are [T, B, .]: faster where they are


USUAL = Options()


def recur(
  cell: Cell, params: PyTree, sequence: Sequence, options: Options = USUAL
) -> tuple[PyTree, Array | None]:
  """Runs a cell over sequences: one matmul for all inputs, then a step at a time.

  This is the reference: `fast.recur` has the same signature and computes the same.

  Args:
    cell: Which equations; `params` and the carry are its NamedTuples.
    params: Weights, [D, G] and [H, G] and the bias.
    sequence: Inputs, first carry and masks.
    options: How to run. With `remat_chunk` inputs are projected chunk by chunk too.

  Returns:
    The carry after the last real step, and h of all steps [..., T, H] in the order of
    processing, or None without `return_sequences`.

  Raises:
    ValueError: if `bptt_steps` or `remat_chunk` is less than 1.
  """
  # Called outside of a jit, a known cell is compiled once and not anew at each call.
  run = _jitted if cell.activation in _KNOWN else _recur
  return run(cell, params, sequence, options)


def _recur(
  cell: Cell, params: PyTree, sequence: Sequence, options: Options
) -> tuple[PyTree, Array | None]:
  x = sequence.x.rows() if isinstance(sequence.x, Lookup) else sequence.x
  carry, ys = scan_time(
    functools.partial(cell.step, params, h_mask=sequence.h_mask),
    first_carry(cell, params, sequence),
    x,
    sequence.mask,
    project=lambda x: cell.project(params, x, sequence.x_mask),
    go_backwards=options.go_backwards,
    zero_output_for_mask=options.zero_output_for_mask,
    reset=sequence.reset,
    bptt_steps=options.bptt_steps,
    remat_chunk=options.remat_chunk,
  )
  return carry, ys if options.return_sequences else None


_jitted = jax.jit(_recur, static_argnums=(0, 3))
_KNOWN = frozenset(ACTIVATIONS.values())


def first_carry(cell: Cell, params: PyTree, sequence: Sequence) -> PyTree:
  """The carry before the first step: zeros, float32 or wider, where none is given."""
  if sequence.carry is not None:
    return sequence.carry
  weights = [sequence.values, *jax.tree.leaves(params)]
  dtype = jnp.promote_types(jnp.float32, jnp.result_type(*weights))
  H = params.recurrent_kernel.shape[0]
  zeros = zero_carry(cell, (*sequence.x.shape[:-2], H), dtype)
  # Made of the inputs: in a shard_map they vary over the same axes of the mesh.
  like = sequence.x.ids if isinstance(sequence.x, Lookup) else sequence.x
  return jax.tree.map(lambda zero: jnp.zeros_like(like, zero.dtype, zero.shape), zeros)


def varying_as(like: Array, tree: PyTree) -> PyTree:
  """`tree`; within a shard_map it varies over the same axes of the mesh as `like`.

  So one operation may take them, and gradients of weights are added up over the devices
  once, behind it. XLA drops the zeros; outside of a shard_map nothing is added.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if AxisType.Manual not in mesh.axis_types:
    return tree

  def varying(a: Array) -> Array:
    if a.dtype == bool:
      return a | jnp.zeros_like(like, bool, a.shape)
    return a + jnp.zeros_like(like, a.dtype, a.shape)

  return jax.tree.map(varying, tree)


def scan_time(
  step: Callable[..., PyTree],
  carry: PyTree,
  x: PyTree,
  mask: Array | None = None,
  *,
  project: Callable[[PyTree], PyTree] | None = None,
  go_backwards: bool = False,
  zero_output_for_mask: bool = False,
  reset: Array | None = None,
  bptt_steps: int | None = None,
  remat_chunk: int | None = None,
  key: Array | None = None,
  output: Callable[[PyTree], PyTree] = operator.attrgetter('h'),
) -> tuple[PyTree, PyTree]:
  """Applies `step` along axis -2 of x.

  A masked step carries the state through unchanged, and its output is that of the state
  it carries: the output before it, or at the start that of the initial carry.

  Args:
    step: (carry, x of one step [..., G]) -> carry. With `key` it is (carry, x, key of
      the step) -> carry.
    carry: NamedTuple of [..., H]s.
    x: [..., T, G], or a tree of such arrays.
    mask: bool [..., T].
    project: What to do to x [..., T, D] first, for many steps at once -> [..., T, G].
    go_backwards: Process from the last step to the first.
    zero_output_for_mask: The output of a masked step is 0.
    reset: bool [..., T]; where True the state is set to zero before that step is
      processed. A masked step then carries the zeros.
    bptt_steps: Gradients stop every so many steps of processing, masked ones counted:
      truncated backpropagation through time. Values do not change.
    remat_chunk: Keep only every so manieth carry for the backward pass and compute the
      rest again, chunk by chunk: memory O(T / k + k) for O(T), a second forward pass.
    key: PRNG key, split once for each step of processing.
    output: What of the carry is the output of a step, an array or a tree of them.

  Returns:
    (carry after the last step, outputs of all steps [..., T, H] in the order of
    processing).

  Raises:
    ValueError: if `bptt_steps` or `remat_chunk` is less than 1.

  Sources: Williams & Peng 1990 (truncated backpropagation through time); Chen et al.
  2016, arXiv:1604.06174 (memory for a second forward pass).
  """
  check_lengths(bptt_steps=bptt_steps, remat_chunk=remat_chunk)

  def body(carry: PyTree, now: _Steps) -> tuple[PyTree, PyTree]:
    if now.cut is not None:
      cut = now.cut
      carry = jax.tree.map(lambda c: jnp.where(cut, jax.lax.stop_gradient(c), c), carry)
    if now.reset is not None:
      carry = _select(now.reset, jax.tree.map(jnp.zeros_like, carry), carry)
    new = step(carry, now.x) if now.key is None else step(carry, now.x, now.key)
    if now.real is None:
      return new, output(new)
    new = _select(now.real, new, carry)
    y = output(new)
    if zero_output_for_mask:
      y = _select(now.real, y, jax.tree.map(jnp.zeros_like, y))
    return new, y

  def run(carry: PyTree, steps: _Steps) -> tuple[PyTree, PyTree]:
    if project is not None:
      x = project(jax.tree.map(lambda a: jnp.moveaxis(a, 0, -2), steps.x))
      steps = steps._replace(x=jax.tree.map(lambda a: jnp.moveaxis(a, -2, 0), x))
    return jax.lax.scan(body, carry, steps)

  steps = _time_major(x, mask, reset, go_backwards, bptt_steps, key)
  if remat_chunk is None:
    carry, ys = run(carry, steps)
  else:
    carry, ys = _scan_chunks(run, carry, steps, remat_chunk)
  return carry, jax.tree.map(lambda a: jnp.moveaxis(a, 0, -2), ys)  # [..., T, H]


def check_lengths(**lengths: int | None) -> None:
  """Raises ValueError unless each is at least 1, or None."""
  for name, length in lengths.items():
    if length is not None and length < 1:
      raise ValueError(f'{name} must be at least 1, got {length}')


class _Steps(NamedTuple):
  """What the steps see, time first and in the order of processing."""

  x: PyTree  # [T, ..., G]
  real: Array | None  # [T, ...]
  reset: Array | None  # [T, ...]
  cut: Array | None  # [T]
  key: Array | None  # [T]


def _time_major(
  x: PyTree,
  mask: Array | None,
  reset: Array | None,
  go_backwards: bool,
  bptt_steps: int | None,
  key: Array | None,
) -> _Steps:
  def in_order(a: Array, axis: int) -> Array:
    a = jnp.moveaxis(a, axis, 0)
    return jnp.flip(a, 0) if go_backwards else a

  T = jax.tree.leaves(x)[0].shape[-2]
  cut = None
  if bptt_steps is not None and bptt_steps < T:
    cut = jnp.asarray((np.arange(T) % bptt_steps == 0) & (np.arange(T) > 0))
  return _Steps(
    x=jax.tree.map(lambda a: in_order(a, -2), x),
    real=None if mask is None else in_order(mask, -1),
    reset=None if reset is None else in_order(reset, -1),
    cut=cut,
    key=None if key is None else jax.random.split(key, T),
  )


def _scan_chunks(
  run: Callable[[PyTree, _Steps], tuple[PyTree, PyTree]],
  carry: PyTree,
  steps: _Steps,
  size: int,
) -> tuple[PyTree, PyTree]:
  """`run` over chunks of `size` steps and over what is left, forgetting inside each."""
  T = jax.tree.leaves(steps)[0].shape[0]
  n = T // size
  # Inside a scan nothing can undo the recomputation, which prevent_cse is there for.
  chunk = jax.checkpoint(run, prevent_cse=False)
  chunks = jax.tree.map(lambda a: a[: n * size].reshape(n, size, *a.shape[1:]), steps)
  carry, ys = jax.lax.scan(chunk, carry, chunks)  # [n, size, ..., H]
  ys = jax.tree.map(lambda a: a.reshape(n * size, *a.shape[2:]), ys)
  if T % size:
    carry, rest = jax.checkpoint(run)(
      carry, jax.tree.map(lambda a: a[n * size :], steps)
    )
    ys = jax.tree.map(lambda *a: jnp.concatenate(a), ys, rest)
  return carry, ys


def _select(choice: Array, new: PyTree, old: PyTree) -> PyTree:
  """Rows of `new`, a tree of [..., H]s, where `choice` [...] holds, else of `old`."""

  def select(new: Array, old: Array) -> Array:
    rows = choice.reshape(choice.shape + (1,) * (new.ndim - choice.ndim))
    return jnp.where(jnp.broadcast_to(rows, new.shape), new, old)

  return jax.tree.map(select, new, old)
