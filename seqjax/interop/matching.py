"""Which layer of a file belongs to which layer of a model's parameters."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.interop.trees import Leaves, cast, layers_of, replaced
from seqjax.interop.weights import describe, kind, shapes_of
from seqjax.types import InputError, PyTree

Pairs = list[tuple[str, str]]  # (path in the parameters, name in the file)


def fill(
  params: PyTree,
  sources: Mapping[str, Mapping[str, np.ndarray]],
  *,
  source: str,
  mapping: Mapping[str, str] | None = None,
  allow_unused: bool = False,
  family: Callable[[str], str] | None = None,
) -> dict[str, Any]:
  """New parameters with the values of `sources`; all of them, or an error.

  Args:
    params: Nested dict of arrays or of jax.ShapeDtypeStruct.
    sources: Layers by name, variables by seqjax's names.
    source: What a message calls `sources`.
    mapping: As in `pair`.
    allow_unused: As in `pair`.
    family: As in `pair`.

  Returns:
    A dict of the same nesting and dtypes. Layers that `mapping` leaves out stay as they
    are.

  Raises:
    InputError: if layers do not fit together; its message names both, and both shapes.
  """
  leaves = layers_of(params)
  pairs = pair(
    leaves,
    sources,
    source=source,
    mapping=mapping,
    allow_unused=allow_unused,
    family=family,
  )
  filled = cast(
    [
      (path, leaves[path], f'{name!r} of {source}', sources[name])
      for path, name in pairs
    ]
  )
  return replaced(params, jax.tree.map(jnp.asarray, filled))


def pair(
  leaves: Leaves,
  sources: Mapping[str, Mapping[str, Any]],
  *,
  source: str,
  mapping: Mapping[str, str] | None = None,
  allow_unused: bool = False,
  family: Callable[[str], str] | None = None,
) -> Pairs:
  """Matches layers by kind, then by shapes, then by order.

  Args:
    leaves: The layers of a model's parameters, see `layers_of`.
    sources: Layers by name, variables by seqjax's names.
    source: What a message calls `sources`.
    mapping: Path in the parameters -> name in the file, each the name of a layer or of
      what contains some ('encoder' for 'encoder/forward_layer'). Only these are paired.
    allow_unused: Layers of the file may be left over.
    family: None: the order of `sources` is the model's. Else a name's place, in which
      only numbers tell an order: gru, gru_1, gru_2.

  Returns:
    Pairs in the order of `leaves`.

  Raises:
    InputError: if layers differ in shape, are missing, unused or ambiguous.
  """
  if not mapping:
    return _pair_by_kind(leaves, sources, source, allow_unused, family)
  pairs: Pairs = []
  for path, name in mapping.items():
    targets = below(leaves, path, 'the parameters')
    candidates = below(sources, name, source)
    if len(targets) == len(candidates) == 1:
      [target], [candidate] = targets, candidates
      _check(target, leaves[target], candidate, sources[candidate], source)
      pairs.append((target, candidate))
    else:
      pairs += _pair_by_kind(targets, candidates, source, False, family)
  for path, count in _counts([path for path, _ in pairs]).items():
    if count > 1:
      raise InputError(f'mapping fills layer {path!r} more than once')
  order = list(leaves)
  return sorted(pairs, key=lambda found: order.index(found[0]))


def _pair_by_kind(
  leaves: Leaves,
  sources: Mapping[str, Mapping[str, Any]],
  source: str,
  allow_unused: bool,
  family: Callable[[str], str] | None,
) -> Pairs:
  pairs: Pairs = []
  missing: list[str] = []
  unused: list[str] = []
  targets_of = _grouped(leaves)
  candidates_of = _grouped(sources)
  for key in dict.fromkeys([*targets_of, *candidates_of]):
    targets, candidates = targets_of.get(key, []), candidates_of.get(key, [])
    fitting_targets = _by_shapes(targets, leaves)
    fitting = _by_shapes(candidates, sources)
    for shapes, some in fitting_targets.items():
      others = fitting.get(shapes, [])
      if len(others) == len(some) == 1:
        pairs.append((some[0], others[0]))
      elif len(others) == len(some):
        ordered_others = others if family is None else in_order(others, family, source)
        ordered = in_order(some, str, 'the parameters')
        pairs += zip(ordered, ordered_others, strict=True)
      elif others and some:
        raise InputError(
          f'{source} has {len(others)} layers ({", ".join(map(repr, others))}) that '
          f'fit {len(some)} of the parameters ({", ".join(map(repr, some))}): say '
          f'which is which by mapping={{path: name}}'
        )
    missing += [path for path in targets if path not in dict(pairs)]
    unused += [name for name in candidates if name not in {n for _, n in pairs}]
  for path in missing:  # the nearest explanation first: same kind, other shapes
    for name in unused:
      if _kind(path, leaves[path]) == _kind(name, sources[name]):
        _check(path, leaves[path], name, sources[name], source)
  if missing or (unused and not allow_unused):
    parts = []
    if missing:
      parts.append('nothing for ' + _list(missing, leaves))
    if unused:
      parts.append('no place for ' + _list(unused, sources))
    raise InputError(
      f'{source} does not fit the parameters: {"; ".join(parts)} '
      '(mapping={path: name} loads a part)'
    )
  order = list(leaves)
  return sorted(pairs, key=lambda found: order.index(found[0]))


def _check(
  path: str,
  target: Mapping[str, Any],
  name: str,
  layer: Mapping[str, Any],
  source: str,
) -> None:
  """Refuses a pair whose variables or shapes differ."""
  where = f'layer {path!r} of the parameters and layer {name!r} of {source}'
  wanted, given = shapes_of(target), shapes_of(layer)
  for variable in dict.fromkeys([*wanted, *given]):
    a, b = wanted.get(variable), given.get(variable)
    if a != b:
      hint = ''
      if a and b and {len(a), len(b)} == {1, 2} and a[-1] == b[-1]:
        hint = ' (a GRU with and one without reset_after?)'
      raise InputError(
        f'{where} differ: {variable} is {a or "absent"} there, '
        f'{b or "absent"} in the file{hint}'
      )


def _grouped(layers: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
  groups: dict[str, list[str]] = {}
  for name, layer in layers.items():
    groups.setdefault(_kind(name, layer), []).append(name)
  return groups


def _by_shapes(
  names: Sequence[str], layers: Mapping[str, Mapping[str, Any]]
) -> dict[Any, list[str]]:
  groups: dict[Any, list[str]] = {}
  for name in names:
    groups.setdefault(tuple(sorted(shapes_of(layers[name]).items())), []).append(name)
  return groups


def _kind(name: str, layer: Mapping[str, Any]) -> str:
  return kind(name, shapes_of(layer))


def in_order(
  names: Sequence[str], family: Callable[[str], str], where: str
) -> list[str]:
  """Sorts names that differ in one number only; parameters have no other order.

  (A jitted `init` sorts the layers of its result by name, so the order of a dict says
  nothing.)
  """
  if len(names) == 1:
    return list(names)
  split = [[_numbered(part) for part in family(name).split('/')] for name in names]
  stems = {tuple(stem for stem, _ in parts) for parts in split}
  columns = zip(*([n for _, n in parts] for parts in split), strict=False)
  varying = [column for column in columns if len(set(column)) > 1]
  if len(stems) == len(varying) == 1 and len(set(varying[0])) == len(names):
    return [name for _, name in sorted(zip(varying[0], names, strict=True))]
  raise InputError(
    f'layers {", ".join(map(repr, names))} of {where} have the same shapes and no '
    'order: say which is which by mapping={path: name}'
  )


def _numbered(part: str) -> tuple[str, int]:
  """'gru_10' -> ('gru', 10); 'gru' -> ('gru', -1), which comes before gru_1."""
  # No more digits than int() takes.
  stem, number = re.fullmatch(r'(.*?)_?(\d{0,18})', part, re.DOTALL).groups()  # type: ignore[union-attr]
  return stem, int(number or -1)


def below(
  layers: Mapping[str, Mapping[str, Any]], name: str, where: str
) -> dict[str, Any]:
  """The layer of that name, or those below it; all for an empty name."""
  found = {
    path: layer
    for path, layer in layers.items()
    if name in ('', path) or path.startswith(f'{name}/')
  }
  if not found:
    raise InputError(
      f'mapping names layer {name!r}, which is not in {where}: '
      f'{", ".join(map(repr, layers)) or "it is empty"}'
    )
  return found


def _list(names: Sequence[str], layers: Mapping[str, Mapping[str, Any]]) -> str:
  return ', '.join(describe(name, shapes_of(layers[name])) for name in names)


def _counts(names: Sequence[str]) -> dict[str, int]:
  return {name: names.count(name) for name in names}
