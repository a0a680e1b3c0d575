"""Convolution and pooling over time that know what is padding.

A masked step counts as the zeros around a sequence: padding changes nothing in the
outputs that are real.
"""

import math
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp

from seqjax import cells
from seqjax.layers.checks import check_flags, check_sizes
from seqjax.types import Array

Padding = Literal['valid', 'same', 'causal']


class Conv1D(nn.Module):
  """Convolution over time: flax.linen's `Conv`, with Keras's defaults, and a mask.

  Parameters: kernel [K, D, F], bias [F].

  Attributes:
    features: Filters, F.
    kernel_size: Steps of time that a filter sees, K.
    strides: Steps from one output to the next.
    padding: 'valid': only where the filter fits; 'same': zeros on both sides; 'causal':
      zeros in front, so that no output sees a later step.
    dilation: Steps from one tap of the filter to the next.
    activation: As of the recurrent layers.
    use_bias: Whether there is a parameter `bias`.
    kernel_init: Of `kernel`.
    dtype: Of the result; None: that of inputs and parameters together.
    param_dtype: Of the parameters.

  Raises:
    ValueError: when it is made, if a size is less than 1, or the padding or activation
      is unknown.
  """

  features: int
  kernel_size: int
  strides: int = 1
  padding: Padding = 'valid'
  dilation: int = 1
  activation: str | cells.Activation = 'linear'
  use_bias: bool = True
  kernel_init: nn.initializers.Initializer = nn.initializers.glorot_uniform()
  dtype: Any = None
  param_dtype: Any = jnp.float32

  def __post_init__(self) -> None:
    _check_padding(self.padding, ('valid', 'same', 'causal'))
    cells.activation_function(self.activation)
    check_sizes(
      features=self.features,
      kernel_size=self.kernel_size,
      strides=self.strides,
      dilation=self.dilation,
    )
    super().__post_init__()

  def setup(self) -> None:
    self.conv = nn.Conv(
      self.features,
      (self.kernel_size,),
      strides=(self.strides,),
      padding=self.padding.upper(),
      kernel_dilation=(self.dilation,),
      use_bias=self.use_bias,
      kernel_init=self.kernel_init,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
    )
    nn.share_scope(self, self.conv)

  def __call__(self, x: Array, *, mask: Array | None = None) -> Array:
    """x [..., T, D], mask bool [..., T] -> [..., T', F].

    Raises:
      ValueError: if x is not [..., T, D], or too short for the filter.
    """
    span = (self.kernel_size - 1) * self.dilation + 1
    _check_input('Conv1D', x, span if self.padding == 'valid' else 1)
    y = self.conv(x if mask is None else zero_padding(x, mask))
    return cells.activation_function(self.activation)(y)

  def compute_mask(self, x: Array, mask: Array | None) -> Array | None:
    """Mask [..., T'] of the outputs.

    With 'valid' a step is real if all it sees is; else if the step it stands at is.
    """
    if mask is None:
      return None
    if self.padding != 'valid':
      return mask[..., :: self.strides]
    span = (self.kernel_size - 1) * self.dilation
    steps = (mask.shape[-1] - span - 1) // self.strides + 1
    taps = [
      mask[..., tap * self.dilation :][..., :: self.strides][..., :steps]
      for tap in range(self.kernel_size)
    ]
    return jnp.all(jnp.stack(taps), axis=0)


class _Pooling1D(nn.Module):
  """What the two have in common.

  Attributes:
    pool_size: Steps that become one.
    strides: Steps from one pool to the next; None: `pool_size`.
    padding: 'valid' or 'same'. What pads counts for nothing.

  Raises:
    ValueError: when it is made, if a size is less than 1 or the padding is unknown.
  """

  pool_size: int = 2
  strides: int | None = None
  padding: Literal['valid', 'same'] = 'valid'

  def __post_init__(self) -> None:
    _check_padding(self.padding, ('valid', 'same'))
    check_sizes(pool_size=self.pool_size, strides=self.strides)
    super().__post_init__()

  def _options(self) -> dict[str, Any]:
    return {
      'window_shape': (self.pool_size,),
      'strides': (self.strides or self.pool_size,),
      'padding': self.padding.upper(),
    }

  def compute_mask(self, x: Array, mask: Array | None) -> Array | None:
    """Mask [..., T'] of the outputs: real where anything in the pool is."""
    return None if mask is None else self._pooled_mask(mask)

  def _pooled_mask(self, mask: Array) -> Array:
    real = jnp.asarray(mask, jnp.float32)[..., None]
    return _pooled(nn.max_pool, real, self._options())[..., 0] > 0


