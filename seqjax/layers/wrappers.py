"""Bidirectional, TimeDistributed and RepeatVector."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from seqjax.layers.base import Flags, Layer, TrainedLayer, call_layer, declared
from seqjax.layers.checks import (
  check_carries,
  check_flags,
  check_layer,
  check_sizes,
  mask_of,
)
from seqjax.layers.recurrence import Recurrence
from seqjax.layers.stack import Stack
from seqjax.types import Array, PyTree

MERGES: dict[str, Callable[[Array, Array], Array]] = {
  'concat': lambda a, b: jnp.concatenate([a, b], axis=-1),
  'sum': lambda a, b: a + b,
  'mul': lambda a, b: a * b,
  'ave': lambda a, b: (a + b) / 2,
}


class Bidirectional(TrainedLayer):
  """A layer over the sequence, and another over the sequence from its end.

  Of two Stacks each goes through all of its layers in its own direction, and the two
  meet at the end.

  Attributes:
    forward_layer: A recurrent layer: SimpleRNN, LSTM, GRU or RNN; or a Stack with such
      layers in it, all of one direction.
    backward_layer: Its counterpart, with `go_backwards` set the other way; None: a copy
      with weights of its own, of a Stack with `keep_order` in its recurrent layers.
    merge_mode: How the two outputs become one: 'concat' [..., 2H], 'sum', 'mul', 'ave',
      or None for the pair of them.

  Raises:
    ValueError: when it is made, if a layer is not recurrent, both go the same way, they
      differ in what they return, or the merge mode is unknown.

  Source: Schuster & Paliwal 1997, as Keras's Bidirectional has it.

  Example:
    >>> x = jax.random.normal(jax.random.key(0), (2, 5, 3))
    >>> layer = sj.Bidirectional(sj.LSTM(4, return_sequences=True), merge_mode='concat')
    >>> params = layer.init(jax.random.key(1), x, train=False)
    >>> layer.apply(params, x, train=False).shape
    (2, 5, 8)
  """

  forward_layer: Any
  backward_layer: Any = None
  merge_mode: Literal['concat', 'sum', 'mul', 'ave'] | None = 'concat'
  takes = ('mask', 'reset', 'initial_carry')

  def __post_init__(self) -> None:
    forward = self.forward_layer
    direction = _direction('forward_layer', forward)
    if self.backward_layer is None:
      self.backward_layer = _backwards(forward)
    backward = self.backward_layer
    if _direction('backward_layer', backward) == direction:
      raise ValueError('backward_layer needs go_backwards set the other way')
    if self.merge_mode is not None and self.merge_mode not in MERGES:
      raise ValueError(
        f'merge_mode must be one of {", ".join(MERGES)} or None, '
        f'got {self.merge_mode!r}'
      )
    for name in ('return_sequences', 'return_carry'):
      if getattr(backward, name) != getattr(forward, name):
        raise ValueError(f'the two layers differ in {name}')
    super().__post_init__()

  def __call__(
    self,
    x: Array,
    train: bool | None = None,
    *,
    mask: Array | None = None,
    initial_carry: tuple[Any, Any] | None = None,
    reset: Array | None = None,
    lengths: Array | None = None,
    **extra: Any,
  ) -> Any:
    """Runs both layers.

    Args:
      x: [..., T, D], or what else the layers take.
      train: As for the layers.
      mask: bool [..., T], for both directions.
      initial_carry: (forward, backward), either may be None.
      reset: bool [..., T], True where an episode begins, for both layers.
      lengths: int [...], how many steps of each row are real; in place of a mask.
      **extra: `constants` of RNN; else refused.

    Returns:
      y [..., T, 2H] in the order of time with `return_sequences`, else [..., 2H] (H if
      merged otherwise, a pair if not merged); with `return_carry`
      ((forward carry, backward carry), y).

    Raises:
      ValueError: if `initial_carry` is no pair, or `merge_mode` asks for outputs of one
        size and they differ; and what the layers raise.
    """
    known = declared(self.forward_layer).takes
    train = self.is_training(train, (name for name in extra if name not in known))
    mask = mask_of('Bidirectional', x, mask, lengths)
    given = (None, None) if initial_carry is None else initial_carry
    check_carries('Bidirectional needs initial_carry (forward, backward)', given, 2)
    layers = (self.forward_layer, self.backward_layer)
    carries, ys = [], []
    for layer, carry in zip(layers, given, strict=True):
      args = (train,) if layer.train is None else ()
      y = layer(x, *args, mask=mask, initial_carry=carry, reset=reset, **extra)
      if layer.return_carry:
        carry, y = y
        carries.append(carry)
      if layer.return_sequences and layer.turned:
        y = jax.tree.map(lambda a: jnp.flip(a, -2), y)
      ys.append(y)
    y = self._merged(*ys)
    return (tuple(carries), y) if carries else y

  @nn.nowrap
  def _merged(self, forward: PyTree, backward: PyTree) -> Any:
    if self.merge_mode is None:
      return forward, backward
    sizes = [jax.tree.map(jnp.shape, y) for y in (forward, backward)]
    if self.merge_mode != 'concat' and sizes[0] != sizes[1]:
      raise ValueError(
        f'merge_mode {self.merge_mode!r} needs outputs of one size, '
        f'got {sizes[0]} and {sizes[1]}'
      )
    return jax.tree.map(MERGES[self.merge_mode], forward, backward)

  def compute_mask(self, x: Any, mask: Flags, y: Any = None) -> Flags:
    """The mask of y: what a Stack leaves of it, or the mask, in the order of time."""
    layer = self.forward_layer
    if isinstance(layer, Stack) and (mask := layer.compute_mask(x, mask)) is not None:
      return jnp.flip(mask, -1) if layer.turned else mask
    return super().compute_mask(x, mask)

  @property
  def return_sequences(self) -> bool | None:
    """Whether y has a time axis."""
    return self.forward_layer.return_sequences

  @property
  def return_carry(self) -> bool:
    """Whether the carries come in front of y."""
    return self.forward_layer.return_carry


class TimeDistributed(TrainedLayer):
  """One layer, applied to each step of time as if the steps were rows of a batch.

  Attributes:
    layer: Any module, or function, of x [N, ...].

  Raises:
    ValueError: when it is made, if `layer` is something else.

  Example:
    >>> x = jax.random.normal(jax.random.key(0), (2, 5, 7, 3))  # [B, T, S, D]
    >>> layer = sj.TimeDistributed(sj.GRU(4))
    >>> params = layer.init(jax.random.key(1), x, train=False)
    >>> layer.apply(params, x, train=False).shape
    (2, 5, 4)
  """

  layer: Any
  takes = ('mask',)

  def __post_init__(self) -> None:
    check_layer('layer', self.layer)
    super().__post_init__()

  @nn.compact
  def __call__(
    self,
    x: Array,
    train: bool | None = None,
    *,
    mask: Array | None = None,
    lengths: Array | None = None,
    **unknown: Any,
  ) -> Any:
    """x [B, T, ...] -> [B, T, ...], or a tree of such arrays.

    Args:
      x: [B, T, ...].
      train: Handed to a layer that takes it; None: what the field says.
      mask: bool [B, T], which the layers after this one get; or [B, T, S] where a step
        is itself a sequence x [B, T, S, ...]: the layer then gets [B * T, S].
      lengths: int [B] or [B, T], in place of such a mask.
      **unknown: Refused.

    Raises:
      ValueError: if x has no axis beyond time, or the mask does not fit.
    """
    train = self.is_training(train, unknown)
    if x.ndim < 3:
      raise ValueError(f'TimeDistributed needs x [B, T, ...], got {x.shape}')
    mask = mask_of('TimeDistributed', x, mask, lengths)
    if mask is not None:
      axes = max(2, getattr(mask, 'ndim', 2))
      check_flags('TimeDistributed needs mask', mask, x.shape[:axes], x.shape)
    y = call_layer(self.layer, _rows(x), train=train, mask=_inner(mask))
    return jax.tree.map(lambda a: a.reshape(*x.shape[:2], *a.shape[1:]), y)

  @property
  def return_carry(self) -> bool:
    """Whether the layer's carry comes in front of y."""
    return declared(self.layer).return_carry

  @nn.nowrap
  def compute_mask(self, x: Any, mask: Flags, y: Any = None) -> Flags:
    """The mask of y: [B, T, S] if the layer leaves or makes one for its steps.

    Else [B, T], where a step is real if anything in it is.
    """
    own = declared(self.layer).compute_mask(_rows(x), _inner(mask), _rows(y))
    if own is None:
      return mask if mask is None or mask.ndim == 2 else _any_inside(mask)
    steps: Any = mask if x is None else x
    own = own.reshape(*steps.shape[:2], *own.shape[1:])
    if mask is None or mask.ndim > 2:
      return own
    return own & jnp.expand_dims(mask, tuple(range(2, own.ndim)))


