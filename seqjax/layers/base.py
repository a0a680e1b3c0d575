"""What a layer says of itself, and how a layer that holds others calls them."""

import inspect
from collections.abc import Iterable
from typing import Any, ClassVar, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import InvalidRngError

from seqjax.layers.checks import mask_of
from seqjax.layers.names import Named
from seqjax.types import Array

Flags: TypeAlias = Array | None  # bool [..., T]: a mask, or where episodes begin


class Layer(Named, nn.Module):
  """A module that declares what those who hold it must know.

  linen's own modules, functions, and modules of a user that inherit nothing here serve
  as well: `declared` finds out what they are from their signatures.

  Attributes:
    takes: Keywords that it is called with: of 'train', 'mask', 'reset',
      'initial_carry' and 'constants'.
    takes_lookup: Whether x may also be a `fast.Lookup`.

  Raises:
    TypeError: when it is made, if an option has another name here.
  """

  takes: ClassVar[tuple[str, ...]] = ()
  takes_lookup: ClassVar[bool] = False

  @nn.nowrap
  def param(self, name: str, init_fn: Any, *args: Any, **kwargs: Any) -> Any:
    """As linen's, which traces `init_fn` at each call to compare the shape of a value.

    That took two thirds of the time of a layer that is called without jit.
    """
    if not kwargs and args and self.has_variable('params', name):
      value = nn.meta.unbox(self.get_variable('params', name))
      fits = isinstance(args[0], tuple) and args[0] == getattr(value, 'shape', None)
      if fits and not self.is_mutable_collection('params'):
        return value
    return super().param(name, init_fn, *args, **kwargs)

  @property
  def return_sequences(self) -> bool | None:
    """Whether y has a time axis; None: if x has one."""
    return None

  @property
  def return_carry(self) -> bool:
    """Whether it returns (carry, y), not y."""
    return False

  @nn.nowrap
  def compute_mask(self, x: Any, mask: Flags, y: Any = None) -> Flags:
    """The mask of y, given that of x: None where y has no time axis."""
    return None if self.return_sequences is False else mask

  @nn.nowrap
  def compute_reset(self, reset: Flags) -> Flags:
    """The flags at the steps of y, given those at the steps of x."""
    return None if self.return_sequences is False else reset


class MaskedLayer(Layer):
  """A layer that is called as (x, mask=) or (x, lengths=); a class below is `run`."""

  takes = ('mask',)

  def __call__(
    self,
    x: Array,
    *,
    mask: Array | None = None,
    lengths: Array | None = None,
    **unknown: Any,
  ) -> Array:
    """Applies the layer.

    Args:
      x: As the layer says.
      mask: bool [..., T], True where a step is real.
      lengths: int [...], how many steps of each row are real, from the first on; in
        place of a mask.
      **unknown: Refused.

    Raises:
      ValueError: if x, mask or lengths are not what the layer says.
    """
    kind = type(self).__name__
    self.refuse(unknown)
    return self.run(x, mask_of(kind, x, mask, lengths))

  @nn.nowrap
  def run(self, x: Array, mask: Flags) -> Array:
    """What the layer does."""
    raise NotImplementedError


class TrainedLayer(Layer, kw_only=True):
  """A layer that is called as (x, train).

  Attributes:
    train: Whether dropout is on, where the call does not say so: one of the two must,
      as for `deterministic` in linen.
  """

  train: bool | None = None

  @nn.nowrap
  def is_training(self, train: bool | None, unknown: Iterable[str] = ()) -> bool:
    """What field and call say together.

    Raises:
      TypeError: if neither says it, it is traced, or the call has an argument that
        there is not.
      ValueError: if both say it.
    """
    kind = type(self).__name__
    self.refuse(unknown)
    if train is None and self.train is None:
      raise TypeError(f'{kind} needs train: layer(x, train=...) or {kind}(train=...)')
    if isinstance(train, jax.core.Tracer):
      raise TypeError(
        f'{kind} needs train as a Python bool: under jit or nn.remat as a field, or as '
        'the second argument, which is static (static_argnums=(2,))'
      )
    return nn.merge_param('train', self.train, train)


class _Foreign:
  """What `Layer` declares, of a function of x alone or a module that inherits nothing.

  Their masks are something else, unless there is a method `compute_mask`. Signatures
  are read here alone: linen's modules and a user's declare nothing.

  Attributes:
    arguments: Names of what its `__call__` takes.
  """

  takes_lookup = False

  def __init__(self, layer: Any) -> None:
    self._compute_mask = getattr(layer, 'compute_mask', None)
    self.return_sequences = getattr(layer, 'return_sequences', None)
    self.return_carry = getattr(layer, 'return_carry', False)
    self.arguments: tuple[str, ...] = ()
    if isinstance(layer, nn.Module):
      self.arguments = tuple(inspect.signature(type(layer).__call__).parameters)
    may_take = {
      'train': True,
      'mask': self._compute_mask is not None,
      'reset': self.return_sequences is not None,
      'initial_carry': self.return_sequences is not None,
      'deterministic': getattr(layer, 'deterministic', None) is None,
      'use_running_average': getattr(layer, 'use_running_average', None) is None,
    }
    self.takes = tuple(
      name for name, may in may_take.items() if may and name in self.arguments
    )

  def compute_mask(self, x: Any, mask: Flags, y: Any = None) -> Flags:
    """Its own word, or else the mask while it fits y, if that is known."""
    if self._compute_mask is not None:
      return self._compute_mask(x, mask)
    if mask is None or y is None:
      return mask
    return mask if getattr(y, 'shape', ())[: mask.ndim] == mask.shape else None

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
  args = (train,) if isinstance(layer, TrainedLayer) and layer.train is None else ()
  given |= {'train': train, 'deterministic': not train}
  given['use_running_average'] = not train
  takes = declared(layer).takes
  return layer(x, *args, **{k: given[k] for k in takes if k in given})


def call_options(model: nn.Module, *, train: bool, mask: Any = None) -> dict[str, Any]:
  """The keywords to call a model with: those of `train` and `mask` that it takes.

  As in `call_layer`, but a model of anyone's that takes a `mask` is given it.

  Raises:
    TypeError: if there is a mask, and the model takes none.
  """
  given = {'train': train, 'deterministic': not train, 'mask': mask}
  known = declared(model)
  takes = known.arguments if isinstance(known, _Foreign) else known.takes
  if isinstance(model, TrainedLayer):
    takes = ('train', *takes)
  options = {k: v for k, v in given.items() if k in takes}
  for name in ('train', 'deterministic'):
    if getattr(model, name, None) is not None:
      options.pop(name, None)
  if mask is None:
    options.pop('mask', None)
  elif 'mask' not in options:
    raise TypeError(
      f'sequences of unequal length come with a mask, which {type(model).__name__} '
      f'does not take: its __call__ needs an argument mask, bool [B, T]'
    )
  return options


def dropout_key(module: nn.Module) -> Array:
  """A key of the rng collection `dropout`.

  Raises:
    InvalidRngError: if there is none.
  """
  if not module.has_rng('dropout') and not module.has_rng('params'):
    kind = type(module).__name__
    raise InvalidRngError(
      f"{kind} draws in training: it needs apply(..., rngs={{'dropout': key}})"
    )
  return module.make_rng('dropout')


def zero_where_masked(x: Array, mask: Array, fill: float = 0.0) -> Array:
  """x [..., T, D] with `fill` where the mask, bool [..., T], is False."""
  return jnp.where(jnp.broadcast_to(jnp.expand_dims(mask, -1), x.shape), x, fill)
