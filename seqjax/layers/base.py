"""What a layer says of itself, and how a layer that holds others calls them."""

import inspect
from typing import Any, ClassVar, TypeAlias

import flax.linen as nn
import jax.numpy as jnp

from seqjax.types import Array

Flags: TypeAlias = Array | None  # bool [..., T]: a mask, or where episodes begin


class Layer(nn.Module):
  """A module that declares what those who hold it must know.

  linen's own modules, functions, and modules of a user that inherit nothing here serve
  as well: `declared` finds out what they are from their signatures.

  Attributes:
    takes: What it is called with besides x: of 'train', 'mask', 'reset' and
      'initial_carry'.
    takes_lookup: Whether x may also be a `fast.Lookup`.
  """

  takes: ClassVar[tuple[str, ...]] = ()
  takes_lookup: ClassVar[bool] = False

  @property
  def return_sequences(self) -> bool | None:
    """Whether y has a time axis; None: if x has one."""
    return None

  @property
  def return_carry(self) -> bool:
    """Whether it returns (carry, y), not y."""
    return False

  def compute_mask(self, x: Any, mask: Flags, y: Any = None) -> Flags:
    """The mask of y, given that of x: None where y has no time axis."""
    return None if self.return_sequences is False else mask

  def compute_reset(self, reset: Flags) -> Flags:
    """The flags at the steps of y, given those at the steps of x."""
    return None if self.return_sequences is False else reset


class _Foreign:
  """What `Layer` declares, of a function of x alone or a module that inherits nothing.

  Their masks are something else, unless there is a method `compute_mask`.
  """

  takes_lookup = False

  def __init__(self, layer: Any) -> None:
    self._compute_mask = getattr(layer, 'compute_mask', None)
    self.return_sequences = getattr(layer, 'return_sequences', None)
    self.return_carry = getattr(layer, 'return_carry', False)
    is_module = isinstance(layer, nn.Module)
    names = inspect.signature(type(layer).__call__).parameters if is_module else ()
    may_take = {
      'train': True,
      'mask': self._compute_mask is not None,
      'reset': self.return_sequences is not None,
      'initial_carry': self.return_sequences is not None,
      'deterministic': getattr(layer, 'deterministic', None) is None,
      'use_running_average': getattr(layer, 'use_running_average', None) is None,
    }
    self.takes = tuple(name for name, may in may_take.items() if may and name in names)

  def compute_mask(self, x: Any, mask: Flags, y: Any = None) -> Flags:
    """Its own word, or else the mask while it fits y, if that is known."""
    if self._compute_mask is not None:
      return self._compute_mask(x, mask)
    fits = mask is None or y is None or y.shape[: mask.ndim] == mask.shape
    return mask if fits else None

  def compute_reset(self, reset: Flags) -> Flags:
    return reset


def declared(layer: Any) -> Layer | _Foreign:
  """The layer, or what is found out of one that declares nothing."""
  return layer if isinstance(layer, Layer) else _Foreign(layer)


def call_layer(layer: Any, x: Any, *, train: bool, **given: Any) -> Any:
  """Calls a layer with what it takes of `train` and of what is given.

  Args:
    layer: A module of seqjax or of linen, or a function of x alone.
    x: Its input.
    train: As `deterministic` or `use_running_average`, its opposite, to one of linen's
      that takes these and has no field of that name set.
    **given: mask bool [..., T], and as it may be `reset` and `initial_carry`.
  """
  given |= {'train': train, 'deterministic': not train}
  given['use_running_average'] = not train
  return layer(x, **{k: given[k] for k in declared(layer).takes if k in given})


def zero_where_masked(x: Array, mask: Array, fill: float = 0.0) -> Array:
  """x [..., T, D] with `fill` where the mask, bool [..., T], is False."""
  return jnp.where(jnp.broadcast_to(jnp.expand_dims(mask, -1), x.shape), x, fill)
