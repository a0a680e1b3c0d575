"""Weights from Keras and back, without Keras.

  params = keras.load_into(params, 'model.keras')
  keras.save_weights('back.weights.h5', keras.from_params(params, 'model.keras'))

`python -m seqjax.interop.keras show FILE` lists what a file holds.
"""

import argparse
import copy
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import numpy as np

from seqjax.interop import matching, transfer
from seqjax.interop.files import replacing
from seqjax.interop.keras import comparison, configs, files, layout, older
from seqjax.interop.libraries import library
from seqjax.interop.weights import DIRECTIONS, MAX_BYTES, Layer, Weights, known_kind
from seqjax.types import InputError, PyTree

Path = str | os.PathLike[str]


def load(path: Path, *, max_bytes: int = MAX_BYTES) -> Weights:
  """The layers of a `.keras`, `.weights.h5`, `.weights.json` or legacy `.h5` file.

  Args:
    path: The file; of a sharded one the `.weights.json`, beside which its shards lie.
      Nothing in it is run or unpickled.
    max_bytes: Of all arrays together.

  Returns:
    {layer: {variable: array}} with Keras's names: 'bidirectional/forward_layer' has a
    'kernel', a 'recurrent_kernel' and a 'bias'. In the order of the model, with classes
    and configurations, where the file has them; a `.weights.h5` only has the order of
    layers of one class.

  Raises:
    InputError: if it is no such file, is damaged, or is not to be trusted.
    ImportError: if h5py is not installed.
  """
  return files.read(pathlib.Path(path), max_bytes)


def load_into(
  params: PyTree,
  weights: Path | Mapping[str, Mapping[str, np.ndarray]],
  mapping: Mapping[str, str] | None = None,
  *,
  allow_unused: bool = False,
  model: nn.Module | None = None,
) -> dict[str, Any]:
  """Parameters of a linen model with the values of a Keras model; all, or an error.

  Layers are matched by kind, then by shapes, then by order: that of the file, and the
  numbers in the names of the parameters (layers_0, layers_1). Where this is not enough
  to be sure, an error asks for `mapping`.

  Args:
    params: variables['params'] of the model, or their shapes (jax.eval_shape).
    weights: A file, or what `load` returned for one.
    mapping: {'encoder': 'lstm_1', ...}: path in `params`, name in `weights`, each of a
      layer or of what contains layers. Only these are loaded.
    allow_unused: The file may have layers that the model has not.
    model: The model. If given, its activations, directions, reset_after and merge_mode
      must be those of the file, where the file says them; see `comparison.compare`.
      Its layers must be fields, as in a Stack: others cannot be seen before a call.

  Returns:
    New params, in the dtypes of the old.

  Raises:
    InputError: if they do not fit; the message names both layers and shapes. Also if a
      file is refused, as in `load`.
    TypeError: if `params` is no nested dict of arrays.

  Warns:
    LossyWarning: if numbers have to be rounded to a narrower dtype.
  """
  weights = _weights(weights)
  source = _source(weights)
  if model is not None:
    leaves = transfer.layers_of(params)
    pairs = matching.pair(leaves, source, mapping, allow_unused)
    comparison.compare(model, pairs, weights)
  return transfer.fill(params, source, mapping, allow_unused)


def from_params(
  params: PyTree,
  like: Path | Weights | None = None,
  mapping: Mapping[str, str] | None = None,
  *,
  order: Sequence[str] | None = None,
) -> Weights:
  """The weights of a Keras model with the values of `params`; inverse of `load_into`.

  Args:
    params: variables['params'] of a linen model.
    like: A file of the Keras model, or what `load` returned for one: says what goes
      where. None: the model has these layers, each by its usual class, one after
      another.
    mapping: As in `load_into`. Layers of `like` that are not in it stay as they are.
    order: Without `like`, the order of the layers: ['embedding', 'encoder', 'head'].
      Needed for `arrays`, and where two layers of one class have no numbers.

  Returns:
    What `save_weights` and `arrays` take.

  Raises:
    InputError: if they do not fit; the message names both layers and shapes.
    ValueError: if `mapping` comes without `like`, or `order` with it or incomplete.

  Warns:
    LossyWarning: if numbers have to be rounded to the dtypes of `like`.
  """
  if like is None:
    if mapping:
      raise ValueError('mapping needs like=, the model that it names layers of')
    return layout.plain(transfer.layers_of(params), order)
  if order is not None:
    raise ValueError('give like= or order=, not both')
  template = _weights(like)
  weights = copy.copy(template)
  values = transfer.values_of(params, _source(template), mapping)
  for name, layer in values.items():
    weights[name] = copy.copy(template[name])
    weights[name] |= older.from_params(template, name, layer)
  return weights


def save_weights(path: Path, weights: Weights) -> None:
  """Writes a `.weights.h5` that `model.load_weights(path)` of Keras 3 reads.

  Raises:
    InputError: if the name does not end in .weights.h5, as Keras wants it.
    ValueError: if a layer has no place in such a file.
    ImportError: if h5py is not installed.
  """
  path = pathlib.Path(path)
  if not path.name.endswith('.weights.h5'):
    raise InputError(f'{path}: the name must end in .weights.h5')
  for name, layer in weights.items():
    if not layer.store:
      raise ValueError(f'layer {name!r} of {weights.source} has no place in a file')
  h5py = library('h5py')
  with replacing(path) as part, h5py.File(part, 'w') as file:
    for layer in filter(None, weights.values()):
      group = file.create_group(f'{layer.store}/vars')
      for number, value in enumerate(layer.values()):
        dataset = group.create_dataset(str(number), data=np.asarray(value))
        if value.dtype.name == 'bfloat16':
          dataset.attrs['dtype'] = 'bfloat16'


