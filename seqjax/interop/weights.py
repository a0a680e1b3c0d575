"""What a file of another library holds: layers by name, each with its variables."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from seqjax.interop.gates import GATES

DIRECTIONS = ('forward_layer', 'backward_layer')

MAX_BYTES = 4 << 30  # of all arrays of one file, unless the caller says otherwise


class LossyWarning(UserWarning):
  """A conversion keeps the function of the weights, or nearly, but not each number."""


class Layer(dict[str, np.ndarray]):
  """The variables of one layer by the names its library gives them.

  Attributes:
    class_name: The library's name of the class, such as 'LSTM'; '' where the file does
      not say.
    config: Its configuration, as the file has it; empty where it has none.
    store: Where a `.weights.h5` keeps the layer; '' for other libraries.
  """

  def __init__(
    self,
    variables: Mapping[str, np.ndarray],
    *,
    class_name: str = '',
    config: Mapping[str, Any] | None = None,
    store: str = '',
  ) -> None:
    super().__init__(variables)
    self.class_name = class_name
    self.config = dict(config or {})
    self.store = store


class Weights(dict[str, Layer]):
  """Layers by name.

  Attributes:
    source: What messages call this: the name of the file.
    ordered: Whether the order of the layers is the model's. A Keras `.weights.h5` has
      no order but that of the layers of one class.
    version: Of the library that wrote the file; '' where unknown.
  """

  def __init__(
    self,
    layers: Mapping[str, Layer],
    *,
    source: str = 'the weights',
    ordered: bool = True,
    version: str = '',
  ) -> None:
    super().__init__(layers)
    self.source = source
    self.ordered = ordered
    self.version = version


def kind(path: str, layer: Mapping[str, Any]) -> str:
  """What layer the variables of `path` make up, by their names and shapes.

  Args:
    path: Names joined by '/'; a direction of a Bidirectional is part of the kind.
    layer: Arrays, or what has their shapes, by seqjax's variable names.

  Returns:
    'LSTM', 'GRU', 'SimpleRNN', 'Embedding', 'Dense', 'Conv1D', 'LayerNorm', each after
    'forward ' or 'backward ' inside a Bidirectional; for others the variables' names.
  """
  names = set(layer)
  result = '+'.join(sorted(names))
  if names - {'bias'} == {'kernel', 'recurrent_kernel'}:
    H, *widths = layer['recurrent_kernel'].shape or (0,)
    for cell, gates in GATES.items():
      if H and math.prod(widths) == gates * H:
        result = cell
  elif names - {'bias'} == {'kernel'}:
    result = {2: 'Dense', 3: 'Conv1D'}.get(len(layer['kernel'].shape), result)
  elif names == {'embedding'}:
    result = 'Embedding'
  elif 'scale' in names and names <= {'scale', 'bias'}:
    result = 'LayerNorm'
  for direction in DIRECTIONS:
    if direction in path.split('/'):
      result = f'{direction.removesuffix("_layer")} {result}'
  return result


def join(*parts: str) -> str:
  """Parts of a name with / between them; empty ones leave no trace."""
  return '/'.join(filter(None, parts))


def known_kind(path: str, layer: Mapping[str, Any]) -> str:
  """`kind` without a direction, if it is the name of a class; else ''."""
  name = kind(path, layer).rpartition(' ')[2]
  return name if name in (*GATES, 'Embedding', 'Dense', 'Conv1D', 'LayerNorm') else ''


def describe(name: str, layer: Mapping[str, Any]) -> str:
  """'encoder' (LSTM: kernel (8, 16), ...): a layer in a message."""
  listed = ', '.join(f'{v} {tuple(value.shape)}' for v, value in layer.items())
  return f'{name!r} ({kind(name, layer)}: {listed})'
