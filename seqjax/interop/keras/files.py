"""Files of Keras: `.keras`, `.weights.h5`, `.weights.json`, and the legacy `.h5`.

A `.keras` file is a zip of `config.json`, `metadata.json` and `model.weights.h5`. In
the last a variable has no name, only its layer's place and a number:
`layers/gru_1/cell/vars/0`. A legacy `.h5` names its variables:
`model_weights/gru_1/sequential/gru_1/gru_cell/kernel`. A `.weights.json` names the
`.weights.h5` files beside it over which the variables are spread. Only weights and
their names are read: the optimiser's state and the seeds of dropout are passed by, and
nothing that a file holds is ever run.
"""

import collections
import contextlib
import json
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seqjax.files import strangers, zips
from seqjax.interop.keras import configs, hdf5
from seqjax.interop.keras.configs import Described
from seqjax.interop.weights import Layer, Weights
from seqjax.types import InputError

MAX_JSON = 64 << 20  # bytes

_ZIP = b'PK\x03\x04'
_HDF5 = b'\x89HDF\r\n\x1a\n'
_SKIPPED = {'optimizer', 'optimizer_weights', 'seed_generator'}
_BESIDE_LAYERS = {'metrics', 'compiled_metrics', 'losses', 'compiled_loss'}


def read(path: pathlib.Path, max_bytes: int, values: bool = True) -> Weights:
  """The layers of a file that Keras saved.

  Args:
    path: `.keras`, `.weights.h5`, `.weights.json` or `.h5`; the content decides, not
      the name.
    max_bytes: Of all arrays together.
    values: Whether to read the arrays; if not they are zeros that take no memory.

  Raises:
    InputError: if it is none of these, damaged, or not to be trusted.
  """
  start = strangers.head(path)
  if start.startswith(_ZIP):
    return _read_zip(path, max_bytes, values)
  if start[:1] == b'{':
    return _read_shards(path, max_bytes, values)
  if not start.startswith(_HDF5):
    hint = strangers.looks_like(start)
    raise InputError(f'{path}: neither a .keras file nor HDF5{hint}')
  with hdf5.opened(path) as file:
    reader = hdf5.Reader(file, path, max_bytes, values)
    if reader.child(file, 'model_weights') is None and not reader.texts(
      file, 'layer_names'
    ):
      return _new_format([reader], [], version='')
    return _legacy_format(reader)


def _read_zip(path: pathlib.Path, max_bytes: int, values: bool) -> Weights:
  with zips.opened(path, max_expansion=zips.MAX_EXPANSION) as archive:
    names = archive.namelist()
    described, version = [], ''
    if 'config.json' in names:
      config = zips.read(archive, 'config.json', MAX_JSON)
      where = f'{path}: config.json'
      described = configs.describe(_json(config, where), where)
    if 'metadata.json' in names:
      metadata = zips.read(archive, 'metadata.json', MAX_JSON)
      version = str(_json(metadata, f'{path}: metadata.json').get('keras_version', ''))
    with (
      zips.unpacked(archive, 'model.weights.h5', max_bytes + MAX_JSON) as weights,
      hdf5.opened(path, weights) as file,
    ):
      reader = hdf5.Reader(file, path, max_bytes, values)
      return _new_format([reader], described, version)


def _read_shards(path: pathlib.Path, max_bytes: int, values: bool) -> Weights:
  if path.stat().st_size > MAX_JSON:
    raise InputError(f'{path}: more than {MAX_JSON} bytes of JSON')
  listed = _json(path.read_bytes(), str(path)).get('weight_map')
  if not isinstance(listed, dict) or not all(
    isinstance(names, list) and all(isinstance(name, str) for name in names)
    for names in listed.values()
  ):
    raise InputError(f'{path}: no weight_map that says in which file a variable is')
  names = dict.fromkeys(name for some in listed.values() for name in some)
  if len(names) > hdf5.MAX_SHARDS:
    raise InputError(f'{path}: more than {hdf5.MAX_SHARDS} shards')
  with contextlib.ExitStack() as stack:
    readers = []
    for name in names:
      if pathlib.PurePath(name).name != name or '\\' in name:
        raise InputError(f'{path}: a shard {name!r} that is not a file beside it')
      shard = path.with_name(name)
      if not shard.is_file():
        raise InputError(f'{path}: its shard {name!r} is not beside it')
      file = stack.enter_context(hdf5.opened(shard))
      readers.append(hdf5.Reader(file, shard, max_bytes, values))
    weights = _new_format(readers, [], version='', max_bytes=max_bytes)
  stores = {layer.store for layer in weights.values()}
  for store in listed:
    if store.strip('/').removesuffix('vars').rstrip('/') not in stores:
      raise InputError(f'{path}: no shard has the variables of {store!r}')
  weights.source = str(path)
  return weights


