"""SimpleRNN, LSTM and GRU as pure functions.

Each cell is a NamedTuple of parameters, a NamedTuple of carried state, and two
functions. `*_project` does at once, for all of T, whatever does not depend on the
carry; `*_step` is one step of time. Layouts, gate orders and equations are Keras's, so
that weights move over without a permutation. `Cell` bundles the pieces for a loop over
time; `simple_rnn`, `lstm` and `gru` make one.

Dropout masks multiply only what enters a matmul: never `c`, never the `z * h` of a GRU.
A mask is shared by the gates ([..., D], [..., H]) or has one slice for each gate in
front ([n, ..., D], [n, ..., H]).

Sources: Elman 1990 (SimpleRNN); Hochreiter & Schmidhuber 1997 (LSTM); Gers et al. 2000
(its forget gate); Cho et al. 2014, arXiv:1406.1078 (GRU); Gal & Ghahramani 2016,
arXiv:1512.05287 (where the masks go).

Example:
  >>> cell, H = sj.cells.lstm(), 4
  >>> params = sj.cells.LSTMParams(jnp.ones((3, 16)), jnp.ones((4, 16)), jnp.zeros(16))
  >>> projected = cell.project(params, jnp.ones((2, 5, 3)))  # [B, T, 4H], all of time
  >>> carry = sj.cells.zero_carry(cell, (2, H))
  >>> sj.cells.lstm_step(params, carry, projected[:, 0]).h.shape  # one step
  (2, 4)
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax.types import Array, PyTree

Activation = Callable[[Array], Array]


class Cell(NamedTuple):
  """What a loop over time has to know about a cell."""

  name: str
  num_gates: int  # G = num_gates * H
  carry: type  # NamedTuple of [..., H] arrays; its field h is the output
  project: Callable[..., Array]  # (params, x, x_mask=None) -> projected
  step: Callable[..., PyTree]  # (params, carry, projected, h_mask=None) -> carry
  activation: Activation
  recurrent_activation: Activation | None = None  # None: the cell has no gates


@dataclasses.dataclass(frozen=True)
class _With:
  """A function with keywords; two made alike are equal, as partials are not."""

  function: Callable[..., PyTree]
  keywords: tuple[tuple[str, Any], ...]

  def __call__(self, *arguments: Any, **keywords: Any) -> PyTree:
    return self.function(*arguments, **dict(self.keywords), **keywords)


def simple_rnn(activation: Activation = jnp.tanh) -> Cell:
  """h' = act(x W + h U + b), of `SimpleRNNParams` and `SimpleRNNCarry`."""
  step = _With(simple_rnn_step, (('activation', activation),))
  return Cell('simple_rnn', 1, SimpleRNNCarry, simple_rnn_project, step, activation)


def lstm(
  activation: Activation = jnp.tanh,
  recurrent_activation: Activation = jax.nn.sigmoid,
) -> Cell:
  """c' = f * c + i * act(..); h' = o * act(c'); no peepholes.

  Of `LSTMParams` and `LSTMCarry`; `recurrent_activation` is that of i, f and o.
  """
  step = _With(lstm_step, _activations(activation, recurrent_activation))
  return Cell(
    'lstm', 4, LSTMCarry, lstm_project, step, activation, recurrent_activation
  )


def gru(
  activation: Activation = jnp.tanh,
  recurrent_activation: Activation = jax.nn.sigmoid,
  *,
  reset_after: bool = True,
) -> Cell:
  """h' = z * h + (1 - z) * n, the reset gate after or before the recurrent matmul.

  Of `GRUParams` and `GRUCarry`; `recurrent_activation` is that of z and r. `gru_step`
  has the two equations of n.
  """
  activations = _activations(activation, recurrent_activation)
  step = _With(gru_step, (*activations, ('reset_after', reset_after)))
  name = 'gru' if reset_after else 'gru_reset_before'
  return Cell(name, 3, GRUCarry, gru_project, step, activation, recurrent_activation)


