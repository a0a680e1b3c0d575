"""The backward loops: chunks from the last to the first, each linearised at once.

For a chunk the pre-activations of all its steps are computed again from the kept h with
one large matmul, and the local derivatives formed for the whole chunk; both are
vectorised over K * B rows and use all cores. The serial loop does only what depends on
the cotangent: a product with the local derivatives and one matmul with U^T. Gradients
of the weights are one matmul a chunk.
"""

from typing import Any

import jax
import jax.numpy as jnp

from seqjax.fast.forward import (
  Inputs,
  Trace,
  active_chunks,
  flags_of_chunk,
  steps_of_chunk,
)
from seqjax.fast.plan import Plan
from seqjax.fast.shared import (
  first_row,
  in_all_rows,
  in_one_row,
  only_first_row,
  shared_chunks,
  summed_rows,
)
from seqjax.fast.source import Constants, put_step, step_of, time_slice
from seqjax.fast.twin import Chunk, where_real
from seqjax.types import Array, PyTree


def backward(
  plan: Plan,
  inputs: Inputs,
  constants: Constants,
  trace: Trace,
  dcarry: PyTree,
  dys: Array | None,
) -> Inputs:
  """Gradients of `inputs`.

  Args:
    plan: As in `forward`.
    inputs: As in `forward`.
    constants: As in `forward`.
    trace: What `forward` left behind.
    dcarry: Cotangent of the last carry.
    dys: Cotangent of h of all steps [T, B, H], T rounded up to whole chunks; or None.

  Returns:
    Cotangents in the places of the inputs, and of their dtypes.
  """
  if not plan.shares:
    dcarry, sums = _backward(plan, inputs, constants, trace, dcarry, dys)
  else:
    shared = shared_chunks(plan, constants.ids)
    rest = in_all_rows(plan, constants, shared)
    dcarry, sums = _backward(plan, inputs, rest, trace, dcarry, dys)
    one = inputs._replace(carry=first_row(inputs.carry))
    front = in_one_row(constants, shared)
    dcarry, dys = summed_rows((dcarry, dys))
    dcarry, sums = _backward(plan, one, front, trace.shared, dcarry, dys, sums)
    dcarry = only_first_row(dcarry, inputs.carry)
  dsource, (dkernel, dbias) = sums
  prepared = inputs.source.prepare(constants)
  dsource = inputs.source.finish_gradients(prepared, dsource)
  weights = plan.twin.prepare(inputs.kernel, inputs.bias, constants.h_mask)
  dkernel = plan.twin.gather(weights, dkernel)
  gradients = Inputs(dsource, dkernel, dbias, dcarry)
  return jax.tree.map(lambda g, primal: g.astype(primal.dtype), gradients, inputs)


def _backward(
  plan: Plan,
  inputs: Inputs,
  constants: Constants,
  trace: Trace,
  dcarry: PyTree,
  dys: Array | None,
  sums: PyTree | None = None,
) -> tuple[PyTree, PyTree]:
  """(cotangent of the first carry, `sums`, from zero if None, with gradients added)."""
  twin, K = plan.twin, plan.K
  weights = twin.prepare(inputs.kernel, inputs.bias, constants.h_mask)
  prepared = inputs.source.prepare(constants)
  first, last = active_chunks(plan, constants)

  def chunk(i: Array, loop: PyTree) -> PyTree:
    cotangent, outs, (dsource, drecurrent) = loop
    k = last - 1 - i
    start = k * K
    known = _chunk(plan, inputs, constants, trace, prepared, k)
    local, saved = twin.linearise(weights, known)
    dy = None if dys is None else time_slice(dys, start, K)  # [K, B, H]
    steps = (local, dy, known.carried)
    cotangent, outs = _steps_back(plan, weights, cotangent, outs, start, *steps)
    gradients = twin.collect(weights, saved, outs)
    projected = gradients.projected
    dsource = inputs.source.add_gradients(prepared, dsource, start, projected)
    more = (gradients.kernel, gradients.bias)
    return cotangent, outs, (dsource, jax.tree.map(jnp.add, drecurrent, more))

  if dys is not None and constants.real is not None:
    dcarry = _add_skipped(dcarry, dys, jnp.arange(len(dys)) >= last * K)
  outs, of_recurrent = _blanks(plan, inputs, constants, trace, prepared, weights)
  if sums is None:
    sums = (inputs.source.no_gradients(prepared, inputs.carry.h.dtype), of_recurrent)
  loop = jax.lax.fori_loop(0, last - first, chunk, (dcarry, outs, sums))
  cotangent, _, sums = loop
  if dys is not None and constants.real is not None:
    cotangent = _add_skipped(cotangent, dys, jnp.arange(len(dys)) < first * K)
  return cotangent, sums


