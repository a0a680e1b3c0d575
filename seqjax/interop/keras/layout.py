"""Where a Keras model of the usual layers, one after another, keeps its weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seqjax.interop import matching
from seqjax.interop.keras import configs
from seqjax.interop.weights import Layer, Weights, join, kind
from seqjax.types import InputError


def plain(leaves: matching.Leaves, order: Sequence[str] | None) -> Weights:
  """The weights of a Keras model without wrappers other than Bidirectional.

  Args:
    leaves: The layers of a linen model's parameters.
    order: The layers in the order of the model. None: in the order of their numbers,
      as in a Stack; where not all have one, at least those of one class.

  Raises:
    InputError: if a layer is of an unknown class.
    ValueError: if `order` does not name each layer once.
  """
  if order is not None:
    named = [path for name in order for path in matching.below(leaves, name, 'params')]
    if sorted(named) != sorted(leaves):
      raise ValueError(
        f'order must name each layer once; it gives {named}, not {list(leaves)}'
      )
    leaves = {path: leaves[path] for path in named}
  outer: dict[str, dict[str, Layer]] = {}  # a Bidirectional has two parts, others one
  class_of: dict[str, str] = {}
  for path, leaf in leaves.items():
    name, layer = _layer(path, leaf)
    outer.setdefault(name, {})[path] = layer
    class_of[name] = layer.class_name if name == path else 'Bidirectional'
  names, ordered = list(outer), True
  if order is None:
    names, ordered = _numbered(class_of)
  used: dict[str, int] = {}
  layers: dict[str, Layer] = {}
  for name in names:
    key = configs.numbered(configs.snake_case(class_of[name]), used)
    for path in sorted(outer[name], key=lambda path: 'backward_layer' in path):
      layers[path] = outer[name][path]
      layers[path].store = join('layers', key, layers[path].store)
  return Weights(layers, source='the parameters', ordered=ordered)


def _numbered(class_of: Mapping[str, str]) -> tuple[list[str], bool]:
  """Names by their numbers: all of them, True; or those of each class, False."""
  try:
    return matching.in_order(list(class_of), str, 'params'), True
  except InputError:  # not all are numbered: that is fine if each class is
    classes = dict.fromkeys(class_of.values())
    each = [
      [n for n, c in class_of.items() if c == class_name] for class_name in classes
    ]
    return [n for names in each for n in matching.in_order(names, str, 'params')], False


def _layer(path: str, leaf: Mapping[str, Any]) -> tuple[str, Layer]:
  """Name of the outer layer; and Keras's layer, with its place inside the outer."""
  full_kind = kind(path, leaf).replace('LayerNorm', 'LayerNormalization')
  direction, _, class_name = full_kind.rpartition(' ')
  if class_name not in configs.VARIABLES:
    raise InputError(
      f'layer {path!r} ({full_kind}) is of no class that has a known place: give like='
    )
  name, inner = path, ''
  if direction:
    inner = f'{direction}_layer'
    name = '/'.join(path.split('/')[: path.split('/').index(inner)])
  ours = {v: configs.OURS.get(v, v) for v in configs.VARIABLES[class_name]}
  variables = {v: np.asarray(leaf[our]) for v, our in ours.items() if our in leaf}
  cell = 'cell' if class_name in configs.RECURRENT else ''
  store = join(inner, cell)
  return name, Layer(variables, class_name=class_name, store=store)
