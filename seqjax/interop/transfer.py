"""The way of weights between seqjax's parameters and another library's layers.

A library reads its layers into a `Source`, in seqjax's names and layout. From there on
all go the same way: layers are paired, values cast, and set in their places.
"""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.interop.matching import Leaves, Source, pair
from seqjax.interop.weights import LossyWarning, join
from seqjax.types import InputError, PyTree


def fill(
  params: PyTree,
  source: Source,
  mapping: Mapping[str, str] | None = None,
  allow_unused: bool = False,
) -> dict[str, Any]:
  """New parameters with the values of `source`; all of them, or an error.

  Args:
    params: Nested dict of arrays or of jax.ShapeDtypeStruct.
    source: The layers of another library.
    mapping: As in `pair`.
    allow_unused: As in `pair`.

  Returns:
    A dict of the same nesting and dtypes. Layers that `mapping` leaves out stay as they
    are.

  Raises:
    InputError: if layers do not fit together; its message names both, and both shapes.
  """
  leaves = layers_of(params)
  values = _cast(
    (path, leaves[path], f'{name!r} of {source.name}', source.layers[name])
    for path, name in pair(leaves, source, mapping, allow_unused).items()
  )
  return replaced(params, jax.tree.map(jnp.asarray, values))


def values_of(
  params: PyTree, source: Source, mapping: Mapping[str, str] | None = None
) -> dict[str, dict[str, np.ndarray]]:
  """The other way: values of `params` by the names, and in the dtypes, of `source`.

  Raises:
    InputError: as `fill`.
  """
  leaves = layers_of(params)
  return _cast(
    (name, source.layers[name], f'{path!r} of the parameters', leaves[path])
    for path, name in pair(leaves, source, mapping).items()
  )


def layers_of(params: PyTree) -> Leaves:
  """The innermost dicts of nested parameters by their paths, joined by '/'.

  Raises:
    TypeError: if a leaf is no array.
  """
  layers: Leaves = {}

  def visit(tree: PyTree, path: str) -> None:
    if not isinstance(tree, Mapping):
      raise TypeError(f'params must be a nested dict, got {type(tree).__name__}')
    for name, value in tree.items():
      below = join(path, name)
      if isinstance(value, Mapping):
        visit(value, below)
      elif hasattr(value, 'shape') and hasattr(value, 'dtype'):
        layers.setdefault(path, {})[name] = value
      else:
        raise TypeError(
          f'params must be a nested dict of arrays; {below!r} is {type(value).__name__}'
        )

  visit(params, '')
  return layers


def replaced(
  tree: Mapping[str, Any],
  layers: Mapping[str, Mapping[str, Any]],
  path: tuple[str, ...] = (),
) -> dict[str, Any]:
  """A copy of nested parameters, with the arrays of `layers` at their paths."""
  own = layers.get('/'.join(path), {})
  return {
    name: replaced(value, layers, (*path, name))
    if isinstance(value, Mapping)
    else own.get(name, value)
    for name, value in tree.items()
  }


def _cast(
  layers: Iterable[tuple[str, Mapping[str, Any], str, Mapping[str, Any]]],
) -> dict[str, dict[str, np.ndarray]]:
  """The arrays of layers in the dtypes of others.

  Args:
    layers: (name, what gives the dtypes, where the values are from, the values).

  Returns:
    The values by the layers' names.

  Raises:
    InputError: if a value is not floating point, or too large for its new dtype.

  Warns:
    LossyWarning: if a number has to be rounded.
  """
  results: dict[str, dict[str, np.ndarray]] = {}
  rounded = []
  for path, like, where, values in layers:
    results[path] = {}
    for variable, value in values.items():
      before, dtype = np.asarray(value), np.dtype(like[variable].dtype)
      for name, kind in ((where, before.dtype), (path, dtype)):
        if not jnp.issubdtype(kind, np.floating):
          raise InputError(f'{variable} of layer {name} is {kind}, not floating point')
      with np.errstate(over='ignore'):  # what overflows is refused below
        after = results[path][variable] = before.astype(dtype)
      if dtype != before.dtype:
        exact, now = before.astype(np.float64), after.astype(np.float64)
        if not np.array_equal(np.isfinite(exact), np.isfinite(now)):
          raise InputError(f'{variable} of layer {where} does not fit into {dtype}')
        if not np.array_equal(exact, now, equal_nan=True):
          rounded.append(f'{variable} of layer {where} is rounded to {dtype}')
  if rounded:
    others = f' and {len(rounded) - 1} more' if len(rounded) > 1 else ''
    warnings.warn(f'{rounded[0]}{others}', LossyWarning, stacklevel=4)
  return results
