"""Which layer of another library belongs to which layer of a model's parameters."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from seqjax.interop.weights import describe, kind
from seqjax.types import InputError

Leaves = dict[str, dict[str, Any]]  # path in the parameters -> variable -> array
Layers = Mapping[str, Mapping[str, Any]]  # by name; variables by seqjax's names


class Source(NamedTuple):
  """The layers of another library, in seqjax's names and layout.

  `family` gives a name's place, in which only numbers tell an order: gru, gru_1. None:
  the order of `layers` is the model's.
  """

  name: str  # what messages call it
  layers: Layers
  family: Callable[[str], str] | None = str


def pair(
  leaves: Leaves,
  source: Source,
  mapping: Mapping[str, str] | None = None,
  allow_unused: bool = False,
) -> dict[str, str]:
  """Matches layers by kind, then by shapes, then by order.

  Args:
    leaves: The layers of a model's parameters, see `layers_of`.
    source: Where their values come from, or go to.
    mapping: Path in the parameters -> name in the source, each the name of a layer or
      of what contains some ('encoder' for 'encoder/forward_layer'). Only these are
      paired.
    allow_unused: Layers of the source may be left over.

  Returns:
    {path in the parameters: name in the source}.

  Raises:
    InputError: if layers differ in shape, are missing, unused or ambiguous.
  """
  if not mapping:
    return _pair_by_kind(leaves, source, allow_unused)
  pairs: dict[str, str] = {}
  for path, name in mapping.items():
    targets = below(leaves, path, 'the parameters')
    layers = below(source.layers, name, source.name)
    if len(targets) == len(layers) == 1:
      [target], [layer] = targets, layers
      _check(target, targets[target], layer, layers[layer], source.name)
      some = {target: layer}
    else:
      some = _pair_by_kind(targets, source._replace(layers=layers), False)
    for target in pairs.keys() & some.keys():
      raise InputError(f'mapping fills layer {target!r} more than once')
    pairs |= some
  return pairs


def _pair_by_kind(leaves: Leaves, source: Source, allow_unused: bool) -> dict[str, str]:
  pairs: dict[str, str] = {}
  missing: list[str] = []
  unused: list[str] = []
  paths_of, names_of = _alike(leaves), _alike(source.layers)
  for key in dict.fromkeys([*paths_of, *names_of]):
    paths, names = paths_of.get(key, []), names_of.get(key, [])
    if not paths or not names:
      missing += paths
      unused += names
    elif len(paths) == len(names):
      if source.family is not None:
        names = in_order(names, source.family, source.name)
      pairs |= zip(in_order(paths, str, 'the parameters'), names, strict=True)
    else:
      raise InputError(
        f'{source.name} has {len(names)} layers ({_quoted(names)}) that fit '
        f'{len(paths)} of the parameters ({_quoted(paths)}): say which is which by '
        'mapping={path: name}'
      )
  for path in missing:  # the nearest explanation first: same kind, other shapes
    for name in unused:
      if kind(path, leaves[path]) == kind(name, source.layers[name]):
        _check(path, leaves[path], name, source.layers[name], source.name)
  reasons = []
  if missing:
    described = ', '.join(describe(path, leaves[path]) for path in missing)
    reasons.append(f'nothing for {described}')
  if unused and (missing or not allow_unused):
    described = ', '.join(describe(name, source.layers[name]) for name in unused)
    reasons.append(f'no place for {described}')
  if reasons:
    raise InputError(
      f'{source.name} does not fit the parameters: {"; ".join(reasons)} '
      '(mapping={path: name} loads a part)'
    )
  return pairs


def _check(
  path: str,
  target: Mapping[str, Any],
  name: str,
  layer: Mapping[str, Any],
  source: str,
) -> None:
  """Refuses a pair whose variables or shapes differ."""
  for variable in dict.fromkeys([*target, *layer]):
    expected, given = (
      tuple(side[variable].shape) if variable in side else None
      for side in (target, layer)
    )
    if expected != given:
      ranks = {len(expected or ()), len(given or ())}
      same_end = expected and given and expected[-1] == given[-1]
      hint = ''
      if ranks == {1, 2} and same_end:
        hint = ' (a GRU with and one without reset_after?)'
      raise InputError(
        f'layer {path!r} of the parameters and layer {name!r} of {source} differ: '
        f'{variable} is {expected or "absent"} there, {given or "absent"} in the file'
        f'{hint}'
      )


def _alike(layers: Layers) -> dict[Any, list[str]]:
  """Names of layers of one kind and of the same shapes."""
  groups: dict[Any, list[str]] = {}
  for name, layer in layers.items():
    shapes = sorted((variable, tuple(v.shape)) for variable, v in layer.items())
    groups.setdefault((kind(name, layer), *shapes), []).append(name)
  return groups


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
    f'layers {_quoted(names)} of {where} have the same shapes and no order: say which '
    'is which by mapping={path: name}'
  )


def _numbered(part: str) -> tuple[str, int]:
  """'gru_10' -> ('gru', 10); 'gru' -> ('gru', -1), which comes before gru_1."""
  # No more digits than int() takes.
  stem, number = re.fullmatch(r'(.*?)_?(\d{0,18})', part, re.DOTALL).groups()  # type: ignore[union-attr]
  return stem, int(number or -1)


def below(layers: Layers, name: str, where: str) -> dict[str, Any]:
  """The layer of that name, or those below it; all for an empty name."""
  inside = {
    path: layer
    for path, layer in layers.items()
    if name in ('', path) or path.startswith(f'{name}/')
  }
  if not inside:
    raise InputError(
      f'mapping names layer {name!r}, which is not in {where}: '
      f'{_quoted(layers) or "it is empty"}'
    )
  return inside


def _quoted(names: Iterable[str]) -> str:
  return ', '.join(map(repr, names))
