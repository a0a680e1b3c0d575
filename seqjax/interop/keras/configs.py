"""Configurations of Keras's models: which layer is where, and what its variables are.

A configuration is read as data. Classes that it names are never looked up.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from seqjax import cells
from seqjax.interop.gates import GATES
from seqjax.interop.weights import DIRECTIONS, Layer, join
from seqjax.types import InputError

# Variables in the order of their numbers.
VARIABLES: dict[str, tuple[str, ...]] = {
  'Embedding': ('embeddings',),
  'Dense': ('kernel', 'bias'),
  'Conv1D': ('kernel', 'bias'),
  'SimpleRNN': ('kernel', 'recurrent_kernel', 'bias'),
  'LSTM': ('kernel', 'recurrent_kernel', 'bias'),
  'GRU': ('kernel', 'recurrent_kernel', 'bias'),
  'LayerNormalization': ('gamma', 'beta'),
  'BatchNormalization': ('gamma', 'beta', 'moving_mean', 'moving_variance'),
}
# seqjax's names of variables, where they differ.
OURS = {'embeddings': 'embedding', 'gamma': 'scale', 'beta': 'bias'}
RECURRENT = ('SimpleRNN', 'LSTM', 'GRU')
MAX_DEPTH = 32  # of models in models

CUDNN = {'CuDNNLSTM': 'LSTM', 'CuDNNGRU': 'GRU'}
_KNOWN = (*VARIABLES, *CUDNN, 'Bidirectional', 'TimeDistributed', 'RNN', 'Masking')

_OF_RNN = (  # options of a layer, not of its cell
  *('return_sequences', 'return_state', 'go_backwards', 'stateful', 'time_major'),
  'zero_output_for_mask',
)
_RECURRENT = (
  *('units', 'activation', 'use_bias', 'dropout', 'recurrent_dropout'),
  *('return_sequences', 'return_state', 'go_backwards', 'zero_output_for_mask'),
)
_ARGUMENTS: dict[str, tuple[str, ...]] = {
  'Embedding': ('input_dim', 'output_dim', 'mask_zero'),
  'Masking': ('mask_value',),
  'SimpleRNN': _RECURRENT,
  'LSTM': (*_RECURRENT, 'recurrent_activation', 'unit_forget_bias'),
  'GRU': (*_RECURRENT, 'recurrent_activation', 'reset_after'),
}
_OUR_ARGUMENTS = {
  'input_dim': 'num_embeddings',
  'output_dim': 'features',
  'units': 'features',
  'return_state': 'return_carry',
}
_SHOWN_IF_FALSE = (
  *('reset_after', 'use_bias', 'unit_forget_bias', 'merge_mode', 'mask_value'),
)
_SHOWN = {'filters', 'padding', 'data_format', 'epsilon', 'stateful', 'merge_mode'}


class Described(NamedTuple):
  """What a configuration says about a layer that can have variables."""

  name: str  # 'bidirectional/forward_layer'
  class_name: str  # of the layer, not of its cell
  config: Mapping[str, Any]
  store: str  # 'layers/bidirectional/forward_layer/cell'

  def layer(self, variables: Mapping[str, np.ndarray]) -> Layer:
    return Layer(
      variables, class_name=self.class_name, config=self.config, store=self.store
    )


def describe(model: Mapping[str, Any], where: str) -> list[Described]:
  """The layers of a model's configuration, in the order of the model.

  Args:
    model: Its configuration.
    where: What to call it.

  Raises:
    InputError: if it is no configuration that Keras writes.
  """
  try:
    return list(_layers(model.get('config'), '', '', 0))
  except InputError as error:
    raise InputError(f'{where}: {error}') from None
  except (AttributeError, KeyError, TypeError) as error:
    raise InputError(f'{where}: not a configuration of Keras: {error!r}') from None


def named(
  item: Described, variables: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """Variables by name, from variables by number; the numbers where unknown."""
  names = VARIABLES.get(item.class_name.removesuffix('Cell'), ())
  if item.class_name.endswith('Normalization'):
    config = item.config
    without = {
      'gamma': not config.get('scale', True),
      'beta': not config.get('center', True),
    }
    names = tuple(name for name in names if not without.get(name))
    if len(names) != len(variables):  # without gamma or beta; which, nobody says
      return dict(variables)
  numbers = [str(i) for i in range(len(variables))]
  if list(variables) != numbers or not 0 < len(variables) <= len(names):
    return dict(variables)
  by_name = dict(zip(names, variables.values(), strict=False))
  kernel, recurrent = by_name.get('kernel'), by_name.get('recurrent_kernel')
  if 'recurrent_kernel' in names and (
    kernel is None or recurrent is None or kernel.shape[1:] != recurrent.shape[1:]
  ):
    return dict(variables)  # the class is a guess from a name, and a wrong one
  return by_name


def recognised(item: Described, variables: Mapping[str, np.ndarray]) -> Described:
  """`item` with the class that its place in a wrapper and its shapes leave, if one."""
  if item.class_name in VARIABLES:
    return item
  shapes = [value.shape for value in variables.values()]
  outer, _, inner = item.store.rpartition('/')
  is_cell = inner == 'cell' or (inner.isdecimal() and outer.endswith('/cells'))
  class_name = ''
  if is_cell and len(shapes) in (2, 3) and len(shapes[1]) == 2:
    kernel, (H, G), *bias = shapes
    for cell, gates in GATES.items():
      biases = [[], [(G,)], *([[(2, G)]] if cell == 'GRU' else [])]
      if H and gates * H == G and kernel[1:] == (G,) and bias in biases:
        class_name = cell
  elif inner == 'layer' and shapes[1:] in ([], [shapes[0][-1:]]):
    # An Embedding would look like a Dense without bias; few wrap one.
    class_name = {2: 'Dense', 3: 'Conv1D'}.get(len(shapes[0]), '')
  return item._replace(class_name=class_name or item.class_name)


def check_whole(
  described: Sequence[Described],
  counts: Mapping[str, int],
  store_of: Callable[[Described], str],
  where: str,
) -> None:
  """Refuses a part of a model: fewer variables than its configuration asks for.

  Args:
    described: Layers of a configuration. One that several models share is there for
      each, and its variables may be stored once.
    counts: {store: how many variables the file has there}. Without any the model was
      saved before it had some.
    store_of: Of a layer, alone or with others.
    where: What to call the file.

  Raises:
    InputError: names the first layer that lacks some.
  """

  def itself(item: Described) -> tuple[str, str]:
    return item.name.rpartition('/')[2], json.dumps(item.config, sort_keys=True)

  stored = {itself(item) for item in described if counts.get(store_of(item))}
  needed: dict[str, dict[tuple[str, str], int]] = {}
  for item in described:
    if counts.get(store_of(item)) or itself(item) not in stored:
      needed.setdefault(store_of(item), {})[itself(item)] = fewest(item)
  for name, layers in needed.items():
    count, least = counts.get(name, 0), sum(layers.values())
    if count < least and any(counts.values()):
      lacks = f'has {count} of its {least} variables' if count else 'is missing'
      raise InputError(f'{where}: a save that broke off: layer {name!r} {lacks}')


def fewest(item: Described) -> int:
  """How many variables a layer has by what its configuration says, at least."""
  config = item.config
  has = {
    'bias': config.get('use_bias', config.get('bias', False)),  # the second: Keras 1
    'gamma': config.get('scale', False),
    'beta': config.get('center', False) and not config.get('rms_scaling'),
  }
  names = VARIABLES.get(CUDNN.get(item.class_name, item.class_name), ())
  return sum(bool(has.get(name, True)) for name in names)


def snake_case(class_name: str) -> str:
  """'SimpleRNN' -> 'simple_rnn': the name of a layer's group in a file."""
  name = re.sub(r'\W+', '', class_name)
  name = re.sub(r'(.)([A-Z][a-z]+)', r'\1_\2', name)
  return re.sub(r'([a-z])([A-Z])', r'\1_\2', name).lower()


