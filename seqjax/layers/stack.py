"""Stack: layers one after the other."""

from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn

from seqjax.layers.calling import call_layer, mask_after
from seqjax.layers.conv import Flatten, GlobalAveragePooling1D, GlobalMaxPooling1D
from seqjax.layers.order import output_reset
from seqjax.layers.wrappers import RepeatVector
from seqjax.types import Array


class Stack(nn.Module):
  """Layers one after the other, each with the mask that the one before leaves it.

  `Stack([LSTM(32, return_sequences=True), nn.Dropout(0.2), LSTM(16), nn.Dense(1)])`

  A Stack in a Stack may hold recurrent layers that return no carry.

  A module that occurs twice has the same weights in both places, as always in linen.

  Attributes:
    layers: Modules of seqjax or of linen, or functions of x alone. `call_layer` says
      what is handed to which.

  Raises:
    ValueError: when it is made, if a recurrent layer stands on one that leaves no time
      axis, or one in an inner Stack returns its carry.
  """

  layers: Sequence[Any]

  def __post_init__(self) -> None:
    without_time = None
    for name, layer in self._leaves():
      recurrent = hasattr(layer, 'return_sequences')
      # [B, H] would pass for one sequence [T, D] that has no batch axis.
      if recurrent and without_time is not None:
        below, remedy = without_time
        raise ValueError(f'{below} {remedy}: {name} above it needs a sequence')
      if isinstance(layer, RepeatVector) or (recurrent and layer.return_sequences):
        without_time = None
      elif recurrent:
        without_time = name, 'needs return_sequences=True'
      elif isinstance(layer, Flatten | GlobalAveragePooling1D | GlobalMaxPooling1D):
        without_time = name, 'leaves no time axis'
      if name.count('[') > 1 and getattr(layer, 'return_carry', False):
        raise ValueError(f'{name} is in an inner Stack, which returns no carries')
    super().__post_init__()

  def _leaves(self, prefix: str = '') -> Iterator[tuple[str, Any]]:
    """All layers by name, those of inner stacks one by one."""
    for index, layer in enumerate(self.layers):
      name = f'{prefix}layers[{index}]'
      if isinstance(layer, Stack):
        yield from layer._leaves(f'{name}.')
      else:
        yield name, layer

  @nn.compact
  def __call__(
    self,
    x: Array,
    *,
    train: bool,
    mask: Array | None = None,
    initial_carry: Sequence[Any] | None = None,
    reset: Array | None = None,
  ) -> Any:
    """Applies the layers.

    Args:
      x: What the first layer takes.
      train: Whether dropout is on.
      mask: bool [..., T] of x.
      initial_carry: A carry, or None, for each recurrent layer from the bottom up.
      reset: bool [..., T], as for the recurrent layers, all of which get it; above one
        that goes backwards turned round, with its mask.

    Returns:
      y of the top layer; (carries, y) if recurrent layers return theirs.

    Raises:
      ValueError: if the carries are not as many as the recurrent layers.
    """
    recurrent = [la for la in self.layers if hasattr(la, 'return_sequences')]
    given = [None] * len(recurrent) if initial_carry is None else list(initial_carry)
    if len(given) != len(recurrent):
      raise ValueError(
        f'Stack needs {len(recurrent)} initial carries, one for each recurrent layer, '
        f'got {len(given)}'
      )
    carries = []
    for layer in self.layers:
      more = {}
      if hasattr(layer, 'return_sequences'):
        more = {'initial_carry': given.pop(0), 'reset': reset}
      elif isinstance(layer, Stack):
        more = {'reset': reset}
      y = call_layer(layer, x, train=train, mask=mask, **more)
      if getattr(layer, 'return_carry', False):
        carry, y = y
        carries.append(carry)
      mask = mask_after(layer, x, y, mask)
      reset = _reset_after(layer, reset)
      x = y
    return (tuple(carries), x) if carries else x

  def compute_mask(self, x: Array, mask: Array | None) -> Array | None:
    """The mask of y, given that of x: what the layers make of it in turn.

    Layers without a word on masks are taken to leave the time axis as it is.
    """
    for index, layer in enumerate(self.layers):
      if hasattr(layer, 'compute_mask'):
        mask = layer.compute_mask(x if index == 0 else None, mask)
    return mask


def _reset_after(layer: Any, reset: Array | None) -> Array | None:
  if isinstance(layer, Stack):
    for inner in layer.layers:
      reset = _reset_after(inner, reset)
    return reset
  return output_reset(layer, reset) if hasattr(layer, 'go_backwards') else reset
