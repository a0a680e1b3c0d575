"""An LSTM whose gates see the memory."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from seqjax import cells
from seqjax.layers.checks import check_sizes
from seqjax.layers.initializers import Initializer, glorot_uniform, orthogonal, zeros
from seqjax.layers.rnn import RNNCell
from seqjax.types import Array


class PeepholeLSTMCell(RNNCell):
  """An LSTM with peepholes: its gates see the memory too. A cell for `RNN`.

  i = s(.. + p_i * c), f = s(.. + p_f * c), c' = f * c + i * act(..),
  o = s(.. + p_o * c'), h' = o * act(c'), where .. is x W + h U + b of each.

  Parameters kernel [D, 4H], recurrent_kernel [H, 4H], bias [4H], gates in the order i,
  f, c, o; peephole [3, H] of i, f, o. Source: Gers, Schraudolph & Schmidhuber 2002,
  Learning precise timing with LSTM recurrent networks; ONNX's LSTM.

  Attributes:
    features: Units, H.
    activation: As of `LSTM`.
    recurrent_activation: Of the gates i, f and o.
    use_bias: Whether there is a parameter `bias`.
    unit_forget_bias: The forget gate's quarter of the bias starts at 1.
    kernel_init, recurrent_kernel_init, peephole_init: Of the parameters; peepholes
      start at zero, where the cell is an LSTM.

  Example:
    >>> x = jax.random.normal(jax.random.key(0), (2, 5, 3))
    >>> layer = sj.RNN(sj.PeepholeLSTMCell(4))
    >>> params = layer.init(jax.random.key(1), x, train=False)
    >>> params['params']['cell']['peephole'].shape
    (3, 4)
  """

  features: int
  activation: str | cells.Activation = 'tanh'
  recurrent_activation: str | cells.Activation = 'sigmoid'
  use_bias: bool = True
  unit_forget_bias: bool = True
  kernel_init: Initializer = glorot_uniform
  recurrent_kernel_init: Initializer = orthogonal
  peephole_init: Initializer = zeros

  def __post_init__(self) -> None:
    check_sizes(features=self.features)
    cells.activation_function(self.activation)
    cells.activation_function(self.recurrent_activation)
    super().__post_init__()

  def setup(self) -> None:
    H = self.features
    shape = (H, 4 * H)
    self.recurrent_kernel = self.param(
      'recurrent_kernel', self.recurrent_kernel_init, shape
    )
    self.peephole = self.param('peephole', self.peephole_init, (3, H))

  @nn.nowrap
  def zero_carry(self, batch_shape: tuple[int, ...], dtype: Any) -> cells.LSTMCarry:
    """Zeros, as an LSTM's."""
    return cells.zero_carry(cells.lstm(), (*batch_shape, self.features), dtype)

  @nn.compact
  def project(self, x: Array) -> Array:
    """Input part of all gates: x [..., T, D] -> [..., T, 4H]."""
    H = self.features
    kernel = self.param('kernel', self.kernel_init, (x.shape[-1], 4 * H))
    z = x @ kernel
    if not self.use_bias:
      return z
    forget = 1.0 if self.unit_forget_bias else 0.0

    def init(key: Array, shape: Any) -> Array:
      del key
      return jnp.zeros(shape, jnp.float32).at[H : 2 * H].set(forget)

    return z + jnp.broadcast_to(self.param('bias', init, (4 * H,)), z.shape)

  def __call__(
    self, carry: cells.LSTMCarry, x: Array, *, train: bool
  ) -> cells.LSTMCarry:
    """One step: the carry and projected x [..., 4H] -> the next carry."""
    act = cells.activation_function(self.activation)
    gate = cells.activation_function(self.recurrent_activation)
    h, c = carry.h, carry.c
    z = x.astype(h.dtype) + (h @ self.recurrent_kernel).astype(h.dtype)
    i, f, g, o = jnp.split(z, 4, axis=-1)
    p_i, p_f, p_o = (jnp.broadcast_to(p, c.shape) for p in self.peephole)
    c = gate(f + p_f * c) * c + gate(i + p_i * c) * act(g)
    return cells.LSTMCarry(h=gate(o + p_o * c) * act(c), c=c)
