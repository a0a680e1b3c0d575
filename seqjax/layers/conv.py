"""Convolution and pooling over time that know what is padding.

A masked step counts as the zeros around a sequence: padding changes nothing in the
outputs that are real.
"""

import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from seqjax import cells
from seqjax.layers.base import Flags, MaskedLayer, zero_where_masked
from seqjax.layers.checks import check_flags, check_optional_sizes, check_sizes
from seqjax.layers.initializers import Initializer, glorot_uniform
from seqjax.types import Array

Padding = Literal['valid', 'same', 'causal']


class Conv1D(MaskedLayer):
  """Convolution over time: flax.linen's `Conv`, with Keras's defaults, and a mask.

  Parameters: kernel [K, D / groups, F], bias [F].

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
    groups: Parts that inputs and filters are cut into, each convolved for itself.

  Raises:
    ValueError: when it is made, if a size is less than 1, or the padding or activation
      is unknown.

  Example:
    >>> x = jax.random.normal(jax.random.key(0), (2, 9, 3))
    >>> conv = sj.Conv1D(4, 5, padding='causal', activation='relu')
    >>> y, params = conv.init_with_output(jax.random.key(1), x)
    >>> y.shape
    (2, 9, 4)
  """

  features: int
  kernel_size: int
  strides: int = 1
  padding: Padding = 'valid'
  dilation: int = 1
  activation: str | cells.Activation = 'linear'
  use_bias: bool = True
  kernel_init: Initializer = glorot_uniform
  dtype: Any = None
  param_dtype: Any = jnp.float32
  groups: int = 1

  def __post_init__(self) -> None:
    _check_padding(self.padding, ('valid', 'same', 'causal'))
    cells.activation_function(self.activation)
    check_sizes(
      features=self.features,
      kernel_size=self.kernel_size,
      strides=self.strides,
      dilation=self.dilation,
      groups=self.groups,
    )
    if self.features % self.groups:
      raise ValueError(f'{self.groups} groups must divide features {self.features}')
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
      feature_group_count=self.groups,
    )
    nn.share_scope(self, self.conv)

  @nn.nowrap
  def run(self, x: Array, mask: Flags) -> Array:
    """x [..., T, D], mask bool [..., T] -> [..., T', F].

    Raises:
      ValueError: if x is not [..., T, D], too short for the filter, or D can't be cut
        into the groups.
    """
    span = (self.kernel_size - 1) * self.dilation + 1
    _check_input('Conv1D', x, span if self.padding == 'valid' else 1)
    if x.shape[-1] % self.groups:
      raise ValueError(f'{self.groups} groups must divide the inputs of x {x.shape}')
    y = self.conv(x if mask is None else zero_padding(x, mask))
    return cells.activation_function(self.activation)(y)

  @nn.nowrap
  def compute_mask(self, x: Any, mask: Flags, y: Any = None) -> Flags:
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


class _Pooling1D(MaskedLayer):
  """What the two have in common."""

  pool_size: int = 2
  strides: int | None = None
  padding: Literal['valid', 'same'] = 'valid'

  def __post_init__(self) -> None:
    _check_padding(self.padding, ('valid', 'same'))
    check_sizes(pool_size=self.pool_size)
    check_optional_sizes(strides=self.strides)
    super().__post_init__()

  @nn.nowrap
  def run(self, x: Array, mask: Flags) -> Array:
    """x [..., T, D], mask bool [..., T] -> [..., T', D].

    Raises:
      ValueError: if x or mask is of another shape, or T is less than a 'valid' pool.
    """
    least = self.pool_size if self.padding == 'valid' else 1
    _check_input(type(self).__name__, x, least)
    return self._pools(x, mask)

  @nn.nowrap
  def _pools(self, x: Array, mask: Array | None) -> Array:
    raise NotImplementedError

  @nn.nowrap
  def _pooled(self, x: Array, reduce: Any, start: float) -> Array:
    """linen's `pool` over x [..., T, D], which wants one batch axis."""
    y = nn.pool(
      jnp.reshape(x, (-1, *x.shape[-2:])),
      start,
      reduce,
      (self.pool_size,),
      (self.strides or self.pool_size,),
      self.padding.upper(),
    )
    return y.reshape(*x.shape[:-2], *y.shape[-2:])

  @nn.nowrap
  def _largest(self, x: Array) -> Array:
    return self._pooled(x, jax.lax.max, -jnp.inf)

  @nn.nowrap
  def compute_mask(self, x: Any, mask: Flags, y: Any = None) -> Flags:
    """Mask [..., T'] of the outputs: real where anything in the pool is."""
    if mask is None:
      return None
    real = jnp.asarray(mask, jnp.float32)[..., None]
    return self._largest(real)[..., 0] > 0


