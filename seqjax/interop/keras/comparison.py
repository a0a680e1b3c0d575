"""Whether a model computes what the layers of a file do, beside having their shapes."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn

from seqjax import cells
from seqjax.interop.keras import configs
from seqjax.interop.weights import DIRECTIONS, Weights, join
from seqjax.types import InputError

_COMPARED = ('activation', 'recurrent_activation', 'reset_after', 'go_backwards')


def compare(model: nn.Module, pairs: Mapping[str, str], weights: Weights) -> None:
  """Refuses a model whose options differ from those of the file's layers.

  What is compared: activations, direction and reset_after of recurrent layers, the
  merge_mode of a Bidirectional, and whether there is a Masking layer if all is loaded;
  where the file has a configuration, and the layer is a field of the model or of a
  module in it (as in a Stack).

  Args:
    model: A module of seqjax's layers, unbound.
    pairs: {path in its parameters: name in `weights`}.
    weights: Of the file.

  Raises:
    InputError: at the first layer that differs, or of which the file says something
      and the model's fields nothing: it is made in setup or in a compact method.
  """
  modules = dict(_modules(model, ''))
  whole = set(pairs.values()) >= {name for name, layer in weights.items() if layer}
  for name, layer in weights.items() if whole else ():
    if layer.class_name == 'Masking' and all(
      getattr(module, 'mask_value', None) != layer.config.get('mask_value')
      for module in modules.values()
    ):
      raise InputError(
        f'{name!r} of {weights.source} is a Masking layer (mask_value '
        f'{layer.config.get("mask_value")}), which the model has not'
      )
  for path, name in pairs.items():
    config = weights[name].config
    parts = path.split('/')
    depth = next((i for i, part in enumerate(parts) if part in DIRECTIONS), len(parts))
    outer = '/'.join(parts[:depth])
    where = f'{name!r} of {weights.source}'
    if depth < len(parts) and 'merge_mode' in config:
      _check(modules.get(outer), outer, {'merge_mode': config['merge_mode']}, where)
    if config and weights[name].class_name in (*configs.RECURRENT, *configs.CUDNN):
      stateless = {**config, 'stateful': False}  # a matter of who keeps the carry
      expected = configs.arguments(
        weights[name].class_name, stateless, weights.version, f'layer {where}'
      )
      expected = {
        option: expected[option] for option in _COMPARED if option in expected
      }
      # Of cells in one RNN the first alone says which way they all go.
      if depth < len(parts) - 1 and not expected.get('go_backwards'):
        expected.pop('go_backwards', None)
      _check(modules.get(path), path, expected, where)


def _check(module: Any, path: str, expected: Mapping[str, Any], where: str) -> None:
  if module is None and expected:
    raise InputError(
      f'layer {path!r} of the model cannot be compared with layer {where}: it is made '
      'in setup or in a compact method; make it a field, or load without model='
    )
  for option, value in expected.items():
    if not hasattr(module, option):
      continue
    own = getattr(module, option)
    if _same(own, value):
      continue
    raise InputError(
      f'layer {path!r} of the model has {option} {_name(own)}, layer {where} '
      f'{_name(value)}'
    )


def _same(own: Any, value: Any) -> bool:
  own, value = (
    cells.ACTIVATIONS.get(v, v) if isinstance(v, str) else v for v in (own, value)
  )
  known = (*cells.ACTIVATIONS.values(), cells.hard_sigmoid_keras2)
  return own == value or (callable(own) and own not in known)  # one's own may be equal


def _name(value: Any) -> str:
  return getattr(value, '__name__', None) or repr(value)


def _modules(module: Any, path: str) -> Iterator[tuple[str, Any]]:
  """The modules in the fields of a module, by the paths of their parameters."""
  yield path, module
  for field in dataclasses.fields(module):
    value = getattr(module, field.name)
    if field.name == 'parent':
      continue
    several = isinstance(value, list | tuple)
    for i, inner in enumerate(value if several else [value]):
      if isinstance(inner, nn.Module):
        name = inner.name or (f'{field.name}_{i}' if several else field.name)
        yield from _modules(inner, join(path, name))
