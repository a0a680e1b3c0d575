"""PyTorch's modules, one at a time: which arrays they have, and in which layout."""

import importlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from seqjax.interop import gates
from seqjax.types import InputError

Arrays = Mapping[str, Any]

_CELLS = {count: cell for cell, count in gates.GATES.items()}
_RECURRENT = re.compile(r'(weight|bias)_(ih|hh|hr)(_l(\d+)(_reverse)?)?')


class Module(NamedTuple):
  """A part of a state_dict that is one layer of seqjax."""

  name: str  # 'net/rnn/l0/forward_layer'
  kind: str  # 'LSTM', 'GRU', 'SimpleRNN', 'Linear', 'Embedding', 'Conv1d', ...
  prefix: str  # 'net.rnn.'
  suffix: str  # '_l0_reverse'
  keys: tuple[str, ...]  # without prefix and suffix: 'weight_ih'


def to_lstm(
  state_dict: Arrays,
  layer: int | None = 0,
  direction: str = 'forward',
  prefix: str = '',
) -> dict[str, np.ndarray]:
  """Parameters of an LSTM from those of torch.nn.LSTM: one layer, one direction.

  Args:
    state_dict: Tensors on the host, or arrays.
    layer: Its number; None for torch.nn.LSTMCell.
    direction: 'forward' or 'backward'.
    prefix: Name of the module in the state_dict: 'encoder.lstm'.

  Returns:
    kernel [D, 4H], recurrent_kernel [H, 4H] and, if there is one, bias [4H], the sum of
    torch's two.

  Raises:
    ValueError: if the state_dict has no such layer, or it is another cell.
  """
  return _to_cell('LSTM', state_dict, layer, direction, prefix)


def to_gru(
  state_dict: Arrays,
  layer: int | None = 0,
  direction: str = 'forward',
  prefix: str = '',
) -> dict[str, np.ndarray]:
  """As `to_lstm`, for a GRU with reset_after: kernels [D or H, 3H], bias [2, 3H]."""
  return _to_cell('GRU', state_dict, layer, direction, prefix)


def to_simple_rnn(
  state_dict: Arrays,
  layer: int | None = 0,
  direction: str = 'forward',
  prefix: str = '',
) -> dict[str, np.ndarray]:
  """Parameters of a SimpleRNN from torch.nn.RNN; as `to_lstm`.

  torch's nonlinearity, tanh or relu, is not in the state_dict.
  """
  return _to_cell('SimpleRNN', state_dict, layer, direction, prefix)


def from_lstm(
  params: Arrays, layer: int | None = 0, direction: str = 'forward', prefix: str = ''
) -> dict[str, np.ndarray]:
  """The part of a torch.nn.LSTM's state_dict for one layer and direction.

  Args:
    params: kernel, recurrent_kernel and, if there is one, bias.
    layer: Its number; None for torch.nn.LSTMCell.
    direction: 'forward' or 'backward'.
    prefix: Name of the module in the state_dict.

  Returns:
    Arrays: weight_ih [4H, D], weight_hh [4H, H], bias_ih, and bias_hh of zeros.

  Raises:
    ValueError: if params are not those of an LSTM.
  """
  return _from_cell('LSTM', params, prefix, _suffix(layer, direction))


def from_gru(
  params: Arrays, layer: int | None = 0, direction: str = 'forward', prefix: str = ''
) -> dict[str, np.ndarray]:
  """The same for torch.nn.GRU, which has both rows of the bias.

  Raises:
    ValueError: if params are not those of a GRU, or of one without reset_after, which
      torch does not have.
  """
  return _from_cell('GRU', params, prefix, _suffix(layer, direction))


def from_simple_rnn(
  params: Arrays, layer: int | None = 0, direction: str = 'forward', prefix: str = ''
) -> dict[str, np.ndarray]:
  """The same for torch.nn.RNN."""
  return _from_cell('SimpleRNN', params, prefix, _suffix(layer, direction))


