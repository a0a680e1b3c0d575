"""LSTM cut up for the chunked loops.

With t = tanh of the four (scaled) pre-activations of a step, i = t_i/2 + 1/2 and so on,
g = t_c, c' = f c + i g and h' = o tanh(c'), the backward step from the cotangents dh
and dc of h' and c' is

  dc = dc + dh * Q                   Q = o (1 - tanh(c')^2)
  d  = (dc, dc, dc, dh) * P          P = (g/2, c/2, i, tanh(c')/2) * (1 - t^2)
  dh = d U^T,  dc = dc * f

P and Q do not depend on dh, dc: they are formed for a whole chunk at once. A masked
step has f = 1, i g = 0, P = Q = 0, and its dh goes on unchanged.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import cells
from seqjax.cells import LSTMCarry
from seqjax.fast.products import (
  Product,
  kernel_gradient,
  lay_out,
  make_product,
  product,
  product_to_kernel,
  product_to_x,
)
from seqjax.fast.source import put_step, step_of
from seqjax.fast.twin import Chunk, Gradients, Twin, sigmoid_of, where_real
from seqjax.types import Array


def lstm_twin(cell: cells.Cell) -> Twin:
  """The twin of `cells.lstm` with tanh and sigmoid."""
  del cell  # one tanh for all gates: no other activation
  return Twin(
    name='lstm',
    sigmoids=(True, True, False, True),
    prepare=lambda kernel, bias, h_mask: make_product(kernel, h_mask),
    start=lambda carry: carry,
    finish=lambda carry: carry,
    step=_step,
    linearise=_linearise,
    back=_back,
    collect=_collect,
    gather=kernel_gradient,
    keeps=True,
  )


class _Local(NamedTuple):
  """Local derivatives of steps, [..., B, H]s but for P."""

  P: Array  # [..., B, 4H] or [..., B, 4, H], as `lay_out` gives it
  Q: Array
  f: Array
  masked: Array | None  # [..., B, 1], 1 where the step is masked


def _step(
  recurrent: Product, carry: LSTMCarry, projected: Array, real: Array | None
) -> tuple[LSTMCarry, tuple[Array, ...]]:
  t = _tanh(recurrent, projected, carry.h)
  i, f, g, o = _gates(t, carry.h)
  c = f * carry.c + i * g
  h = o * jnp.tanh(c)
  new = LSTMCarry(h=where_real(real, h, carry.h), c=where_real(real, c, carry.c))
  return new, (t.reshape(len(t), -1),)


def _linearise(recurrent: Product, chunk: Chunk) -> tuple[_Local, Array]:
  h, real = chunk.before, chunk.real
  if chunk.kept:
    t = lay_out(recurrent, chunk.kept[0], 4)
  else:
    t = _tanh(recurrent, chunk.projected, h)
  i, f, g, o = _gates(t, h)
  f, ig = where_real(real, f, 1.0), where_real(real, i * g, 0.0)
  c = _memories(chunk.memory[0], f, ig, chunk.carried)  # [K + 1, B, H]
  tanh_c = jnp.tanh(c[1:])
  before = where_real(chunk.carried, c[:-1], 0.0)
  P = _join(recurrent, 0.5 * g, 0.5 * before, i, 0.5 * tanh_c) * (1 - t * t)
  Q = o * (1 - tanh_c * tanh_c)
  masked = None if real is None else 1 - real.astype(f.dtype)
  return _Local(where_real(real, P, 0.0), where_real(real, Q, 0.0), f, masked), h


def _back(
  recurrent: Product, cotangent: LSTMCarry, local: _Local
) -> tuple[LSTMCarry, tuple[Array, ...]]:
  dh = cotangent.h
  dc = cotangent.c + dh * local.Q
  d = _join(recurrent, dc, dc, dc, dh) * local.P
  before = product_to_x(recurrent, d.reshape(len(d), -1))
  if local.masked is not None:
    before = before + dh * jnp.broadcast_to(local.masked, dh.shape)
  return LSTMCarry(h=before, c=dc * local.f), (d,)


def _collect(recurrent: Product, h: Array, outs: tuple[Array, ...]) -> Gradients:
  d = outs[0].reshape(*h.shape[:-1], -1)
  return Gradients(projected=d, kernel=product_to_kernel(recurrent, h, d))


def _tanh(recurrent: Product, projected: Array, h: Array) -> Array:
  """t of one step, or of a chunk, as `lay_out` gives it."""
  a = product(recurrent, h, h.dtype)
  return jnp.tanh(lay_out(recurrent, projected, 4) + lay_out(recurrent, a, 4))


def _gates(t: Array, h: Array) -> tuple[Array, Array, Array, Array]:
  t = t.reshape(*h.shape[:-1], 4, -1)
  i, f, g, o = (t[..., gate, :] for gate in range(4))
  return sigmoid_of(i), sigmoid_of(f), g, sigmoid_of(o)


def _join(recurrent: Product, *gates: Array) -> Array:
  return lay_out(recurrent, jnp.concatenate(gates, -1), 4)


def _memories(c: Array, f: Array, ig: Array, carried: Array | None) -> Array:
  """c [K + 1, B, H] after the step before each step, and after the last: c' = f c + ig.

  Only the c that starts a chunk is kept by the forward pass; this elementwise loop
  costs less than writing and reading T * B * H more floats.
  """

  def body(j: Array, cs: Array) -> Array:
    before = step_of(cs, j)
    if carried is not None:
      before = where_real(step_of(carried, j), before, 0.0)
    c = step_of(f, j) * before + step_of(ig, j)
    return put_step(cs, c, j + 1)

  K = len(f)
  cs = jnp.broadcast_to(c[None], (K + 1, *c.shape))
  return jax.lax.fori_loop(0, K, body, cs)
