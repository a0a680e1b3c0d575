"""How a layer that holds other layers calls them, and what becomes of the mask."""

import inspect
from typing import Any

import flax.linen as nn

from seqjax.types import Array


def call_layer(
  layer: Any, x: Array, *, train: bool, mask: Array | None, **more: Any
) -> Any:
  """Calls a layer with as many of `train` and `mask` as it takes.

  Args:
    layer: A module of seqjax or of linen, or a function of x alone.
    x: Its input.
    train: Handed to a module that takes `train`; as its opposite to one of linen's that
      takes `deterministic` or `use_running_average`.
    mask: bool [..., T]; handed to a module that has a method `compute_mask`. The masks
      of linen's own modules are something else.
    **more: Handed over as they are.

  Returns:
    What the layer returns.
  """
  if not isinstance(layer, nn.Module):
    return layer(x, **more)
  taken = inspect.signature(type(layer).__call__).parameters
  if 'train' in taken:
    more['train'] = train
  for name in ('deterministic', 'use_running_average'):
    if name in taken and getattr(layer, name, None) is None:
      more[name] = not train
  if hasattr(layer, 'compute_mask') and 'mask' in taken:
    more['mask'] = mask
  return layer(x, **more)


def mask_after(layer: Any, x: Array, y: Any, mask: Array | None) -> Array | None:
  """The mask of y = layer(x): its own word, or else the mask while it fits."""
  if hasattr(layer, 'compute_mask'):
    return layer.compute_mask(x, mask)
  if mask is not None and y.shape[: mask.ndim] == mask.shape:
    return mask
  return None