class MaxPooling1D(_Pooling1D):
  """The largest of each pool of steps; a pool without a real step gives 0.

  Attributes:
    pool_size: Steps that become one.
    strides: Steps from one pool to the next; None: `pool_size`.
    padding: 'valid' or 'same'. What pads counts for nothing.

  Raises:
    ValueError: when it is made, if a size is less than 1 or the padding is unknown.

  Example:
    >>> x = jnp.array([[[1.0], [3.0], [2.0], [9.0]]])
    >>> real = jnp.array([[True, True, True, False]])
    >>> sj.MaxPooling1D(2).apply({}, x, mask=real).tolist()
    [[[3.0], [2.0]]]
  """

  @nn.nowrap
  def _pools(self, x: Array, mask: Array | None) -> Array:
    if mask is None:
      return self._largest(x)
    y = self._largest(zero_padding(x, mask, -jnp.inf))
    return zero_padding(y, jnp.asarray(self.compute_mask(x, mask)))


class AveragePooling1D(_Pooling1D):
  """The mean of the real steps of each pool; a pool without one gives 0.

  Attributes and errors: those of `MaxPooling1D`.

  Example:
    >>> x = jnp.array([[[1.0], [3.0], [2.0], [9.0]]])
    >>> real = jnp.array([[True, True, True, False]])
    >>> sj.AveragePooling1D(2).apply({}, x, mask=real).tolist()
    [[[2.0], [2.0]]]
  """

  @nn.nowrap
  def _pools(self, x: Array, mask: Array | None) -> Array:
    real = jnp.ones_like(x) if mask is None else zero_padding(jnp.ones_like(x), mask)
    total = self._pooled(x if mask is None else zero_padding(x, mask), jax.lax.add, 0.0)
    count = self._pooled(real, jax.lax.add, 0.0)
    return total / jnp.where(count == 0, 1, count)


class _GlobalPooling1D(MaskedLayer):
  """What takes the time axis away: one value of all real steps, 0 if there is none."""

  return_sequences = False

  @nn.nowrap
  def run(self, x: Array, mask: Flags) -> Array:
    """x [..., T, D], mask bool [..., T] -> [..., D].

    Raises:
      ValueError: if x or mask is of another shape, or T is 0.
    """
    _check_input(type(self).__name__, x, 1)
    return self._pools(x, mask)

  @nn.nowrap
  def _pools(self, x: Array, mask: Array | None) -> Array:
    raise NotImplementedError


class GlobalMaxPooling1D(_GlobalPooling1D):
  """The largest of all real steps; 0 where there is none.

  Example:
    >>> x = jnp.array([[[1.0], [3.0], [9.0]]])
    >>> largest = sj.GlobalMaxPooling1D()
    >>> largest.apply({}, x, mask=jnp.array([[True, True, False]])).tolist()
    [[3.0]]
  """

  @nn.nowrap
  def _pools(self, x: Array, mask: Array | None) -> Array:
    if mask is None:
      return jnp.max(x, axis=-2)
    y = jnp.max(zero_padding(x, mask, -jnp.inf), axis=-2)
    return zero_padding(y, jnp.any(mask, axis=-1))


class GlobalAveragePooling1D(_GlobalPooling1D):
  """The mean of all real steps; 0 where there is none.

  Example:
    >>> x = jnp.array([[[1.0], [3.0], [9.0]]])
    >>> mean = sj.GlobalAveragePooling1D()
    >>> mean.apply({}, x, mask=jnp.array([[True, True, False]])).tolist()
    [[2.0]]
  """

  @nn.nowrap
  def _pools(self, x: Array, mask: Array | None) -> Array:
    if mask is None:
      return jnp.mean(x, axis=-2)
    count = jnp.maximum(jnp.sum(mask, axis=-1, keepdims=True), 1).astype(x.dtype)
    total = jnp.sum(zero_padding(x, mask), axis=-2)
    return total / jnp.broadcast_to(count, total.shape)


class Flatten(MaskedLayer):
  """[B, ...] -> [B, F], zeros where a step is masked.

  Example:
    >>> sj.Flatten().apply({}, jnp.ones((2, 5, 3))).shape
    (2, 15)
  """

  return_sequences = False

  @nn.nowrap
  def run(self, x: Array, mask: Flags) -> Array:
    """x [B, ...], mask bool [B, T] of x [B, T, D] -> [B, F]."""
    x = jnp.asarray(x) if mask is None else zero_padding(x, mask)
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


def zero_padding(x: Array, mask: Array, fill: float = 0.0) -> Array:
  """x [..., T, D] with `fill` where the mask, bool [..., T], is False.

  Raises:
    ValueError: if the mask is not bool, or not of x's shape less the last axis.
  """
  check_flags('mask must be', mask, x.shape[:-1], x.shape)
  return zero_where_masked(x, mask, fill)


def _check_input(layer: str, x: Array, steps: int) -> None:
  if x.ndim < 2 or x.shape[-2] < steps:
    raise ValueError(f'{layer} needs x [..., T, D] with T >= {steps}, got {x.shape}')


def _check_padding(padding: str, allowed: tuple[str, ...]) -> None:
  if padding not in allowed:
    raise ValueError(f'padding must be one of {", ".join(allowed)}, got {padding!r}')