class MaxPooling1D(_Pooling1D):
  """The largest of each pool of steps; a pool without a real step gives 0.

  Attributes:
    pool_size: Steps that become one.
    strides: Steps from one pool to the next; None: `pool_size`.
    padding: 'valid' or 'same'. What pads counts for nothing.
  """

  def __call__(self, x: Array, *, mask: Array | None = None) -> Array:
    """x [..., T, D], mask bool [..., T] -> [..., T', D].

    Raises:
      ValueError: if x or mask is of another shape, or T is less than a 'valid' pool.
    """
    _check_input('MaxPooling1D', x, self.pool_size if self.padding == 'valid' else 1)
    if mask is None:
      return _pooled(nn.max_pool, x, self._options())
    y = _pooled(nn.max_pool, zero_padding(x, mask, -jnp.inf), self._options())
    return zero_padding(y, self._pooled_mask(mask))


class AveragePooling1D(_Pooling1D):
  """The mean of the real steps of each pool; a pool without one gives 0.

  Attributes: those of `MaxPooling1D`.
  """

  def __call__(self, x: Array, *, mask: Array | None = None) -> Array:
    """x [..., T, D], mask bool [..., T] -> [..., T', D].

    Raises:
      ValueError: if x or mask is of another shape, or T is less than a 'valid' pool.
    """
    size = self.pool_size if self.padding == 'valid' else 1
    _check_input('AveragePooling1D', x, size)
    if mask is None:
      options = self._options() | {'count_include_pad': False}
      return _pooled(nn.avg_pool, x, options)
    real = jnp.broadcast_to(jnp.expand_dims(mask, -1), x.shape).astype(x.dtype)
    options = self._options() | {'count_include_pad': True}
    total = _pooled(nn.avg_pool, zero_padding(x, mask), options)
    share = _pooled(nn.avg_pool, real, options)
    return total / jnp.where(share == 0, 1, share)


class GlobalMaxPooling1D(nn.Module):
  """The largest of all real steps; 0 where there is none."""

  def __call__(self, x: Array, *, mask: Array | None = None) -> Array:
    """x [..., T, D], mask bool [..., T] -> [..., D].

    Raises:
      ValueError: if x or mask is of another shape, or T is 0.
    """
    _check_input('GlobalMaxPooling1D', x, 1)
    if mask is None:
      return jnp.max(x, axis=-2)
    y = jnp.max(zero_padding(x, mask, -jnp.inf), axis=-2)
    return zero_padding(y, jnp.any(mask, axis=-1))

  def compute_mask(self, x: Array, mask: Array | None) -> None:
    """None: time is gone."""


class GlobalAveragePooling1D(nn.Module):
  """The mean of all real steps; 0 where there is none."""

  def __call__(self, x: Array, *, mask: Array | None = None) -> Array:
    """x [..., T, D], mask bool [..., T] -> [..., D].

    Raises:
      ValueError: if x or mask is of another shape, or T is 0.
    """
    _check_input('GlobalAveragePooling1D', x, 1)
    if mask is None:
      return jnp.mean(x, axis=-2)
    count = jnp.maximum(jnp.sum(mask, axis=-1, keepdims=True), 1).astype(x.dtype)
    total = jnp.sum(zero_padding(x, mask), axis=-2)
    return total / jnp.broadcast_to(count, total.shape)

  def compute_mask(self, x: Array, mask: Array | None) -> None:
    """None: time is gone."""


class Flatten(nn.Module):
  """[B, ...] -> [B, F], zeros where a step is masked."""

  def __call__(self, x: Array, *, mask: Array | None = None) -> Array:
    """x [B, ...], mask bool [B, T] of x [B, T, D] -> [B, F]."""
    x = jnp.asarray(x) if mask is None else zero_padding(x, mask)
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))

  def compute_mask(self, x: Array, mask: Array | None) -> None:
    """None: time is gone."""


def zero_padding(x: Array, mask: Array, fill: float = 0.0) -> Array:
  """x [..., T, D] with `fill` where the mask, bool [..., T], is False.

  Raises:
    ValueError: if the mask is not bool, or not of x's shape less the last axis.
  """
  check_flags('mask must be', mask, x.shape[:-1], x.shape)
  return jnp.where(jnp.broadcast_to(jnp.expand_dims(mask, -1), x.shape), x, fill)


def _pooled(pool: Any, x: Array, options: dict[str, Any]) -> Array:
  """`pool` of linen over x [..., T, D], which wants one batch axis."""
  flat = jnp.reshape(x, (-1, *x.shape[-2:]))
  y = pool(flat, **options)
  return y.reshape(*x.shape[:-2], *y.shape[-2:])


def _check_input(layer: str, x: Array, steps: int) -> None:
  if x.ndim < 2 or x.shape[-2] < steps:
    raise ValueError(f'{layer} needs x [..., T, D] with T >= {steps}, got {x.shape}')


def _check_padding(padding: str, allowed: tuple[str, ...]) -> None:
  if padding not in allowed:
    raise ValueError(f'padding must be one of {", ".join(allowed)}, got {padding!r}')