def arrays(weights: Weights) -> list[np.ndarray]:
  """The arrays in the order of `model.get_weights()`, for `model.set_weights(...)`.

  Raises:
    ValueError: if the order of the layers is unknown: they are of a `.weights.h5`.
  """
  if not weights.ordered:
    raise ValueError(f'{weights.source} does not say in which order the layers are')
  return [value for layer in weights.values() for value in layer.values()]


def arguments(weights: Weights, name: str) -> dict[str, Any]:
  """Arguments that make the seqjax layer compute what a layer of Keras does.

  `sj.GRU(**keras.arguments(weights, 'gru_1'))`. For Embedding, Masking, SimpleRNN, LSTM
  and GRU, and CuDNNLSTM and CuDNNGRU, out of a file with configurations (`.keras`, or a
  legacy `.h5` of a whole model). Of a Bidirectional it is the `merge_mode`; its layers
  are 'NAME/forward_layer' and 'NAME/backward_layer'.

  An RNN around a cell counts as the cell's layer. Arguments that say nothing about the
  function, initialisers and dtypes, are left out.

  Raises:
    InputError: if the file has no configuration of that layer, or one that seqjax has
      no equal for: stateful, time_major, of Keras 1, or of another activation.

  Example:
    >>> from seqjax.interop import keras
    >>> config = {'units': 8, 'activation': 'relu', 'reset_after': False}
    >>> layer = keras.Layer({}, class_name='GRU', config=config)  # as a file has it
    >>> keras.arguments(keras.Weights({'gru': layer}), 'gru')
    {'features': 8, 'activation': 'relu', 'reset_after': False}
  """
  where = f'layer {name!r} of {weights.source}'
  if name in weights:
    layer = weights[name]
    return configs.arguments(layer.class_name, layer.config, weights.version, where)
  for inner, layer in weights.items():
    if inner.startswith(f'{name}/{DIRECTIONS[0]}'):
      if 'merge_mode' not in layer.config:
        raise InputError(f'{where} (Bidirectional) has no configuration to go by')
      return {'merge_mode': layer.config['merge_mode']}
  raise InputError(f'{weights.source} has no layer {name!r}: {", ".join(weights)}')


def main(argv: Sequence[str] | None = None) -> int:
  """The command: returns 0, or 2 after one line on what is wrong."""
  parser = argparse.ArgumentParser(prog='python -m seqjax.interop.keras')
  commands = parser.add_subparsers(dest='command', required=True)
  show = commands.add_parser('show', help='list layers, variables and shapes')
  show.add_argument('file', help='.keras, .weights.h5, .weights.json or .h5')
  options = parser.parse_args(argv)
  try:
    # A ~ in front where the shell left it alone.
    path = pathlib.Path(os.path.expanduser(options.file))
    weights = files.read(path, sys.maxsize, values=False)
  except (InputError, ImportError) as error:
    print('error:', _printable(' '.join(str(error).split())), file=sys.stderr)
    return 2
  try:
    print('\n'.join(_listing(weights)), flush=True)
  except BrokenPipeError:  # of `| head`; Python itself would try once more
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  return 0


def _listing(weights: Weights) -> list[str]:
  total = sum(value.size for layer in weights.values() for value in layer.values())
  version = f'Keras {weights.version}' if weights.version else 'Keras, version unknown'
  lines = [
    f'{weights.source}: {version}, {len(weights)} layers',
    *([] if weights.ordered else ['(the file does not say in which order)']),
  ]
  for name, layer in weights.items():
    summary = configs.summary(layer.config)
    class_name = layer.class_name or _class_by_shapes(weights, name)
    lines.append(f'{name}  {class_name}  {summary}'.rstrip())
    lines += [
      f'  {variable:<18} {value.shape!s:<18} {value.dtype!s:<9} {value.size:>13,}'
      for variable, value in layer.items()
    ]
  return [*map(_printable, lines), f'{"total":<49}{total:>13,}']


def _class_by_shapes(weights: Weights, name: str) -> str:
  """What a layer is whose class the file does not say; '?' if that is not enough."""
  class_name = older.class_by_shapes(weights[name])
  class_name = class_name or known_kind(name, older.to_params(weights, name))
  return f'{class_name} (by its shapes)' if class_name else '?'


def _printable(text: str) -> str:
  """Names come from the file: none may steer the terminal."""
  return ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _weights(weights: Path | Mapping[str, Mapping[str, np.ndarray]]) -> Weights:
  if isinstance(weights, Weights):
    return weights
  if isinstance(weights, Mapping):
    return Weights({name: Layer(layer) for name, layer in weights.items()})
  return load(weights)


def _source(weights: Weights) -> transfer.Source:
  """The layers that have variables, by seqjax's names of these."""
  layers = {n: older.to_params(weights, n) for n, layer in weights.items() if layer}
  # What tells the order: None, the file's own, or a number in a layer's place.
  family = None if weights.ordered else lambda name: weights[name].store or name
  return transfer.Source(weights.source, layers, family)