def split(arrays: Arrays, source: str, linear: set[str]) -> dict[str, Module]:
  """The layers of a state_dict, in its order, by names with '/' for '.'.

  Args:
    arrays: The state_dict.
    source: What to call it.
    linear: Names of modules with one matrix that are Linear, not Embedding.

  Raises:
    InputError: if an LSTM has projections, which no other library has.
  """
  grouped: dict[tuple[str, str], list[str]] = {}
  for key in arrays:
    prefix, dot, variable = key.rpartition('.')
    recurrent = _RECURRENT.fullmatch(variable)
    suffix = (recurrent[3] or '') if recurrent else ''
    if recurrent and recurrent[2] == 'hr':
      raise InputError(f'{source}: {key!r}: an LSTM with proj_size has no equal here')
    stem = variable.removesuffix(suffix) if suffix else variable
    grouped.setdefault((prefix + dot, suffix), []).append(stem)
  both = {prefix for prefix, suffix in grouped if suffix.endswith('_reverse')}
  modules = {}
  for (prefix, suffix), keys in grouped.items():
    name = prefix.rstrip('.').replace('.', '/')
    if suffix:
      layer = suffix.removesuffix('_reverse').removeprefix('_')
      direction = 'backward_layer' if suffix.endswith('_reverse') else 'forward_layer'
      name = '/'.join(filter(None, (name, layer, direction if prefix in both else '')))
    kind = _kind(arrays, prefix, suffix, keys, name in linear)
    modules[name] = Module(name, kind, prefix, suffix, tuple(keys))
  return modules


def to_layer(module: Module, arrays: Arrays, source: str) -> dict[str, np.ndarray]:
  """A module's arrays with seqjax's names and layout; unchanged if its kind is ''.

  An InputError names it and `source` if it has not all arrays of its kind.
  """
  values = {
    key: np.asarray(arrays[module.prefix + key + module.suffix]) for key in module.keys
  }
  if module.kind in gates.GATES:
    return _converted(module.kind, values, f'layer {module.name!r} of {source}')
  if module.kind not in _NAMES:
    return values
  axes = {'Linear': (1, 0), 'Conv1d': (2, 1, 0)}.get(module.kind)
  weight = values['weight'] if axes is None else values['weight'].transpose(axes)
  return {_NAMES[module.kind]: weight} | {
    k: values[k] for k in ('bias',) if k in values
  }


def from_layer(module: Module, layer: Arrays) -> dict[str, np.ndarray]:
  """The inverse of `to_layer`: arrays by their full names in the state_dict."""
  if module.kind in gates.GATES:
    return _from_cell(module.kind, layer, module.prefix, module.suffix)
  if module.kind not in _NAMES:
    return {module.prefix + key: np.asarray(value) for key, value in layer.items()}
  axes = {'Linear': (1, 0), 'Conv1d': (2, 1, 0)}.get(module.kind)
  weight = np.asarray(layer[_NAMES[module.kind]])
  new = {'weight': weight if axes is None else weight.transpose(axes)}
  new |= {key: np.asarray(layer[key]) for key in ('bias',) if key in layer}
  return {module.prefix + key: np.ascontiguousarray(v) for key, v in new.items()}


_NAMES = {
  'Linear': 'kernel',
  'Conv1d': 'kernel',
  'Embedding': 'embedding',
  'LayerNorm': 'scale',
}


def as_array(name: str, value: Any) -> np.ndarray:
  """A torch tensor, or what NumPy takes, as an array."""
  if not hasattr(value, 'detach'):
    return np.asarray(value)
  try:
    value = value.detach().cpu()
    if str(value.dtype) == 'torch.bfloat16':
      torch = import_torch()
      bits = value.contiguous().view(torch.int16).numpy()
      return bits.view(jnp.bfloat16)
    return value.numpy()
  except (TypeError, RuntimeError, NotImplementedError) as error:  # sparse, quantised
    why = str(error).split('\n', 1)[0]
    raise InputError(f'{name!r} of the state_dict is no plain array: {why}') from None


def import_torch() -> Any:
  try:
    return importlib.import_module('torch')
  except ImportError:
    raise ImportError(
      'a .pt file or tensors need PyTorch: pip install torch (a .safetensors file does '
      'without)'
    ) from None