def class_of(group: str) -> str:
  """'simple_rnn_1' -> 'SimpleRNN', for the classes that matter here; else ''.

  Of a cell, 'lstm_cell', it is the layer's class.
  """
  stem = re.sub(r'(^(forward|backward)_|(_cell)?(_\d+)?$)', '', group)
  return {snake_case(name): name for name in _KNOWN}.get(stem, '')


def numbered(name: str, used: dict[str, int]) -> str:
  """gru, gru_1, gru_2: as Keras tells apart layers of one class."""
  used[name] = used.get(name, -1) + 1
  return f'{name}_{used[name]}' if used[name] else name


def arguments(
  class_name: str, config: Mapping[str, Any], version: str, where: str
) -> dict[str, Any]:
  """Arguments of the seqjax layer that computes what the configured one does.

  Raises:
    InputError: if there is no such layer; its message begins with `where`.
  """
  if class_name in CUDNN:  # which has no other activations
    class_name, version = CUDNN[class_name], '3.'
    config = {**config, 'activation': 'tanh', 'recurrent_activation': 'sigmoid'}
    config |= {'reset_after': True} if class_name == 'GRU' else {}
  if not config or class_name not in _ARGUMENTS:
    raise InputError(f'{where} ({class_name or "?"}) has no configuration to go by')
  if config.get('stateful'):
    raise InputError(f'{where} is stateful: hand the carry from call to call instead')
  if config.get('time_major'):
    raise InputError(f'{where} has time before batch: seqjax takes [B, T, D]')
  size = {'Embedding': 'output_dim', 'Masking': 'mask_value'}.get(class_name, 'units')
  if size not in config:
    raise InputError(f'{where} has no {size}: a configuration of Keras 1?')
  result = {
    _OUR_ARGUMENTS.get(name, name): config[name]
    for name in _ARGUMENTS[class_name]
    if name in config
  }
  if class_name == 'GRU' and not version.startswith('3.'):
    result.setdefault('reset_after', False)  # older than the option
  for name in ('activation', 'recurrent_activation'):
    if name in result:
      result[name] = _activation(result[name], version, f'{where}: {name}')
  return result