def _new_format(
  readers: Sequence[hdf5.Reader],
  described: list[Described],
  version: str,
  max_bytes: int = sys.maxsize,
) -> Weights:
  """Groups `.../vars/<number>` of Keras 3, of one file or of several shards."""
  stores: dict[str, dict[str, np.ndarray]] = {}
  for reader in readers:
    for path, dataset in reader.datasets(reader.file, _skip_beside):
      store, _, number = _slashed(path).rpartition('/')
      if not re.fullmatch(r'(.*/)?vars', store):
        raise InputError(f'{reader.path}: {path} is not how Keras 3 stores a variable')
      store = store.removesuffix('vars').rstrip('/')
      variables = stores.setdefault(store, {})
      if number in variables:
        raise InputError(f'{reader.path}: two arrays are {number!r} of {store!r}')
      variables[number] = reader.array(dataset)
      max_bytes -= variables[number].nbytes
      if max_bytes < 0:
        raise InputError(f'{reader.path}: the shards need more than the bytes allowed')
  known = {item.store: item for item in described}
  complete = all(i.store in stores for i in described if configs.fewest(i) > 0)
  stores = {
    store: variables
    for store, variables in stores.items()
    if store in known or not _is_state(store, variables, bool(known), complete)
  }
  # With other places in the file a layer may be at one of them, as an attribute is.
  whole = set(stores) <= set(known)
  sure = [item for item in described if whole or item.store in stores]
  counts = collections.Counter[str]()
  for item in sure:
    counts[item.name] += len(stores.get(item.store, ()))
  configs.check_whole(sure, counts, lambda item: item.name, str(readers[0].path))
  for item in described:
    if item.class_name == 'Masking':  # has none, and changes what others compute
      stores.setdefault(item.store, {})
  order = [item.store for item in described if item.store in stores]
  order += sorted(set(stores) - set(order), key=_natural)
  layers: dict[str, Layer] = {}
  for store in order:
    variables = dict(sorted(stores[store].items(), key=lambda item: _natural(item[0])))
    item = known.get(store) or _undescribed(readers, store, variables)
    name = item.name if item.name not in layers else store
    layers[name] = item.layer(configs.named(item, variables))
  return Weights(
    layers,
    source=str(readers[0].path),
    ordered=whole,
    version=version,
  )


def _undescribed(
  readers: Sequence[hdf5.Reader], store: str, variables: Mapping[str, np.ndarray]
) -> Described:
  """Name and class of a layer without a configuration, from its place in the file."""
  parts = store.split('/')
  names: list[str] = []
  class_name = ''
  groups = {reader: reader.file for reader in readers}
  for i, part in enumerate(parts):
    below = {reader: reader.child(group, part) for reader, group in groups.items()}
    groups = {reader: group for reader, group in below.items() if group is not None}
    given = ''
    for reader, group in groups.items():
      own = reader.child(group, 'vars')
      given = given or ('' if own is None else reader.text(own, 'name'))
    in_container = i > 0 and parts[i - 1] in ('layers', 'cells')
    class_name = configs.class_of(part if in_container else given) or class_name
    if part in ('cell', 'layer') and names:
      continue
    if part not in ('layers', 'cells'):
      names.append(given if in_container and given else part)
  item = Described('/'.join(names) or 'model', class_name, {}, store)
  return item if given else configs.recognised(item, variables)


def _legacy_format(reader: hdf5.Reader) -> Weights:
  """Named datasets below one group for each layer, as Keras 1 and 2 wrote them."""
  file = reader.file
  root = reader.child(file, 'model_weights')
  root = file if root is None else root  # save_weights() has no group of that name
  config = reader.text(file, 'model_config')
  described = []
  if config:
    where = f'{reader.path}: model_config'
    described = configs.describe(_json(config, where), where)
  listed = _legacy_list(reader, root, 'layer_names')
  for name in listed:
    if reader.child(root, name) is None:
      raise InputError(
        f'{reader.path}: a save that broke off: it has no layer {name!r}'
      )
  outer = dict.fromkeys([item.name.split('/')[0] for item in described] or listed)
  known = {item.name: item for item in described}
  variables: dict[str, dict[str, np.ndarray]] = {}
  counts: dict[str, int] = {}  # by the outer layer: names inside differ by version
  for name in outer:
    group = reader.child(root, name)
    if group is None:
      continue
    paths = {path: data for path, data in reader.datasets(group, _skip)}
    where = f'{reader.path}: a save that broke off: layer {name!r}'
    order = [p for p in _legacy_list(reader, group, 'weight_names') if not _skip(p)]
    for path, count in collections.Counter(order).items():
      if count > 1:
        raise InputError(f'{where} lists {path!r} twice')
      if path not in paths:
        raise InputError(f'{where} has no {path!r}')
    counts[name] = len(paths)
    names = _legacy_names(name, list(dict.fromkeys([*order, *paths])))
    for path, (layer, variable) in names.items():
      named = variables.setdefault(layer, {})
      if variable in named:
        raise InputError(f'{reader.path}: two arrays are {variable!r} of {layer!r}')
      named[variable] = reader.array(paths[path])
  configs.check_whole(
    described, counts, lambda item: item.name.split('/')[0], str(reader.path)
  )
  for name in list(variables):  # 'time_distributed/dense' is called 'time_distributed'
    wrapper = name.rpartition('/')[0]
    if name not in known and wrapper in known and wrapper not in variables:
      variables[wrapper] = variables.pop(name)
  for name, item in known.items():
    if item.class_name == 'Masking':
      variables.setdefault(name, {})
  order = [name for name in known if name in variables]
  order += [name for name in variables if name not in known]
  unknown = Described('', '', {}, '')
  layers = {name: known.get(name, unknown).layer(variables[name]) for name in order}
  version = reader.text(root, 'keras_version') or reader.text(file, 'keras_version')
  return Weights(layers, source=str(reader.path), version=version)