def _kind(
  arrays: Arrays, prefix: str, suffix: str, keys: Sequence[str], linear: bool
) -> str:
  if {'weight_ih', 'weight_hh'} <= set(keys):
    shape = np.shape(arrays[f'{prefix}weight_hh{suffix}'])
    gate_count = shape[0] // shape[1] if len(shape) == 2 and shape[1] else 0
    return _CELLS.get(gate_count, '')
  if not {'weight'} <= set(keys) <= {'weight', 'bias'}:
    return ''
  rank = np.ndim(arrays[f'{prefix}weight'])
  if rank == 2 and 'bias' not in keys and not linear:
    return 'Embedding'
  return {1: 'LayerNorm', 2: 'Linear', 3: 'Conv1d'}.get(rank, '')


def _to_cell(
  cell: str, state_dict: Arrays, layer: int | None, direction: str, prefix: str
) -> dict[str, np.ndarray]:
  suffix = _suffix(layer, direction)
  start = prefix and prefix.rstrip('.') + '.'
  stems = ('weight_ih', 'weight_hh', 'bias_ih', 'bias_hh')
  values = {
    stem: as_array(start + stem + suffix, state_dict[start + stem + suffix])
    for stem in stems
    if start + stem + suffix in state_dict
  }
  where = f'{start or "the module "}{suffix.lstrip("_") or "cell"}'
  if f'{start}weight_hr{suffix}' in state_dict:
    raise ValueError(f'{where} has projections (proj_size), which have no equal here')
  if len(values) < 2:
    raise ValueError(
      f'the state_dict has no {start}weight_ih{suffix}: {", ".join(state_dict)}'
    )
  return _converted(cell, values, where)


def _converted(cell: str, values: Arrays, where: str) -> dict[str, np.ndarray]:
  turned = {k: v.T if v.ndim == 2 else v for k, v in values.items()}
  _, H = gates.checked(turned, ('weight_ih', 'weight_hh'), cell, where)
  biases = [values[name] for name in ('bias_ih', 'bias_hh') if name in values]
  shape = (gates.GATES[cell] * H,)
  if len(biases) == 1 or any(bias.shape != shape for bias in biases):
    raise InputError(f'{where} needs bias_ih and bias_hh {shape}, or none of them')
  kernel, recurrent_kernel = turned['weight_ih'], turned['weight_hh']
  if cell == 'GRU':
    kernel, recurrent_kernel = map(gates.swap_gates, (kernel, recurrent_kernel))
  params = {
    'kernel': np.ascontiguousarray(kernel),
    'recurrent_kernel': np.ascontiguousarray(recurrent_kernel),
  }
  if biases:
    params['bias'] = (
      gates.swap_gates(np.stack(biases)) if cell == 'GRU' else biases[0] + biases[1]
    )
  return params


def _from_cell(
  cell: str, params: Arrays, prefix: str, suffix: str
) -> dict[str, np.ndarray]:
  _, H = gates.checked(dict(params), ('kernel', 'recurrent_kernel'), cell, 'params')
  order = gates.swap_gates if cell == 'GRU' else np.asarray
  found = {
    'weight_ih': order(params['kernel']).T,
    'weight_hh': order(params['recurrent_kernel']).T,
  }
  if 'bias' in params:
    bias = np.asarray(params['bias'])
    G = gates.GATES[cell] * H
    wanted = (2, G) if cell == 'GRU' else (G,)
    if bias.shape != wanted:
      hint = ': torch has no GRU without reset_after' if bias.shape == (G,) else ''
      raise ValueError(f'params: bias must be {wanted}, got {bias.shape}{hint}')
    rows = order(bias) if cell == 'GRU' else (bias, np.zeros_like(bias))
    found |= {'bias_ih': rows[0], 'bias_hh': rows[1]}
  start = prefix and prefix.rstrip('.') + '.'
  return {f'{start}{k}{suffix}': np.ascontiguousarray(v) for k, v in found.items()}


def _suffix(layer: int | None, direction: str) -> str:
  if direction not in ('forward', 'backward'):
    raise ValueError(f"direction must be 'forward' or 'backward', got {direction!r}")
  if layer is None:
    return ''
  return f'_l{layer}' + ('_reverse' if direction == 'backward' else '')