def summary(config: Mapping[str, Any]) -> str:
  """The settings that change what a layer computes: 'units=32 activation=tanh'."""
  shown = {name for names in _ARGUMENTS.values() for name in names} | _SHOWN
  return ' '.join(
    f'{name}={value}'
    for name, value in config.items()
    if name in shown
    and (isinstance(value, str | int | float) or name == 'merge_mode')
    and (value or name in _SHOWN_IF_FALSE)
  )


def _activation(activation: Any, version: str, where: str) -> Any:
  if activation is None:
    return 'linear'
  if activation == 'hard_sigmoid' and not version.startswith('3.'):
    return cells.hard_sigmoid_keras2
  if not isinstance(activation, str) or activation not in cells.ACTIVATIONS:
    raise InputError(
      f'{where} {str(activation)[:80]!r} is none of {", ".join(cells.ACTIVATIONS)}'
    )
  return activation


def _layers(config: Any, name: str, store: str, depth: int) -> Iterator[Described]:
  """The layers inside a model's or wrapper's configuration."""
  if depth > MAX_DEPTH:
    raise InputError(f'models in models, {depth} deep')
  if isinstance(config, list):  # Sequential, before Keras 2.2.3
    config = {'layers': config}
  used: dict[str, int] = {}
  for layer in config.get('layers', []):
    key = numbered(snake_case(layer['class_name']), used)
    inner = layer['config']
    given = layer.get('name') or (inner.get('name') if isinstance(inner, dict) else '')
    yield from _layer(
      layer, join(name, given or key), join(store, f'layers/{key}'), depth
    )


def _layer(
  layer: Mapping[str, Any], name: str, store: str, depth: int
) -> Iterator[Described]:
  class_name, config = layer['class_name'], layer['config']
  if _is_model(config):
    yield from _layers(config, name, store, depth + 1)
  elif class_name == 'Bidirectional':
    backward = config.get('backward_layer')
    inner = (config['layer'], backward or config['layer'])
    for direction, each in zip(DIRECTIONS, inner, strict=True):
      options = each['config']
      if _holds_layers(options):  # each such level would double the work
        raise InputError(f'{name!r}: a Bidirectional of a model or of a wrapper')
      options = options | {'merge_mode': config.get('merge_mode', 'concat')}
      if direction == DIRECTIONS[1] and not backward:  # Keras makes it of the first
        options['go_backwards'] = not options.get('go_backwards', False)
      each = each | {'config': options}
      yield from _layer(each, f'{name}/{direction}', f'{store}/{direction}', depth + 1)
  elif class_name == 'RNN':
    yield from _rnn(config, name, store)
  elif _holds_layers(config):  # TimeDistributed
    if depth > MAX_DEPTH:
      raise InputError(f'wrappers in wrappers, {depth} deep')
    yield from _layer(config['layer'], name, f'{store}/layer', depth + 1)
  elif class_name in RECURRENT:
    yield Described(name, class_name, config, f'{store}/cell')
  else:
    yield Described(name, class_name, config, store)


def _is_model(config: Any) -> bool:
  return isinstance(config, list) or isinstance(config.get('layers'), list)


def _holds_layers(config: Any) -> bool:
  return _is_model(config) or isinstance(config.get('layer'), dict)


def _rnn(config: Mapping[str, Any], name: str, store: str) -> Iterator[Described]:
  """The cells of an RNN, each with the options of a layer of its own."""
  cell = config['cell']
  options = {key: config[key] for key in (*_OF_RNN, 'merge_mode') if key in config}
  if cell['class_name'] != 'StackedRNNCells':
    yield _cell(cell, options, name, f'{store}/cell')
    return
  cells, used = cell['config']['cells'], dict[str, int]()
  for i, each in enumerate(cells):
    key = numbered(snake_case(each['class_name']), used)
    each_name = f'{name}/{each["config"].get("name", key)}'
    # The first turns the sequence round for all; the last alone may return less.
    mine = options | ({'go_backwards': False} if i else {})
    if i < len(cells) - 1:
      mine |= {'return_sequences': True, 'zero_output_for_mask': False}
    yield _cell(each, mine, each_name, f'{store}/cell/cells/{key}')


def _cell(
  cell: Mapping[str, Any], options: Mapping[str, Any], name: str, store: str
) -> Described:
  class_name = cell['class_name'].removesuffix('Cell')
  return Described(name, class_name, {**options, **cell['config']}, store)
