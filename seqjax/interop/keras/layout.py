"""Where a Keras model of the usual layers, one after another, keeps its weights."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from seqjax.interop import matching
from seqjax.interop.keras import configs
from seqjax.interop.trees import Leaves
from seqjax.interop.weights import Layer, Weights, kind, shapes_of
from seqjax.types import InputError


def plain(leaves: Leaves, order: Sequence[str] | None) -> Weights:
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
  outer: dict[str, list[str]] = {}  # a Bidirectional has two parts, others one
  class_of: dict[str, str] = {}
  for path, leaf in leaves.items():
    name, direction, class_name = _classified(path, leaf)
    outer.setdefault(name, []).append(path)
    class_of[name] = 'Bidirectional' if direction else class_name
  names, ordered = list(outer), True
  if order is None:
    names, ordered = _numbered(class_of)
  used: dict[str, int] = {}
  layers: dict[str, Layer] = {}
  for name in names:
    key = configs.numbered(configs.snake_case(class_of[name]), used)
    layers |= _parts(outer[name], leaves, f'layers/{key}')
  return Weights(layers, source='the parameters', ordered=ordered)


def _numbered(class_of: Mapping[str, str]) -> tuple[list[str], bool]:
  """Names by their numbers: all of them, True; or those of each class, False."""
  try:
    return matching.in_order(list(class_of), str, 'params'), True
  except InputError:  # not all are numbered: that is fine if each class is
    classes = dict.fromkeys(class_of.values())
    each = [[n for n, c in class_of.items() if c == wanted] for wanted in classes]
    return [n for names in each for n in matching.in_order(names, str, 'params')], False


def _parts(
  paths: Sequence[str], leaves: Leaves, store: str
) -> Iterator[tuple[str, Layer]]:
  for path in sorted(paths, key=lambda path: 'backward_layer' in path.split('/')):
    _, direction, class_name = _classified(path, leaves[path])
    place = f'{store}/{direction}' if direction else store
    if class_name in configs.RECURRENT:
      place += '/cell'
    theirs = {configs.OURS.get(v, v): v for v in configs.VARIABLES[class_name]}
    order = [name for name in theirs if name in leaves[path]]
    variables = {theirs[name]: np.asarray(leaves[path][name]) for name in order}
    yield path, Layer(variables, class_name=class_name, store=place)


def _classified(path: str, leaf: Mapping[str, Any]) -> tuple[str, str, str]:
  """Name of the outer layer, direction inside it or '', Keras's class."""
  found = kind(path, shapes_of(leaf)).replace('LayerNorm', 'LayerNormalization')
  direction, _, class_name = found.rpartition(' ')
  if class_name not in configs.VARIABLES:
    raise InputError(
      f'layer {path!r} ({found}) is of no class whose place in a file is known: give '
      'like='
    )
  if not direction:
    return path, '', class_name
  parts = path.split('/')
  return (
    '/'.join(parts[: parts.index(f'{direction}_layer')]),
    f'{direction}_layer',
    class_name,
  )