class RepeatVector(Layer):
  """[..., F] -> [..., n, F], each step the same.

  Attributes:
    n: Steps, at least 1; a ValueError if not.

  Example:
    >>> sj.RepeatVector(3).apply({}, jnp.array([[1.0, 2.0]])).tolist()
    [[[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]]
  """

  n: int
  return_sequences = True
  elsewhere = dict.fromkeys(
    ('mask', 'lengths', 'train'), 'a Stack hands it to the layers that take it'
  )

  def __post_init__(self) -> None:
    check_sizes(n=self.n)
    super().__post_init__()

  def __call__(self, x: Array, **unknown: Any) -> Array:
    """x [..., F] -> [..., n, F]."""
    self.refuse(unknown)
    return jnp.repeat(jnp.expand_dims(x, -2), self.n, axis=-2)

  @nn.nowrap
  def compute_mask(self, x: Any, mask: Flags, y: Any = None) -> Flags:
    """None: time is new, and every step real."""

  @nn.nowrap
  def compute_reset(self, reset: Flags) -> Flags:
    """None, likewise."""


def dot_by_rows(x: Array, kernel: Array, *unused: Any, **options: Any) -> Array:
  """x [..., D] times kernel [D, E], as one product of [N, D]; see `nn.Dense`.

  XLA's gradient of a product with more axes first turns them round: that of 1,536 steps
  and 6,000 classes takes 320 ms so, and 210 by rows (a core of an AMD EPYC, Zen 3).
  """
  del unused  # numbers of the dimensions
  rows, numbers = x.reshape(-1, x.shape[-1]), (((1,), (0,)), ((), ()))
  y = jax.lax.dot_general(rows, kernel, numbers, **options)
  return y.reshape(*x.shape[:-1], y.shape[-1])


