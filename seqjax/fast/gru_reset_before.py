"""GRU with the reset gate before the recurrent matmul, cut up for the chunked loops.

With m the dropout mask of the state, t_z and t_r the tanh of the (scaled)
pre-activations of the gates, g = act(x_h + (r h m) U_h) and h' = z h + (1 - z) g, the
backward step from the cotangent dh is

  dg  = dh * A                  A   = (1 - z) act'
  drh = (dg U_h^T) * m
  dzr = (dh * P_z, drh * P_r)   P_z = (h - g)(1 - t_z^2)/2,  P_r = h (1 - t_r^2)/2
  dh  = dh z + drh r + (dzr U_zr^T) * m

A masked step has z = 1 and A = P_z = 0. The loop is rotated, as in `gru`.
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp

from seqjax import cells
from seqjax.cells import GRUCarry
from seqjax.fast.gru import GRUState, finish, start
from seqjax.fast.products import (
  Product,
  kernel_gradient,
  lay_out,
  make_product,
  product,
  product_to_kernel,
  product_to_x,
)
from seqjax.fast.twin import SLOPES, Chunk, Gradients, Twin, sigmoid_of, where_real
from seqjax.types import Array


def gru_reset_before_twin(cell: cells.Cell) -> Twin:
  """The twin of `cells.gru(reset_after=False)`, for any candidate in `SLOPES`."""
  return Twin(
    name='gru_reset_before',
    sigmoids=(True, True, False),
    prepare=_prepare,
    start=start,
    finish=finish,
    step=functools.partial(_step, cell.activation),
    linearise=functools.partial(_linearise, cell.activation),
    back=_back,
    collect=_collect,
    gather=_gather,
    lags=True,
  )


class _Weights(NamedTuple):
  gates: Product  # [H, 2H], of z and r
  candidate: Product  # [H, H]


class _Local(NamedTuple):
  """Local derivatives of steps, [..., B, H] each."""

  P_z: Array
  P_r: Array
  A: Array
  z: Array
  r: Array


class _Saved(NamedTuple):
  h: Array  # [K, B, H]
  rh: Array  # [K, B, H], r * h


def _prepare(kernel: Array, bias: Array | None, h_mask: Array | None) -> _Weights:
  del bias  # all of it is in the input part
  H = kernel.shape[0]
  per_gate = h_mask is not None and h_mask.ndim == 3
  gates_mask = h_mask[:2] if per_gate else h_mask  # type: ignore[index]
  candidate_mask = h_mask[2] if per_gate else h_mask  # type: ignore[index]
  return _Weights(
    make_product(kernel[:, : 2 * H], gates_mask),
    make_product(kernel[:, 2 * H :], candidate_mask),
  )


def _step(
  activation: cells.Activation,
  weights: _Weights,
  state: GRUState,
  projected: Array,
  real: Array | None,
) -> tuple[GRUState, tuple[()]]:
  h = finish(state).h
  t, g, _ = _gates(activation, weights, h, projected, real)
  return GRUState(h, t, g), ()


def _gates(
  activation: cells.Activation,
  weights: _Weights,
  h: Array,
  projected: Array,
  real: Array | None,
) -> tuple[Array, Array, Array]:
  """(t [..., 2, H], g [..., H], r * h [..., H]) of one step, or of a chunk."""
  H = h.shape[-1]
  a = lay_out(weights.gates, product(weights.gates, h, h.dtype), 2)
  t = jnp.tanh(lay_out(weights.gates, projected[..., : 2 * H], 2) + a)
  t = t.reshape(*h.shape[:-1], 2, H)
  rh = sigmoid_of(t[..., 1, :]) * h
  g = activation(projected[..., 2 * H :] + product(weights.candidate, rh, h.dtype))
  return where_real(real, t, 1.0), where_real(real, g, 0.0), rh


def _linearise(
  activation: cells.Activation, weights: _Weights, chunk: Chunk
) -> tuple[_Local, _Saved]:
  h = chunk.before
  t, g, rh = _gates(activation, weights, h, chunk.projected, chunk.real)
  t_z, t_r = t[..., 0, :], t[..., 1, :]
  z = sigmoid_of(t_z)
  local = _Local(
    P_z=0.5 * (h - g) * (1 - t_z * t_z),
    P_r=0.5 * h * (1 - t_r * t_r),
    A=(1 - z) * SLOPES[activation](g),  # masked: z = 1, so 0
    z=z,
    r=sigmoid_of(t_r),
  )
  return local, _Saved(h, rh)


def _back(
  weights: _Weights, cotangent: GRUCarry, local: _Local
) -> tuple[GRUCarry, tuple[Array, ...]]:
  dh = cotangent.h
  dg = dh * local.A
  drh = product_to_x(weights.candidate, dg)
  dzr = jnp.concatenate([dh * local.P_z, drh * local.P_r], -1)
  before = dh * local.z + drh * local.r + product_to_x(weights.gates, dzr)
  return GRUCarry(before), (dzr, dg)


def _collect(weights: _Weights, saved: _Saved, outs: tuple[Array, ...]) -> Gradients:
  dzr, dg = outs
  return Gradients(
    projected=jnp.concatenate([dzr, dg], -1),
    kernel=(
      product_to_kernel(weights.gates, saved.h, dzr),
      product_to_kernel(weights.candidate, saved.rh, dg),
    ),
  )


def _gather(weights: _Weights, sums: tuple[Array, Array]) -> Array:
  gates, candidate = sums
  parts = (
    kernel_gradient(weights.gates, gates),
    kernel_gradient(weights.candidate, candidate),
  )
  return jnp.concatenate(parts, -1)
