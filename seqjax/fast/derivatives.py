"""`run`, and its derivatives of every order.

The first derivative is `backward`, whose loops JAX can't differentiate again. The
second is that of the same steps under lax.scan, and so are all after it.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from seqjax.fast.backward import backward
from seqjax.fast.forward import Inputs, Trace, flags_of_chunk, forward
from seqjax.fast.plan import Plan
from seqjax.fast.source import Constants
from seqjax.fast.twin import carried_state
from seqjax.types import Array, PyTree

Outputs = tuple[PyTree, Array | None]  # last carry, h of all steps [T, B, H] | None


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def run(plan: Plan, inputs: Inputs, constants: Constants) -> Outputs:
  """The carry after the last real step, and h of all T steps if the plan wants them."""
  carry, trace = forward(plan, inputs, constants, trace=plan.return_sequences)
  return carry, _all_steps(plan, trace)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _traced_run(
  plan: Plan, inputs: Inputs, constants: Constants
) -> tuple[Outputs, Trace]:
  """`run`, and what it leaves behind, which counts as constant: see `_pull_back`."""
  carry, trace = forward(plan, inputs, constants, trace=True)
  assert trace is not None
  return (carry, _all_steps(plan, trace)), trace


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _pull_back(
  plan: Plan, inputs: Inputs, constants: Constants, trace: Trace, cotangents: Outputs
) -> Inputs:
  """Gradients of `run` at `inputs`; a function of inputs and cotangents alone."""
  dcarry, dys = cotangents
  more = plan.padded - plan.T
  if dys is not None and more:
    dys = jnp.pad(dys, [(0, more), (0, 0), (0, 0)])
  return backward(plan, inputs, constants, trace, dcarry, dys)


def _run_forward(plan: Plan, inputs: Inputs, constants: Constants) -> tuple:
  outputs, trace = _traced_run(plan, inputs, constants)
  return outputs, (inputs, constants, trace)


def _run_backward(plan: Plan, residuals: tuple, cotangents: Outputs) -> tuple:
  inputs, constants, trace = residuals
  return _pull_back(plan, inputs, constants, trace, cotangents), None


def _traced_run_forward(plan: Plan, inputs: Inputs, constants: Constants) -> tuple:
  outputs, trace = _traced_run(plan, inputs, constants)
  return (outputs, trace), (inputs, constants, trace)


def _traced_run_backward(plan: Plan, residuals: tuple, cotangents: tuple) -> tuple:
  return _run_backward(plan, residuals, cotangents[0])


def _pull_back_forward(
  plan: Plan, inputs: Inputs, constants: Constants, trace: Trace, cotangents: Outputs
) -> tuple:
  gradients = _pull_back(plan, inputs, constants, trace, cotangents)
  return gradients, (inputs, constants, cotangents)


def _pull_back_backward(plan: Plan, residuals: tuple, cotangents: Inputs) -> tuple:
  inputs, constants, first = residuals

  def gradients(inputs: Inputs, first: Outputs) -> Inputs:
    _, pull = jax.vjp(lambda i: _plain_run(plan, i, constants), inputs)
    return pull(first)[0]

  _, pull = jax.vjp(gradients, inputs, first)
  dinputs, dfirst = pull(cotangents)
  return dinputs, None, None, dfirst


run.defvjp(_run_forward, _run_backward)
_traced_run.defvjp(_traced_run_forward, _traced_run_backward)
_pull_back.defvjp(_pull_back_forward, _pull_back_backward)


def _plain_run(plan: Plan, inputs: Inputs, constants: Constants) -> Outputs:
  """`run` as one lax.scan, which JAX differentiates as often as you like."""
  twin, dtype = plan.twin, inputs.carry.h.dtype
  weights = twin.prepare(inputs.kernel, inputs.bias, constants.h_mask)
  start, prepared = jnp.int32(0), inputs.source.prepare(constants)
  projected = inputs.source.chunk(prepared, start, plan.T, dtype)
  flags = [
    flags_of_chunk(f, start, plan.T) for f in (constants.real, constants.carried)
  ]

  def body(state: PyTree, step: tuple[Any, ...]) -> tuple[PyTree, Array]:
    projected, real, carried = step
    state = carried_state(twin, carried, state)
    state, _ = twin.step(weights, state, inputs.source.add_bias(projected), real)
    return state, twin.finish(state).h

  state, ys = jax.lax.scan(body, twin.start(inputs.carry), (projected, *flags))
  return twin.finish(state), ys if plan.return_sequences else None


def _all_steps(plan: Plan, trace: Trace | None) -> Array | None:
  """h after each step, [T, B, H]."""
  if trace is None or not plan.return_sequences:
    return None
  return trace.h[1 : plan.T + 1]