def _rows(x: Any) -> Any:
  """[B, T, ...] -> [B * T, ...]; None stays None."""
  return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), x)


def _inner(mask: Flags) -> Flags:
  """The mask [B * T, S] of sequences inside the steps, of [B, T, S]; None of [B, T]."""
  return None if mask is None or mask.ndim == 2 else _rows(mask)


def _any_inside(mask: Array) -> Array:
  return jnp.any(mask, axis=tuple(range(2, mask.ndim)))


def _direction(name: str, layer: Any) -> bool:
  """Whether a recurrent layer, or all of a Stack, go from the end of time.

  Raises:
    ValueError: if it is something else, or the layers of a Stack go different ways.
  """
  inner = layer.leaves() if isinstance(layer, Stack) else [(name, layer)]
  recurrent = [leaf for _, leaf in inner if isinstance(leaf, Recurrence)]
  if not recurrent:
    got = type(layer).__name__
    hint = ': make two, one with go_backwards' if hasattr(layer, 'go_backwards') else ''
    raise ValueError(
      f'{name} must be SimpleRNN, LSTM, GRU, RNN or a Stack of such, got {got}{hint}'
    )
  turned, ways = False, set()
  for leaf in recurrent:
    ways.add(leaf.go_backwards != turned)
    turned ^= leaf.turned and leaf.return_sequences
  if len(ways) > 1:
    raise ValueError(f'{name} has layers that go different ways')
  return ways.pop()


def _backwards(layer: Any) -> Any:
  """A copy of a recurrent layer, or a Stack of some, that goes the other way."""
  if not isinstance(layer, Stack):
    return _copy(layer, go_backwards=not layer.go_backwards)
  copies: dict[int, Any] = {}  # of a layer that occurs twice there is one
  for each in layer.layers:
    if isinstance(each, Recurrence):
      if each.turned:
        raise ValueError(
          'forward_layer has a layer that goes backwards without keep_order: '
          'say what backward_layer is'
        )
      made = _copy(each, go_backwards=not each.go_backwards, keep_order=True)
    elif isinstance(each, Stack):
      made = _backwards(each)
    else:
      made = _copy(each) if isinstance(each, nn.Module) else each
    copies[id(each)] = made
  return layer.clone(layers=[copies[id(each)] for each in layer.layers])


def _copy(module: nn.Module, **updates: Any) -> nn.Module:
  """A module as `module`, of copies of the modules in it: nothing shares its weights.

  `clone` alone hands on the same inner modules, and so the same parameters.
  """

  def copied(value: Any) -> Any:
    return _copy(value) if isinstance(value, nn.Module) else value

  for field in dataclasses.fields(module):
    if field.init and field.name not in ('parent', 'name', *updates):
      updates[field.name] = jax.tree.map(
        copied,
        getattr(module, field.name),
        is_leaf=lambda leaf: isinstance(leaf, nn.Module),
      )
  return module.clone(**updates)
