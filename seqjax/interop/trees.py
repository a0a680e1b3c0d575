"""Nested parameters as a flat list of layers, and back."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from seqjax.interop.weights import LossyWarning
from seqjax.types import InputError, PyTree

Leaves = dict[str, dict[str, Any]]  # path -> variable -> array


def layers_of(params: PyTree) -> Leaves:
  """The innermost dicts of nested parameters by their paths, joined by '/'.

  Raises:
    TypeError: if a leaf is no array.
  """
  found: Leaves = {}

  def visit(tree: Mapping[str, Any], path: tuple[str, ...]) -> None:
    own = {k: v for k, v in tree.items() if not isinstance(v, Mapping)}
    for name, value in own.items():
      if not (hasattr(value, 'shape') and hasattr(value, 'dtype')):
        raise TypeError(
          f'params must be a nested dict of arrays; {"/".join((*path, name))!r} is '
          f'{type(value).__name__}'
        )
    if own:
      found['/'.join(path)] = own
    for name, value in tree.items():
      if isinstance(value, Mapping):
        visit(value, (*path, name))

  if not isinstance(params, Mapping):
    raise TypeError(f'params must be a nested dict, got {type(params).__name__}')
  visit(params, ())
  return found


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


def cast(
  layers: Sequence[tuple[str, Mapping[str, Any], str, Mapping[str, Any]]],
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
  for path, like, where, layer in layers:
    results[path] = {}
    for variable, given in layer.items():
      before, dtype = np.asarray(given), np.dtype(like[variable].dtype)
      for name, found in ((where, before.dtype), (path, dtype)):
        if not jnp.issubdtype(found, np.floating):
          raise InputError(f'{variable} of layer {name} is {found}, not floating point')
      with np.errstate(over='ignore'):  # what overflows is refused below
        after = results[path][variable] = before.astype(dtype)
      if dtype != before.dtype:
        exact, now = before.astype(np.float64), after.astype(np.float64)
        if not np.array_equal(np.isfinite(exact), np.isfinite(now)):
          raise InputError(f'{variable} of layer {where} does not fit into {dtype}')
        if not np.array_equal(exact, now, equal_nan=True):
          rounded.append(f'{variable} of layer {where} is rounded to {dtype}')
  if rounded:
    more = f' and {len(rounded) - 1} more' if len(rounded) > 1 else ''
    warnings.warn(f'{rounded[0]}{more}', LossyWarning, stacklevel=4)
  return results