def _legacy_list(reader: hdf5.Reader, group: Any, name: str) -> list[str]:
  """An attribute, or as many as Keras needed for it: names0, names1, ..."""
  values, number = reader.texts(group, name), 0
  while f'{name}{number}' in group.attrs:
    values += reader.texts(group, f'{name}{number}')
    number += 1
    if sum(map(len, values)) > hdf5.MAX_ATTRIBUTE:
      raise InputError(f'{reader.path}: {name} of {group.name!r} is too long')
  return values


def _legacy_names(name: str, paths: list[str]) -> dict[str, tuple[str, str]]:
  """(layer, variable) of each path below the group of a layer."""
  split = {path: path.split('/') for path in paths}
  groups = {  # after the second time that the layer is named
    path: tuple(parts[parts.index(name) + 1 if name in parts[:-1] else 0 : -1])
    for path, parts in split.items()
  }
  for path, parts in split.items():  # Keras 1 says the direction in a variable's name
    direction = re.fullmatch(r'((?:forward|backward)_.*)_[WUb](_\w)?(:\d+)?', parts[-1])
    if direction and not groups[path]:
      groups[path] = (direction[1],)
  short = {group: _legacy_name(name, group) for group in groups.values()}
  used = list(short.values())
  layers = {  # two cells of one layer of the user's own: by their full names
    group: layer if used.count(layer) == 1 else '/'.join((name, *group))
    for group, layer in short.items()
  }
  return {
    path: (layers[groups[path]], re.sub(r':\d+$', '', parts[-1]))
    for path, parts in split.items()
  }


def _legacy_name(layer: str, above: tuple[str, ...]) -> str:
  """'bidirectional/forward_layer' from the groups above a variable of that layer."""
  names = [layer]
  stacks = [re.fullmatch(r'stacked_rnn_cells(_\d+)?', part) for part in above]
  for i, part in enumerate(above):
    last = i == len(above) - 1
    is_cell = re.fullmatch(r'.*_cells?(_\d+)?', part)
    direction = re.match(r'(forward|backward)_', part)
    if direction:
      names.append(f'{direction[1]}_layer')
    elif (
      part != names[-1] and not stacks[i] and (not is_cell or (last and any(stacks)))
    ):
      names.append(part)
  return '/'.join(names)


def _skip(path: str) -> bool:
  return not _SKIPPED.isdisjoint(path.split('/'))


def _skip_beside(path: str) -> bool:
  path = _slashed(path)
  return _skip(path) or path.split('/')[0] in _BESIDE_LAYERS


def _slashed(path: str) -> str:
  """A path as Keras 3 writes it, of a version or a system that writes another."""
  path = path.replace('\\', '/')  # Keras 2.15 on Windows
  return path.replace('_layer_checkpoint_dependencies', 'layers')  # 2.13


def _is_state(
  store: str, variables: Mapping[str, np.ndarray], described: bool, complete: bool
) -> bool:
  """Whether variables are those of a random generator, or of a metric by an attribute.

  More is told in a model whose layers are known: a layer's variables are no integers,
  and beside a `complete` one, in which no known layer lacks its own, lies none.
  """
  types = {(value.dtype, value.shape) for value in variables.values()}
  if types == {(np.dtype(np.uint32), (2,))}:
    return True
  if described and all(dtype.kind in 'iub' for dtype, _ in types):
    return True
  outside = described and store.split('/')[0] != 'layers'
  return outside and (complete or all(shape == () for _, shape in types))


def _json(text: str | bytes, where: str) -> Mapping[str, Any]:
  try:
    value = json.loads(text)
  except (ValueError, RecursionError) as error:
    raise InputError(f'{where}: not readable JSON: {error}') from None
  if not isinstance(value, dict):
    raise InputError(f'{where}: not a JSON object')
  return value


def _natural(name: str) -> list[Any]:
  """Sorts gru, gru_1, gru_2, gru_10, and forward before backward."""
  # No more digits than int() takes; every second part is a number.
  parts = re.split(r'(\d{1,18})', name.replace('forward_layer', ''))
  return [(int(p), '') if i % 2 else (-1, p) for i, p in enumerate(parts)]
