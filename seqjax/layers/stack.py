"""Stack: layers one after the other."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import flax.linen as nn

from seqjax.layers.base import Flags, TrainedLayer, call_layer, declared
from seqjax.layers.checks import check_carries, check_layer, mask_of
from seqjax.types import Array


class Stack(TrainedLayer):
  """Layers one after the other, each with the mask that the one before leaves it.

  `Stack([LSTM(32, return_sequences=True), nn.Dropout(0.2), LSTM(16), nn.Dense(1)])`

  A Stack in a Stack may hold recurrent layers that return no carry.

  A module that occurs twice has the same weights in both places, as always in linen.

  Attributes:
    layers: Modules of seqjax or of linen, or functions of x alone. `call_layer` says
      what is handed to which.

  Raises:
    ValueError: when it is made, if `layers` are none, a recurrent layer stands on one
      that leaves no time axis, or one in an inner Stack returns its carry.

  Example:
    >>> ids = jnp.array([[3, 1, 4, 0], [1, 5, 0, 0]])  # 0 is padding
    >>> words, lstm = sj.Embedding(10, 8, mask_zero=True), sj.LSTM(4)
    >>> model = sj.Stack([words, nn.Dropout(0.5), lstm, lambda h: h[:, 0]])
    >>> params = model.init(jax.random.key(0), ids, train=False)
    >>> model.apply(params, ids, train=False).shape
    (2,)
  """

  layers: Sequence[Any]
  takes = ('mask', 'reset')

  def __post_init__(self) -> None:
    if not isinstance(self.layers, Iterable):
      got = type(self.layers).__name__
      raise ValueError(f'layers must be a list of layers, got one {got}')
    self.layers = tuple(self.layers)  # a list has no hash
    without_time = None
    for name, layer in self.leaves():
      check_layer(name, layer)
      known = declared(layer)
      recurrent = 'initial_carry' in known.takes
      # [B, H] would pass for one sequence [T, D] that has no batch axis.
      if recurrent and without_time is not None:
        below, remedy = without_time
        raise ValueError(f'{below} {remedy}: {name} above it needs a sequence')
      if known.return_sequences is False:
        remedy = 'needs return_sequences=True' if recurrent else 'leaves no time axis'
        without_time = name, remedy
      elif known.return_sequences:
        without_time = None
      if name.count('[') > 1 and known.return_carry:
        raise ValueError(f'{name} is in an inner Stack, which returns no carries')
    super().__post_init__()

  @nn.nowrap
  def leaves(self, prefix: str = '') -> Iterator[tuple[str, Any]]:
    """All layers by name, those of inner Stacks one by one."""
    for index, layer in enumerate(self.layers):
      name = f'{prefix}layers[{index}]'
      if isinstance(layer, Stack):
        yield from layer.leaves(f'{name}.')
      else:
        yield name, layer

  @nn.compact
  def __call__(
    self,
    x: Array,
    train: bool | None = None,
    *,
    mask: Array | None = None,
    initial_carry: Sequence[Any] | None = None,
    reset: Array | None = None,
    lengths: Array | None = None,
    **unknown: Any,
  ) -> Any:
    """Applies the layers.

    Args:
      x: What the first layer takes.
      train: Whether dropout is on; None: what the field says.
      mask: bool [..., T] of x.
      initial_carry: A carry, or None, for each recurrent layer from the bottom up.
      reset: bool [..., T], as for the recurrent layers, all of which get it; above one
        that goes backwards turned round, with its mask.
      lengths: int [...], how many steps of each row are real; in place of a mask.
      **unknown: Refused.

    Returns:
      y of the top layer; (carries, y) if recurrent layers return theirs.

    Raises:
      ValueError: if the carries are not as many as the recurrent layers.
    """
    train = self.is_training(train, unknown)
    mask = mask_of('Stack', x, mask, lengths)
    recurrent = [
      layer for layer in self.layers if 'initial_carry' in declared(layer).takes
    ]
    given, count = [None] * len(recurrent), len(recurrent)
    if initial_carry is not None:
      each = f'Stack needs {count} initial carries, one for each recurrent layer'
      check_carries(each, initial_carry, count)
      given = list(initial_carry)
    carries = []
    for layer in self.layers:
      known = declared(layer)
      carry = given.pop(0) if 'initial_carry' in known.takes else None
      y = call_layer(layer, x, train=train, mask=mask, reset=reset, initial_carry=carry)
      if known.return_carry:
        carry, y = y
        carries.append(carry)
      mask, reset = known.compute_mask(x, mask, y), known.compute_reset(reset)
      x = y
    return (tuple(carries), x) if carries else x

  @property
  def return_sequences(self) -> bool | None:
    """Whether y has a time axis, by the last layer that decides it."""
    returned = (declared(layer).return_sequences for layer in self.layers)
    return next(
      (returned for returned in reversed([*returned]) if returned is not None), None
    )

  @property
  def turned(self) -> bool:
    """Whether the steps of y are those of x from the last to the first."""
    leaves = [layer for _, layer in self.leaves() if getattr(layer, 'turned', False)]
    return sum(layer.return_sequences for layer in leaves) % 2 == 1

  @property
  def return_carry(self) -> bool:
    """Whether the carries come in front of y."""
    return any(declared(layer).return_carry for layer in self.layers)

  @nn.nowrap
  def compute_mask(self, x: Any, mask: Flags, y: Any = None) -> Flags:
    """The mask of y, given that of x: what the layers make of it in turn.

    Layers without a word on masks are taken to leave the time axis as it is.
    """
    for index, layer in enumerate(self.layers):
      mask = declared(layer).compute_mask(x if index == 0 else None, mask)
    return mask

  @nn.nowrap
  def compute_reset(self, reset: Flags) -> Flags:
    """The flags at the steps of y, likewise."""
    for layer in self.layers:
      reset = declared(layer).compute_reset(reset)
    return reset


def from_the_end(layer: Any) -> list[Any]:
  """The layers of a layer, itself or a Stack's, that read from the last step on."""
  parts = [p for _, p in layer.leaves()] if isinstance(layer, Stack) else [layer]
  return [
    part
    for part in parts
    if getattr(part, 'go_backwards', False) or hasattr(part, 'backward_layer')
  ]