def _activations(
  activation: Activation, recurrent_activation: Activation
) -> tuple[tuple[str, Any], ...]:
  names = ('activation', 'recurrent_activation')
  return tuple(zip(names, (activation, recurrent_activation), strict=True))


class SimpleRNNParams(NamedTuple):
  kernel: Array  # [D, H]
  recurrent_kernel: Array  # [H, H]
  bias: Array | None  # [H]


class SimpleRNNCarry(NamedTuple):
  h: Array  # [..., H]


def simple_rnn_project(
  params: SimpleRNNParams, x: Array, x_mask: Array | None = None
) -> Array:
  """Input part of the pre-activation: x [..., T, D] -> [..., T, H]."""
  return _biased(_masked_matmul(x, params.kernel, x_mask, time_axis=True), params.bias)


def simple_rnn_step(
  params: SimpleRNNParams,
  carry: SimpleRNNCarry,
  projected: Array,
  h_mask: Array | None = None,
  *,
  activation: Activation = jnp.tanh,
) -> SimpleRNNCarry:
  """One step of time: carry of [..., H] and projected [..., H] -> the next carry."""
  recurrent = _masked_matmul(carry.h, params.recurrent_kernel, h_mask)
  return SimpleRNNCarry(h=activation(projected.astype(carry.h.dtype) + recurrent))


class LSTMParams(NamedTuple):
  kernel: Array  # [D, 4H], gates i, f, c, o
  recurrent_kernel: Array  # [H, 4H]
  bias: Array | None  # [4H]


class LSTMCarry(NamedTuple):
  h: Array  # [..., H] output
  c: Array  # [..., H] memory


def lstm_project(params: LSTMParams, x: Array, x_mask: Array | None = None) -> Array:
  """Input part of all gates: x [..., T, D] -> [..., T, 4H]."""
  return _biased(_masked_matmul(x, params.kernel, x_mask, time_axis=True), params.bias)


def lstm_step(
  params: LSTMParams,
  carry: LSTMCarry,
  projected: Array,
  h_mask: Array | None = None,
  *,
  activation: Activation = jnp.tanh,
  recurrent_activation: Activation = jax.nn.sigmoid,
) -> LSTMCarry:
  """One step of time: carry of [..., H]s and projected [..., 4H] -> the next carry."""
  recurrent = _masked_matmul(carry.h, params.recurrent_kernel, h_mask)
  i, f, g, o = jnp.split(projected.astype(carry.h.dtype) + recurrent, 4, axis=-1)
  c = recurrent_activation(f) * carry.c + recurrent_activation(i) * activation(g)
  return LSTMCarry(h=recurrent_activation(o) * activation(c), c=c)


class GRUParams(NamedTuple):
  kernel: Array  # [D, 3H], gates z, r, h
  recurrent_kernel: Array  # [H, 3H]
  bias: Array | None  # [2, 3H], input row and recurrent row; reset before: [3H]


class GRUCarry(NamedTuple):
  h: Array  # [..., H]


def gru_project(params: GRUParams, x: Array, x_mask: Array | None = None) -> Array:
  """Input part of all gates: x [..., T, D] -> [..., T, 3H]."""
  bias = params.bias
  if bias is not None and bias.ndim == 2:
    bias = bias[0]  # the recurrent row is gru_step's
  return _biased(_masked_matmul(x, params.kernel, x_mask, time_axis=True), bias)


