"""Stack: layers one after the other."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn

from seqjax.layers.calling import call_layer, mask_after
from seqjax.layers.wrappers import RepeatVector
from seqjax.types import Array


class Stack(nn.Module):
  """Layers one after the other, each with the mask that the one before leaves it.

  `Stack([LSTM(32, return_sequences=True), nn.Dropout(0.2), LSTM(16), nn.Dense(1)])`

  A module that occurs twice has the same weights in both places, as always in linen.

  Attributes:
    layers: Modules of seqjax or of linen, or functions of x alone. `call_layer` says
      what is handed to which.
  """

  layers: Sequence[Any]

  def __post_init__(self) -> None:
    without_time = None
    for index, layer in enumerate(self.layers):
      if isinstance(layer, RepeatVector):
        without_time = None
      elif hasattr(layer, 'return_sequences'):
        # [B, H] would pass for one sequence [T, D] that has no batch axis.
        if without_time is not None:
          raise ValueError(
            f'layers[{without_time}] needs return_sequences=True: '
            f'layers[{index}] above it needs a sequence'
          )
        without_time = None if layer.return_sequences else index
    super().__post_init__()

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
      reset: bool [..., T], as for the recurrent layers, all of which get it.

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
      y = call_layer(layer, x, train=train, mask=mask, **more)
      if getattr(layer, 'return_carry', False):
        carry, y = y
        carries.append(carry)
      mask = mask_after(layer, x, y, mask)
      x = y
    return (tuple(carries), x) if carries else x

  def compute_mask(self, x: Array, mask: Array | None) -> Array | None:
    """None: the masks within are made as the layers run."""
    return None
