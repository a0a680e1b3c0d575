"""SimpleRNN, h' = act(x W + h U + b), cut up for the chunked loops.

Backward, with dh the cotangent of h':

  d  = dh * act'        gradient of the pre-activation; act' follows from h' alone
  dh = d U^T
"""

import functools
from typing import Any

import jax.numpy as jnp

from seqjax import cells
from seqjax.cells import SimpleRNNCarry
from seqjax.fast.products import (
  Product,
  kernel_gradient,
  make_product,
  product,
  product_to_kernel,
  product_to_x,
)
from seqjax.fast.twin import SLOPES, Chunk, Gradients, Twin, where_real
from seqjax.types import Array


def simple_rnn_twin(cell: cells.Cell) -> Twin:
  """The twin of `cells.simple_rnn`, for any activation in `SLOPES`."""
  activation = cell.activation
  return Twin(
    name='simple_rnn',
    sigmoids=(False,),
    prepare=lambda kernel, bias, h_mask: make_product(kernel, h_mask),
    start=lambda carry: carry,
    finish=lambda carry: carry,
    step=functools.partial(_step, activation),
    linearise=functools.partial(_linearise, activation),
    back=_back,
    collect=_collect,
    gather=kernel_gradient,
    projects_twice=False,
  )


def _step(
  activation: cells.Activation,
  recurrent: Product,
  carry: SimpleRNNCarry,
  projected: Array,
  real: Array | None,
) -> tuple[SimpleRNNCarry, tuple[()]]:
  h = activation(projected + product(recurrent, carry.h, carry.h.dtype))
  return SimpleRNNCarry(where_real(real, h, carry.h)), ()


def _linearise(
  activation: cells.Activation, recurrent: Product, chunk: Chunk
) -> tuple[tuple[Array, ...], Array]:
  P = where_real(chunk.real, SLOPES[activation](chunk.after), 0.0)
  if chunk.real is None:
    return (P,), chunk.before
  return (P, _masked_part(chunk.real, P.dtype)), chunk.before


def _back(
  recurrent: Product, cotangent: SimpleRNNCarry, local: tuple[Array, ...]
) -> tuple[SimpleRNNCarry, tuple[Array, ...]]:
  d = cotangent.h * local[0]
  dh = product_to_x(recurrent, d)
  if len(local) == 2:  # a masked step hands its cotangent on
    dh = dh + cotangent.h * jnp.broadcast_to(local[1], dh.shape)
  return SimpleRNNCarry(dh), (d,)


def _collect(recurrent: Product, h: Array, outs: tuple[Array, ...]) -> Gradients:
  (d,) = outs
  return Gradients(projected=d, kernel=product_to_kernel(recurrent, h, d))


def _masked_part(real: Array, dtype: Any) -> Array:
  return 1 - real.astype(dtype)