def gru_step(
  params: GRUParams,
  carry: GRUCarry,
  projected: Array,
  h_mask: Array | None = None,
  *,
  activation: Activation = jnp.tanh,
  recurrent_activation: Activation = jax.nn.sigmoid,
  reset_after: bool = True,
) -> GRUCarry:
  """One step of time: carry of [..., H] and projected [..., 3H] -> the next carry.

  With `reset_after` n = act(x Wn + b_in + r * (h Un + b_rn)), as cuDNN and Keras have
  it; otherwise n = act(x Wn + b_n + (r * h) Un), as in the paper.
  """
  h, H = carry.h, carry.h.shape[-1]
  projected = projected.astype(h.dtype)
  if reset_after:
    recurrent = _masked_matmul(h, params.recurrent_kernel, h_mask)
    if params.bias is not None:
      recurrent = _biased(recurrent, params.bias[1].astype(h.dtype))
    z, r = jnp.split(
      recurrent_activation(projected[..., : 2 * H] + recurrent[..., : 2 * H]), 2, -1
    )
    n = activation(projected[..., 2 * H :] + r * recurrent[..., 2 * H :])
  else:
    per_gate = h_mask is not None and h_mask.ndim > h.ndim
    gates_mask = h_mask[:2] if per_gate else h_mask  # type: ignore[index]
    n_mask = h_mask[2] if per_gate else h_mask  # type: ignore[index]
    recurrent = _masked_matmul(h, params.recurrent_kernel[:, : 2 * H], gates_mask)
    z, r = jnp.split(recurrent_activation(projected[..., : 2 * H] + recurrent), 2, -1)
    recurrent = _masked_matmul(r * h, params.recurrent_kernel[:, 2 * H :], n_mask)
    n = activation(projected[..., 2 * H :] + recurrent)
  return GRUCarry(h=z * h + (1 - z) * n)


def zero_carry(cell: Cell, shape: tuple[int, ...], dtype: Any = jnp.float32) -> PyTree:
  """A carry of zeros for `cell`, each field of `shape` [..., H]."""
  return cell.carry(*(jnp.zeros(shape, dtype) for _ in cell.carry._fields))  # type: ignore[attr-defined]


def hard_sigmoid_keras2(x: Array) -> Array:
  """clip(0.2 x + 0.5, 0, 1): the hard sigmoid of Keras 1 and 2, the book's years."""
  return jnp.clip(0.2 * x + 0.5, 0.0, 1.0)


def linear(x: Array) -> Array:
  """x itself: no activation."""
  return x


ACTIVATIONS: dict[str, Activation] = {
  'tanh': jnp.tanh,
  'relu': jax.nn.relu,
  'sigmoid': jax.nn.sigmoid,
  'hard_sigmoid': jax.nn.hard_sigmoid,  # relu6(x + 3) / 6, as in Keras 3
  'linear': linear,
}


def activation_function(activation: str | Activation) -> Activation:
  """The function of that name, or the callable itself.

  Raises:
    ValueError: if the name is not in `ACTIVATIONS`.
  """
  if callable(activation):
    return activation
  if activation not in ACTIVATIONS:
    raise ValueError(
      f'activation must be one of {", ".join(ACTIVATIONS)} or a callable, '
      f'got {activation!r}'
    )
  return ACTIVATIONS[activation]


def _masked_matmul(
  x: Array, kernel: Array, mask: Array | None, *, time_axis: bool = False
) -> Array:
  """(x * mask) @ kernel: x [..., D], kernel [D, G] -> [..., G] in x's or wider dtype.

  `mask` has x's shape, less the time axis -2 where there is one, or that with one slice
  for each gate in front: gate g of the result then comes from x * mask[g].
  """
  # A bfloat16 kernel multiplies a bfloat16 copy of a float32 carry, and adds up wide.
  dtype = jnp.promote_types(x.dtype, kernel.dtype)

  def matmul(a: Array, k: Array) -> Array:
    return jnp.matmul(a.astype(k.dtype), k, preferred_element_type=dtype)

  if mask is None:
    return matmul(x, kernel)
  mask = mask.astype(x.dtype)
  if time_axis:
    mask = jnp.expand_dims(mask, -2)
  if mask.ndim == x.ndim:
    return matmul(x * mask, kernel)
  gates = jnp.split(kernel, mask.shape[0], axis=-1)
  return jnp.concatenate(
    [matmul(x * m, k) for m, k in zip(mask, gates, strict=True)], axis=-1
  )


def _biased(z: Array, bias: Array | None) -> Array:
  """z [..., G] + bias [G]; spelt out, for strict rank promotion."""
  return z if bias is None else z + jnp.broadcast_to(bias, z.shape)
