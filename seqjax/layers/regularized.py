"""Regularised cells, for `RNN`: layer-normalised SimpleRNN, LSTM and GRU, zoneout."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from seqjax import cells
from seqjax.dropout import check_rate
from seqjax.layers.base import dropout_key
from seqjax.layers.checks import check_number, check_sizes
from seqjax.layers.initializers import (
  Initializer,
  glorot_uniform,
  in_float32,
  orthogonal,
)
from seqjax.layers.rnn import RNNCell
from seqjax.types import Array, PyTree


def normalize(x: Array, epsilon: float) -> Array:
  """(x - mean) / sqrt(variance + epsilon) over the last axis, in x's dtype."""
  x = x - jnp.mean(x, axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + epsilon)


class _LayerNormCell(RNNCell, kw_only=True):
  """What the cells with normalised pre-activations have in common.

  Parameters: kernel [D, G], recurrent_kernel [H, G], bias [G], and `scales`, [G] each.
  """

  features: int
  kernel_init: Initializer = glorot_uniform
  recurrent_kernel_init: Initializer = orthogonal
  param_dtype: Any = jnp.float32
  epsilon: float = 1e-5
  pure: ClassVar[cells.Cell]  # whose carry and number of gates it has
  scales: ClassVar[tuple[str, ...]] = ('x_scale', 'h_scale')

  def __post_init__(self) -> None:
    check_sizes(features=self.features)
    check_number('epsilon', self.epsilon, 0)
    super().__post_init__()

  def setup(self) -> None:
    G, ones = self.pure.num_gates * self.features, nn.initializers.ones_init()
    self.recurrent_kernel = self.param(
      'recurrent_kernel',
      in_float32(self.recurrent_kernel_init),
      (self.features, G),
      self.param_dtype,
    )
    self.bias = self.param('bias', self._draw_bias, (G,), self.param_dtype)
    for name in self.scales:
      setattr(self, name, self.param(name, ones, (G,), self.param_dtype))

  @nn.nowrap
  def zero_carry(self, batch_shape: tuple[int, ...], dtype: Any) -> PyTree:
    """That of the cell without norms, of [*batch_shape, H]s."""
    return cells.zero_carry(self.pure, (*batch_shape, self.features), dtype)

  @nn.compact
  def project(self, x: Array) -> Array:
    """x [..., T, D] -> [..., T, G]."""
    shape = (x.shape[-1], self.pure.num_gates * self.features)
    kernel = self.param('kernel', in_float32(self.kernel_init), shape, self.param_dtype)
    return self._projected(x @ kernel)

  @nn.nowrap
  def _projected(self, x: Array) -> Array:
    return _scaled(self._normalize(x), self.x_scale, self.bias)

  @nn.nowrap
  def _recurrent(self, h: Array) -> Array:
    return _scaled(self._normalize(h @ self.recurrent_kernel), self.h_scale)

  def _normalize(self, x: Array) -> Array:
    return normalize(x, self.epsilon)

  @nn.nowrap
  def _draw_bias(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    return jnp.zeros(shape, dtype)


class LayerNormSimpleRNNCell(_LayerNormCell):
  """h' = tanh(s * norm(x W + h U) + b).

  Parameters: kernel [D, H], recurrent_kernel [H, H], bias [H], scale [H]. Source: Ba,
  Kiros & Hinton 2016, arXiv:1607.06450, equation 4.

  Attributes: those of `LayerNormLSTMCell` but `unit_forget_bias`.

  Example:
    >>> x = jax.random.normal(jax.random.key(0), (2, 5, 3))
    >>> rnn = sj.RNN(sj.LayerNormSimpleRNNCell(4))
    >>> params = rnn.init(jax.random.key(1), x, train=False)
    >>> rnn.apply(params, x, train=False).shape
    (2, 4)
  """

  features: int
  pure = cells.simple_rnn()
  scales = ('scale',)

  def __call__(
    self, carry: cells.SimpleRNNCarry, x: Array, *, train: bool
  ) -> cells.SimpleRNNCarry:
    """One step: projected x [..., H] -> the next carry."""
    normal = self._normalize(x + carry.h @ self.recurrent_kernel)
    return cells.SimpleRNNCarry(jnp.tanh(_scaled(normal, self.scale, self.bias)))

  @nn.nowrap
  def _projected(self, x: Array) -> Array:
    return x  # one norm of the sum, which is not known before the step


class LayerNormLSTMCell(_LayerNormCell):
  """An LSTM with normalised pre-activations and memory.

  i, f, g, o = s_x * norm(x W) + s_h * norm(h U) + b, each norm over all 4H;
  c' = f * c + i * g; h' = o * tanh(s_c * norm(c') + b_c). Parameters: kernel [D, 4H],
  recurrent_kernel [H, 4H], bias [4H], x_scale [4H], h_scale [4H], c_scale [H],
  c_bias [H]. One bias stands for the three of the paper's sum. Source: Ba, Kiros &
  Hinton 2016, arXiv:1607.06450, equations 20 to 22.

  Attributes:
    features: Units, H.
    unit_forget_bias: The forget gate's quarter of the bias starts at 1.
    kernel_init: Of `kernel`.
    recurrent_kernel_init: Of `recurrent_kernel`.
    param_dtype: Of the parameters.
    epsilon: What is added to the variance.

  Example:
    >>> x = jax.random.normal(jax.random.key(0), (2, 5, 3))
    >>> rnn = sj.RNN(sj.LayerNormLSTMCell(4, epsilon=1e-3))
    >>> params = rnn.init(jax.random.key(1), x, train=False)
    >>> params['params']['cell']['c_scale'].shape
    (4,)
  """

  features: int
  unit_forget_bias: bool = True
  pure = cells.lstm()

  def setup(self) -> None:
    super().setup()
    ones, zeros = nn.initializers.ones_init(), nn.initializers.zeros_init()
    self.c_scale = self.param('c_scale', ones, (self.features,), self.param_dtype)
    self.c_bias = self.param('c_bias', zeros, (self.features,), self.param_dtype)

  def __call__(
    self, carry: cells.LSTMCarry, x: Array, *, train: bool
  ) -> cells.LSTMCarry:
    """One step: projected x [..., 4H] -> the next carry."""
    i, f, g, o = jnp.split(x + self._recurrent(carry.h), 4, axis=-1)
    c = jax.nn.sigmoid(f) * carry.c + jax.nn.sigmoid(i) * jnp.tanh(g)
    normal = _scaled(normalize(c, self.epsilon), self.c_scale, self.c_bias)
    return cells.LSTMCarry(h=jax.nn.sigmoid(o) * jnp.tanh(normal), c=c)

  @nn.nowrap
  def _draw_bias(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    H, forget = self.features, float(self.unit_forget_bias)
    return jnp.zeros(shape, dtype).at[H : 2 * H].set(forget)


class LayerNormGRUCell(_LayerNormCell):
  """A GRU with normalised pre-activations; gates z, r, h, h' = z * h + (1 - z) * n.

  z, r = s_x * norm(x W) + s_h * norm(h U) + b, each norm over both gates;
  n = tanh(s_x * norm(x Wn) + b + r * (s_h * norm(h Un))). Parameters: kernel [D, 3H],
  recurrent_kernel [H, 3H], bias [3H], x_scale [3H], h_scale [3H]. Source: Ba, Kiros &
  Hinton 2016, arXiv:1607.06450, supplement; its z is our 1 - z.

  Attributes: those of `LayerNormLSTMCell` but `unit_forget_bias`.

  Example:
    >>> x = jax.random.normal(jax.random.key(0), (2, 5, 3))
    >>> rnn = sj.Bidirectional(sj.RNN(sj.LayerNormGRUCell(4)))
    >>> params = rnn.init(jax.random.key(1), x, train=False)
    >>> rnn.apply(params, x, train=False).shape
    (2, 8)
  """

  features: int
  pure = cells.gru()

  def __call__(self, carry: cells.GRUCarry, x: Array, *, train: bool) -> cells.GRUCarry:
    """One step: projected x [..., 3H] -> the next carry."""
    H, h = self.features, carry.h
    recurrent = self._recurrent(h)
    gates = jax.nn.sigmoid(x[..., : 2 * H] + recurrent[..., : 2 * H])
    z, r = jnp.split(gates, 2, axis=-1)
    n = jnp.tanh(x[..., 2 * H :] + r * recurrent[..., 2 * H :])
    return cells.GRUCarry(h=z * h + (1 - z) * n)

  def _normalize(self, x: Array) -> Array:
    parts = jnp.split(x, [2 * self.features], axis=-1)  # gates, candidate
    return jnp.concatenate([normalize(part, self.epsilon) for part in parts], axis=-1)


class Zoneout(RNNCell):
  """A cell whose state keeps some of its old values at random.

  In training each unit of the state keeps its old value with the probability of its
  field, drawn anew in every step; otherwise it takes the expected mixture,
  rate * old + (1 - rate) * new. Source: Krueger et al. 2017, arXiv:1606.01305.

  Attributes:
    cell: An `RNNCell`.
    h_rate: Probability for the field h of the carry, in [0, 1).
    c_rate: Probability for its field c, if it has one.

  Raises:
    ValueError: when it is made, if a rate is outside [0, 1); when it runs, if `c_rate`
      is not 0 and the carry has no c.

  Example:
    >>> x = jax.random.normal(jax.random.key(0), (2, 5, 3))
    >>> rnn = sj.RNN(sj.Zoneout(sj.LayerCell(sj.LSTM(4)), h_rate=0.05, c_rate=0.5))
    >>> params = rnn.init(jax.random.key(1), x, train=False)
    >>> rnn.apply(params, x, train=True, rngs={'dropout': jax.random.key(2)}).shape
    (2, 4)
  """

  cell: Any
  h_rate: float = 0.0
  c_rate: float = 0.0

  def __post_init__(self) -> None:
    check_rate('h_rate', self.h_rate)
    check_rate('c_rate', self.c_rate)
    super().__post_init__()

  @nn.nowrap
  def zero_carry(self, batch_shape: tuple[int, ...], dtype: Any) -> PyTree:
    """That of the cell."""
    zeros = self.cell.zero_carry(batch_shape, dtype)
    if self.c_rate and 'c' not in zeros._fields:
      raise ValueError(f'c_rate is {self.c_rate}, but {type(zeros).__name__} has no c')
    return zeros

  def project(self, x: Array) -> PyTree:
    """That of the cell."""
    return self.cell.project(x)

  def output(self, carry: PyTree) -> PyTree:
    """That of the cell."""
    return self.cell.output(carry)

  def __call__(
    self, carry: PyTree, x: PyTree, *, train: bool, **constants: Any
  ) -> PyTree:
    """One step of the cell, and then the zoneout."""
    new = self.cell(carry, x, train=train, **constants)
    for name, rate in (('h', self.h_rate), ('c', self.c_rate)):
      if rate:
        value, old = getattr(new, name), getattr(carry, name)
        if train:
          key = dropout_key(self)
          value = jnp.where(jax.random.bernoulli(key, rate, old.shape), old, value)
        else:
          value = rate * old + (1 - rate) * value
        new = new._replace(**{name: value})
    return new


def _scaled(x: Array, scale: Array, bias: Array | None = None) -> Array:
  """x [..., G] * scale [G] + bias [G]; spelt out, for strict rank promotion."""
  x = x * jnp.broadcast_to(scale, x.shape)
  return x if bias is None else x + jnp.broadcast_to(bias, x.shape)
