"""A linen module as JSON: the names of its class and of what its fields hold.

Fields at their default are left out, so what is saved is what a user wrote. A value
that has no name (a function made by another, say) can't be saved: `build` says so.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from seqjax.types import InputError

_OWN = ('parent', 'name')  # fields that linen adds
FILE = 'model.json'


def describe(model: nn.Module) -> dict[str, Any]:
  """The module as `build` takes it, and in any case what tells it from others."""
  return _describe(model, type(model).__name__)


def build(record: Mapping[str, Any]) -> nn.Module:
  """The module that was described.

  Raises:
    InputError: A class or function of it has no name, or is not there any more.
  """
  model = _build(record)
  if not isinstance(model, nn.Module):
    raise InputError(f'{FILE} describes no module')
  return model


def _describe(value: Any, where: str) -> Any:
  if isinstance(value, np.generic):
    value = value.item()
  if value is None or isinstance(value, bool | int | float | str):
    return value
  if isinstance(value, nn.Module):
    fields = {
      spec.name: _describe(getattr(value, spec.name), f'{where}.{spec.name}')
      for spec in dataclasses.fields(value)
      if spec.name not in _OWN and not _is_default(spec, getattr(value, spec.name))
    }
    named = {} if value.name is None else {'name': value.name}
    kind = {'module' if k == 'named' else k: v for k, v in _named(type(value), where)}
    return {**kind, 'fields': {**fields, **named}}
  if isinstance(value, list | tuple):
    return {type(value).__name__: [_describe(v, where) for v in value]}
  if isinstance(value, Mapping):
    return {'dict': {str(k): _describe(v, f'{where}[{k}]') for k, v in value.items()}}
  if _is_dtype(value):
    return {'dtype': np.dtype(value).name}
  return dict(_named(value, where))


def _is_dtype(value: Any) -> bool:
  """A dtype, or a scalar type of NumPy or JAX; other classes stand for themselves."""
  if isinstance(value, type):
    is_jax = isinstance(getattr(value, 'dtype', None), np.dtype)
    return is_jax or issubclass(value, np.generic)
  return isinstance(value, np.dtype)


def _build(record: Any) -> Any:
  if not isinstance(record, Mapping):
    return record
  (kind, value), *_ = record.items()
  if kind == 'unnamed':
    raise InputError(f'{FILE}: {value}; hand the model over as `model`')
  if kind == 'module':
    made = _find(value)
    if not (isinstance(made, type) and issubclass(made, nn.Module)):
      raise InputError(f'{FILE}: {value} is no module')
    return made(**{k: _build(v) for k, v in record['fields'].items()})
  if kind in ('list', 'tuple'):
    items = [_build(v) for v in value]
    return items if kind == 'list' else tuple(items)
  if kind == 'dict':
    return {k: _build(v) for k, v in value.items()}
  return jnp.dtype(value) if kind == 'dtype' else _find(value)


def _is_default(spec: dataclasses.Field, value: Any) -> bool:
  default = spec.default
  if spec.default_factory is not dataclasses.MISSING:
    default = spec.default_factory()
  return value is default or (type(value) is type(default) and value == default)


def _named(thing: Any, where: str) -> list[tuple[str, str]]:
  """'named' and module:qualified.name, where that leads back to it, or 'unnamed'."""
  module, name = (getattr(thing, a, None) for a in ('__module__', '__qualname__'))
  path = f'{module}:{name}'
  try:
    fine = _find(path) is thing
  except InputError:
    fine = False
  if fine:
    return [('named', path)]
  kind = name or type(thing).__qualname__  # no repr, as that may have an address
  return [('unnamed', f'{where} holds {kind}, which has no name to be saved by')]


def _find(path: str) -> Any:
  module, _, name = path.partition(':')
  try:
    resolved: Any = importlib.import_module(module)
    for part in name.split('.'):
      resolved = getattr(resolved, part)
  except (ImportError, AttributeError, ValueError) as error:
    raise InputError(
      f'{FILE}: there is no {path} any more; hand the model over as `model`'
    ) from error
  return resolved
