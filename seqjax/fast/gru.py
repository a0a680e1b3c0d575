"""GRU with the reset gate after the recurrent matmul, cut up for the chunked loops.

With a = h U + b_r, t_z and t_r the tanh of the (scaled) pre-activations of the gates,
g = act(x_h + r a_h) and h' = z h + (1 - z) g, the backward step from the cotangent dh
of h' is

  d  = (dh, dh, dh) * P    P = ((h - g)(1 - t_z^2)/2, A a_h (1 - t_r^2)/2, A r)
  dh = dh z + d U^T        A = (1 - z) act'

d is the gradient of a. The gradient of the input part differs in the candidate, dh * A.
A masked step has z = 1 and P = A = 0.

The loop is rotated: its state holds t and g of the last step, and h is finished at the
start of the next. So every tanh is an output of the loop's body; a tanh that feeds
another within one fusion is not vectorised by XLA:CPU (43 ms instead of 10 ms).
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp

from seqjax import cells
from seqjax.cells import GRUCarry
from seqjax.fast.products import (
  Product,
  gates_together,
  kernel_gradient,
  lay_out,
  make_product,
  product,
  product_to_kernel,
  product_to_x,
)
from seqjax.fast.twin import SLOPES, Chunk, Gradients, Twin, sigmoid_of, where_real
from seqjax.types import Array


def gru_twin(cell: cells.Cell) -> Twin:
  """The twin of `cells.gru(reset_after=True)`, for any candidate in `SLOPES`."""
  return Twin(
    name='gru',
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


class GRUState(NamedTuple):
  """A step whose h' is not formed yet."""

  h: Array  # [B, H] before the step
  t: Array  # [B, 2, H] tanh of the gates z and r
  g: Array  # [B, H] candidate


def start(carry: GRUCarry) -> GRUState:
  """The state that finishes as `carry`: z = 1 keeps h, exactly."""
  h = carry.h
  return GRUState(h, jnp.ones_like(jnp.stack([h, h], -2)), jnp.zeros_like(h))


def finish(state: GRUState) -> GRUCarry:
  """h' = z h + (1 - z) g."""
  z = sigmoid_of(state.t[..., 0, :])
  return GRUCarry(z * state.h + (1 - z) * state.g)


class _Weights(NamedTuple):
  recurrent: Product
  bias: Array | None  # [3H]


class _Local(NamedTuple):
  P: Array  # [..., B, 3, H]
  z: Array  # [..., B, H]


class _Saved(NamedTuple):
  h: Array  # [K, B, H]
  A: Array  # [K, B, H]


def _prepare(kernel: Array, bias: Array | None, h_mask: Array | None) -> _Weights:
  return _Weights(make_product(kernel, h_mask), bias)


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
  """(t [..., 2, H], g [..., H], a_h [..., H]) of one step, or of a chunk."""
  a = product(weights.recurrent, h, h.dtype)
  if weights.bias is not None:
    a = a + jnp.broadcast_to(weights.bias.astype(a.dtype), a.shape)
  x_zr, x_h = _split(weights.recurrent, projected)
  a_zr, a_h = _split(weights.recurrent, a)
  t = jnp.tanh(x_zr + a_zr).reshape(*h.shape[:-1], 2, -1)
  g = activation(x_h + sigmoid_of(t[..., 1, :]) * a_h)
  return where_real(real, t, 1.0), where_real(real, g, 0.0), a_h


def _split(recurrent: Product, z: Array) -> tuple[Array, Array]:
  """z [..., 3H] as (that of the gates z and r, [..., H]); see `lay_out`."""
  H = z.shape[-1] // 3
  z = lay_out(recurrent, z, 3)
  if recurrent.per_gate:
    return z[..., :2, :], z[..., 2, :]
  return z[..., : 2 * H], z[..., 2 * H :]


def _linearise(
  activation: cells.Activation, weights: _Weights, chunk: Chunk
) -> tuple[_Local, _Saved]:
  h, real = chunk.before, chunk.real
  t, g, a_h = _gates(activation, weights, h, chunk.projected, real)
  t_z, t_r = t[..., 0, :], t[..., 1, :]
  z, r = sigmoid_of(t_z), sigmoid_of(t_r)
  A = (1 - z) * SLOPES[activation](g)  # masked: z = 1, so 0
  P = jnp.stack(
    [0.5 * (h - g) * (1 - t_z * t_z), 0.5 * A * a_h * (1 - t_r * t_r), A * r], -2
  )
  return _Local(P, z), _Saved(h, A)


def _back(
  weights: _Weights, cotangent: GRUCarry, local: _Local
) -> tuple[GRUCarry, tuple[Array, ...]]:
  dh = cotangent.h
  # With an axis for the gates: of jnp.tile(dh, 3), XLA:CPU makes scalar code.
  d = jnp.broadcast_to(dh[..., None, :], local.P.shape) * local.P
  before = dh * local.z + product_to_x(weights.recurrent, gates_together(d))
  return GRUCarry(before), (d, dh)


def _collect(weights: _Weights, saved: _Saved, outs: tuple[Array, ...]) -> Gradients:
  d, dh = outs
  dx = jnp.concatenate([d[..., :2, :], (dh * saved.A)[..., None, :]], -2)
  d = gates_together(d)
  return Gradients(
    projected=gates_together(dx),
    kernel=product_to_kernel(weights.recurrent, saved.h, d),
    bias=None if weights.bias is None else d.sum((0, 1)),
  )


def _gather(weights: _Weights, sums: Array) -> Array:
  return kernel_gradient(weights.recurrent, sums)
