"""The forward loops: chunks of K steps, and the steps of a chunk."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax.fast.plan import Plan
from seqjax.fast.shared import (
  first_row,
  in_all_rows,
  in_one_row,
  shared_chunks,
  to_all_rows,
)
from seqjax.fast.source import Constants, Source, put_step, step_of, time_slice
from seqjax.fast.twin import carried_state
from seqjax.types import Array, PyTree


class Inputs(NamedTuple):
  """What a run takes and has gradients. T is rounded up to whole chunks everywhere."""

  source: Source
  kernel: Array  # [H, G] recurrent kernel, scaled
  bias: Array | None  # [G] recurrent bias, scaled, where the cell has one
  carry: PyTree  # of [B, H]s


class Trace(NamedTuple):
  """What a run leaves behind for the backward pass."""

  h: Array  # [T + 1, B, H]: h[t] before step t
  memory: tuple[Array, ...]  # the carry's other fields at each chunk's start [n, B, H]
  gates: tuple[Array, ...]  # [T, B, ...] where the plan keeps them
  shared: Any = None  # the trace of the first row over the shared chunks, if any


def forward(
  plan: Plan, inputs: Inputs, constants: Constants, *, trace: bool
) -> tuple[PyTree, Trace | None]:
  """Runs all steps.

  Args:
    plan: The cell, T, and the chunks.
    inputs: What has gradients.
    constants: What has not.
    trace: Whether to keep what the backward pass and the outputs of all steps need.

  Returns:
    (the carry after the last real step, the trace or None). Chunks without a real step
    at either end are skipped; in the trace h is right there, too.
  """
  if not plan.shares:
    return _forward(plan, inputs, constants, trace=trace)
  shared = shared_chunks(plan, constants.ids)
  one = inputs._replace(carry=first_row(inputs.carry))
  carry, front = _forward(plan, one, in_one_row(constants, shared), trace=trace)
  every = inputs._replace(carry=to_all_rows(carry, inputs.carry))
  rest = in_all_rows(plan, constants, shared)
  carry, record = _forward(plan, every, rest, trace=trace)
  if record is None or front is None:
    return carry, None
  if plan.return_sequences:
    before = jnp.arange(len(record.h)) < shared * plan.K
    h = jnp.where(before[:, None, None], front.h, record.h)
    record = record._replace(h=h)
  return carry, record._replace(shared=front)


def _forward(
  plan: Plan, inputs: Inputs, constants: Constants, *, trace: bool
) -> tuple[PyTree, Trace | None]:
  twin, K = plan.twin, plan.K
  weights = twin.prepare(inputs.kernel, inputs.bias, constants.h_mask)
  prepared = inputs.source.prepare(constants)
  dtype = inputs.carry.h.dtype
  bounds = active_chunks(plan, constants)

  def step(j: Array, loop: PyTree, start: Array, projected: Array, flags: Any) -> Any:
    state, record = loop
    real, carried = (None if flag is None else step_of(flag, j) for flag in flags)
    before = state
    state = carried_state(twin, carried, state)
    z = inputs.source.add_bias(step_of(projected, j))
    state, gates = twin.step(weights, state, z, real)
    if record is not None:
      h, ahead = (twin.finish(before).h, 0) if twin.lags else (state.h, 1)
      h = put_step(record.h, h, start + j + ahead)
      kept = tuple(map(lambda b, v: put_step(b, v, start + j), record.gates, gates))
      record = record._replace(h=h, gates=kept)
    return state, record

  def chunk(k: Array, loop: PyTree) -> PyTree:
    state, record = loop
    start = k * K
    if record is not None:
      memory = twin.finish(state)[1:]
      put = jax.lax.dynamic_update_index_in_dim
      memory = tuple(
        put(b, v, k, 0) for b, v in zip(record.memory, memory, strict=True)
      )
      record = record._replace(memory=memory)
    projected = inputs.source.chunk(prepared, start, K, dtype)
    flags = [flags_of_chunk(f, start, K) for f in (constants.real, constants.carried)]
    return jax.lax.fori_loop(
      0,
      steps_of_chunk(plan, start),
      lambda j, loop: step(j, loop, start, projected, flags),
      (state, record),
    )

  record = _blank(plan, inputs) if trace else None
  loop = (twin.start(inputs.carry), record)
  state, record = jax.lax.fori_loop(*bounds, chunk, loop)
  carry = twin.finish(state)
  if record is None:
    return carry, None
  end = jnp.minimum(bounds[1] * K, plan.T)
  h = put_step(record.h, carry.h, end)
  if constants.real is not None and plan.return_sequences:
    after = (jnp.arange(len(h)) > end)[:, None, None]
    h = jnp.where(
      jnp.broadcast_to(after, h.shape), jnp.broadcast_to(carry.h[None], h.shape), h
    )
  return carry, record._replace(h=h)


def flags_of_chunk(flags: Array | None, start: Array, K: int) -> Array | None:
  """The flags of a chunk, [K, B, 1], of flags [T, B]."""
  if flags is None:
    return None
  return time_slice(flags, start, K)[..., None]


def steps_of_chunk(plan: Plan, start: Array) -> int | Array:
  """K, or fewer in the last chunk."""
  if plan.T % plan.K == 0:
    return plan.K
  return jnp.minimum(plan.K, plan.T - start)


def active_chunks(plan: Plan, constants: Constants) -> tuple[Any, Any]:
  """The first chunk in which any row changes its state, and one past the last.

  It does so in a real step, and where it starts anew.
  """
  if constants.chunks is not None:
    return constants.chunks
  if constants.real is None:
    return 0, plan.num_chunks
  active = constants.real
  if constants.carried is not None:
    active = active | ~constants.carried

  # Batches sorted by length pay for their length only, in one compilation. Under vmap
  # the bounds stay scalars, those of all batches together: a loop bound that differs
  # between them would turn every write of the loop into a select.
  @jax.custom_batching.custom_vmap
  def bounds(active: Array) -> tuple[Array, Array]:
    used = active.any(1).reshape(plan.num_chunks, plan.K).any(1)
    first, last = jnp.argmax(used), len(used) - jnp.argmax(used[::-1])
    return first, jnp.where(used.any(), last, first)

  @bounds.def_vmap
  def _(axis_size: int, in_batched: Any, active: Array) -> Any:
    del axis_size, in_batched  # one argument: it is batched
    return bounds(active.any(0)), (False, False)

  return bounds(active)


def _blank(plan: Plan, inputs: Inputs) -> Trace:
  """A trace to write in. Its h is the initial h: right for skipped steps in front."""
  carry = inputs.carry
  B, H = carry.h.shape
  gates: tuple[Array, ...] = ()
  if plan.keep_gates:
    shape = (plan.padded, B, inputs.kernel.shape[-1])
    gates = (jnp.zeros_like(carry.h, shape=shape),)
  return Trace(
    h=jnp.broadcast_to(carry.h[None], (plan.padded + 1, B, H)),
    memory=tuple(jnp.broadcast_to(c, (plan.num_chunks, *c.shape)) for c in carry[1:]),
    gates=gates,
  )
