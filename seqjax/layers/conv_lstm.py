"""ConvLSTM: an LSTM over maps, whose products are convolutions."""

import functools
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from seqjax import cells, scan
from seqjax.layers.base import TrainedLayer
from seqjax.layers.checks import (
  check_carry,
  check_flags,
  check_sizes,
  described,
  mask_of,
)
from seqjax.layers.initializers import (
  Initializer,
  glorot_uniform,
  in_float32,
  orthogonal,
)
from seqjax.types import Array


class ConvLSTM(TrainedLayer):
  """An LSTM over sequences of maps, x [B, T, *S, C], of one or two dimensions.

  As Keras's ConvLSTM1D and ConvLSTM2D: W x and U h are convolutions, that of h with
  padding 'same'. Parameters kernel [*K, C, 4F], recurrent_kernel [*K, F, 4F], bias
  [4F]; gates in the order i, f, c, o. Source: Shi et al. 2015, arXiv:1506.04214,
  without peepholes.

  Attributes:
    features: Filters, F.
    kernel_size: K: one number for each dimension of the maps, (3,) or (3, 3).
    strides: Of the convolution of x, one for all dimensions.
    padding: 'valid' or 'same', of the convolution of x.
    activation: As of `LSTM`.
    recurrent_activation: Of the gates i, f and o.
    use_bias: Whether there is a parameter `bias`.
    unit_forget_bias: The forget gate's quarter of the bias starts at 1.
    return_sequences: Return h of all steps, not only of the last real one.
    return_carry: Return (carry, y), not y.
    go_backwards: Process from the last step to the first; y is in that order.
    kernel_init, recurrent_kernel_init: Of the parameters, drawn for all gates at once.

  Raises:
    ValueError: when it is made, if a size is less than 1, there are not one or two
      dimensions, or an activation is unknown.

  Example:
    >>> x = jax.random.normal(jax.random.key(0), (2, 5, 8, 8, 3))
    >>> layer = sj.ConvLSTM(4, (3, 3), padding='same')
    >>> params = layer.init(jax.random.key(1), x, train=False)
    >>> layer.apply(params, x, train=False).shape
    (2, 8, 8, 4)
  """

  features: int
  kernel_size: Sequence[int]
  strides: int = 1
  padding: Literal['valid', 'same'] = 'valid'
  activation: str | cells.Activation = 'tanh'
  recurrent_activation: str | cells.Activation = 'sigmoid'
  use_bias: bool = True
  unit_forget_bias: bool = True
  return_sequences: bool = False
  return_carry: bool = False
  go_backwards: bool = False
  kernel_init: Initializer = glorot_uniform
  recurrent_kernel_init: Initializer = orthogonal
  takes = ('mask', 'initial_carry')
  elsewhere: ClassVar[dict[str, str]] = {
    'data_format': 'x is [B, T, *S, C], channels last',
    'keep_order': 'with go_backwards hand y over to jnp.flip(y, 1)',
  }

  def __post_init__(self) -> None:
    given = self.kernel_size
    if not isinstance(given, Sequence) or len(given) not in (1, 2):
      raise ValueError(f'kernel_size must have one number or two, got {given}')
    self.kernel_size = tuple(given)
    for size in self.kernel_size:
      check_sizes(kernel_size=size)
    check_sizes(features=self.features, strides=self.strides)
    if self.padding not in ('valid', 'same'):
      raise ValueError(f"padding must be 'valid' or 'same', got {self.padding!r}")
    for activation in (self.activation, self.recurrent_activation):
      cells.activation_function(activation)
    super().__post_init__()

  @nn.compact
  def __call__(
    self,
    x: Array,
    train: bool | None = None,
    *,
    mask: Array | None = None,
    initial_carry: cells.LSTMCarry | None = None,
    lengths: Array | None = None,
    **unknown: Any,
  ) -> Any:
    """Runs the layer over sequences.

    Args:
      x: [B, T, *S, C].
      train: As of the other layers; nothing is dropped.
      mask: bool [B, T], True where a step is real; others carry the state through.
      initial_carry: Each field [B, *S', F], S' the maps behind the convolution of x.
      lengths: int [B], how many steps of each row are real; in place of a mask.
      **unknown: Refused.

    Returns:
      y [B, T, *S', F] with `return_sequences`, else [B, *S', F]; with `return_carry`
      (carry, y).

    Raises:
      ValueError: if the shapes do not fit together.
    """
    self.is_training(train, unknown)
    rank, F = len(self.kernel_size), self.features
    if jnp.ndim(x) != 3 + rank or not jnp.issubdtype(x.dtype, jnp.floating):
      axes = ', '.join('HW'[2 - rank :])
      raise ValueError(f'ConvLSTM needs float x [B, T, {axes}, C], got {described(x)}')
    mask = mask_of('ConvLSTM', x, mask, lengths)
    if mask is not None:
      check_flags('ConvLSTM needs mask', mask, x.shape[:2], x.shape)
      real = mask.reshape(*mask.shape, *[1] * (rank + 1))
      x = jnp.where(jnp.broadcast_to(real, x.shape), x, 0)
    kernels = (
      self.param(name, in_float32(init), (*self.kernel_size, size, 4 * F))
      for name, init, size in (
        ('kernel', self.kernel_init, x.shape[-1]),
        ('recurrent_kernel', self.recurrent_kernel_init, F),
      )
    )
    bias = self.param('bias', self._draw_bias, (4 * F,)) if self.use_bias else None
    x, kernel, recurrent_kernel, bias = promote_dtype(x, *kernels, bias, dtype=None)
    (B, T), rows = x.shape[:2], x.reshape(-1, *x.shape[2:])
    z = _convolve(rows, kernel, self.strides, self.padding)  # [B T, *S', 4F]
    if bias is not None:
      z += jnp.broadcast_to(bias, z.shape)
    maps = z.shape[1:-1]
    carry = cells.zero_carry(cells.lstm(), (B, *maps, F), z.dtype)
    if initial_carry is not None:
      carry = check_carry('ConvLSTM', initial_carry, carry)

    def flat(a: Array) -> Array:
      return a.reshape(B, -1)

    def step(carry: cells.LSTMCarry, z: Array) -> cells.LSTMCarry:
      h, c = (a.reshape(B, *maps, F) for a in carry)
      z = z.reshape(B, *maps, 4 * F) + _convolve(h, recurrent_kernel, 1, 'same')
      act = cells.activation_function(self.activation)
      gate = cells.activation_function(self.recurrent_activation)
      i, f, g, o = jnp.split(z, 4, axis=-1)
      c = gate(f) * c + gate(i) * act(g)
      return cells.LSTMCarry(h=flat(gate(o) * act(c)), c=flat(c))

    size = math.prod(maps) * 4 * F
    carry, ys = scan.scan_time(
      step,
      jax.tree.map(flat, carry),
      z.reshape(B, T, size),
      mask,
      go_backwards=self.go_backwards,
    )
    carry = jax.tree.map(lambda a: a.reshape(B, *maps, F), carry)
    y = ys.reshape(B, T, *maps, F) if self.return_sequences else carry.h
    return (carry, y) if self.return_carry else y

  @nn.nowrap
  def _draw_bias(self, key: Array, shape: Any) -> Array:
    del key
    F, forget = self.features, float(self.unit_forget_bias)
    return jnp.zeros(shape, jnp.float32).at[F : 2 * F].set(forget)

  @nn.nowrap
  def compute_mask(self, x: Any, mask: Any, y: Any = None) -> Any:
    """The mask of y in the order of its steps: None where y has no time axis."""
    mask = super().compute_mask(x, mask)
    return jnp.flip(mask, -1) if mask is not None and self.go_backwards else mask


def _convolve(x: Array, kernel: Array, strides: int, padding: str) -> Array:
  """x [N, *S, C], kernel [*K, C, G] -> [N, *S', G]."""
  maps = 'HW'[: x.ndim - 2]
  run = functools.partial(
    jax.lax.conv_general_dilated,
    window_strides=[strides] * len(maps),
    padding=padding.upper(),
    dimension_numbers=(f'N{maps}C', f'{maps}IO', f'N{maps}C'),
  )
  return run(x, kernel)