def _chunk(
  plan: Plan,
  inputs: Inputs,
  constants: Constants,
  trace: Trace,
  prepared: Any,
  k: Array,
) -> Chunk:
  K, start = plan.K, k * plan.K
  kept = tuple(time_slice(g, start, K) for g in trace.gates)
  projected = None
  if plan.twin.projects_twice and not kept:
    projected = inputs.source.chunk(prepared, start, K, inputs.carry.h.dtype)
    projected = inputs.source.add_bias(projected)
  h = time_slice(trace.h, start, K + 1)
  carried = flags_of_chunk(constants.carried, start, K)
  return Chunk(
    projected=projected,
    before=where_real(carried, h[:-1], 0.0),
    after=h[1:],
    memory=tuple(m[k] for m in trace.memory),
    real=flags_of_chunk(constants.real, start, K),
    carried=carried,
    kept=kept,
  )


def _steps_back(
  plan: Plan,
  weights: Any,
  cotangent: PyTree,
  outs: PyTree,
  start: Array,
  local: PyTree,
  dy: Array | None,
  carried: Array | None,
) -> tuple[PyTree, PyTree]:
  """The serial part: from the cotangent after a chunk to the one before it."""
  steps = steps_of_chunk(plan, start)

  def body(loop: PyTree) -> PyTree:
    j, (cotangent, outs) = loop
    if dy is not None:
      cotangent = cotangent._replace(h=cotangent.h + step_of(dy, j))
    local_j = jax.tree.map(lambda a: step_of(a, j), local)
    cotangent, out = plan.twin.back(weights, cotangent, local_j)
    if carried is not None:  # what was before a new start has no part in it
      carried_j = step_of(carried, j)
      cotangent = jax.tree.map(lambda c: where_real(carried_j, c, 0.0), cotangent)
    return j - 1, (cotangent, jax.tree.map(lambda b, v: put_step(b, v, j), outs, out))

  loop = (jnp.asarray(steps - 1), (cotangent, outs))
  return jax.lax.while_loop(lambda loop: loop[0] >= 0, body, loop)[1]


def _blanks(
  plan: Plan,
  inputs: Inputs,
  constants: Constants,
  trace: Trace,
  prepared: Any,
  weights: Any,
) -> tuple[PyTree, PyTree]:
  """Zeros for what a chunk's steps give, and for (kernel, bias) of `Gradients`.

  What steps past T would give, in the last chunk, stays zero.
  """

  def first_chunk(cotangent: PyTree) -> PyTree:
    chunk = _chunk(plan, inputs, constants, trace, prepared, jnp.int32(0))
    local, saved = plan.twin.linearise(weights, chunk)
    local_0 = jax.tree.map(lambda a: a[0], local)
    _, outs = plan.twin.back(weights, cotangent, local_0)
    outs = jax.tree.map(lambda o: jnp.stack([o] * plan.K), outs)
    gradients = plan.twin.collect(weights, saved, outs)
    return outs, (gradients.kernel, gradients.bias)

  shapes = jax.eval_shape(first_chunk, inputs.carry)
  return jax.tree.map(jnp.zeros_like, shapes)


def _add_skipped(cotangent: PyTree, dys: Array, skipped: Array) -> PyTree:
  """Adds dys [T, B, H] of skipped steps [T], whose output is the carry's h."""
  flags = jnp.broadcast_to(skipped[:, None, None], dys.shape)
  return cotangent._replace(h=cotangent.h + jnp.where(flags, dys, 0).sum(0))
