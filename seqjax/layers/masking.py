"""Masking: steps that hold nothing but one value are padding."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from seqjax.layers.base import Flags, MaskedLayer, zero_where_masked
from seqjax.layers.checks import check_known, check_number, check_sequence
from seqjax.types import Array


class Masking(MaskedLayer):
  """Makes a mask: a step is padding if all its inputs are `mask_value`.

  Attributes:
    mask_value: What padding is filled with.

  Raises:
    ValueError: when it is made, if that is no number.

  Example:
    >>> x = jnp.array([[[1.0], [2.0], [-1.0]]])
    >>> padding = sj.Masking(mask_value=-1.0)
    >>> padding.compute_mask(x).tolist(), padding.apply({}, x).tolist()
    ([[True, True, False]], [[[1.0], [2.0], [0.0]]])
  """

  mask_value: float = 0.0

  def __post_init__(self) -> None:
    check_number('mask_value', self.mask_value)
    super().__post_init__()

  @nn.nowrap
  def run(self, x: Array, mask: Flags) -> Array:
    """x [..., T, D], mask bool [..., T] -> x with zeros where it is padding.

    Raises:
      ValueError: if x is not float [..., T, D], or the mask does not fit.
    """
    check_sequence('Masking', x, mask=mask)
    return zero_where_masked(x, jnp.asarray(self.compute_mask(x, mask)))

  @nn.nowrap
  def compute_mask(self, x: Any, mask: Flags = None, y: Any = None) -> Flags:
    """Mask [..., T] of x [..., T, D]: True where real, and where `mask` is."""
    check_known('Masking', x)
    real = jnp.any(x != self.mask_value, axis=-1)
    return real if mask is None else real & mask
