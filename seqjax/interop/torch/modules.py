"""PyTorch's modules, one at a time: which arrays they have, and in which layout."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from seqjax.interop import gates
from seqjax.interop.libraries import library
from seqjax.interop.weights import DIRECTIONS, join
from seqjax.types import InputError

Arrays = Mapping[str, Any]

_CELLS = {count: cell for cell, count in gates.GATES.items()}
_CELL_ARRAYS = ('weight_ih', 'weight_hh', 'bias_ih', 'bias_hh')
_RECURRENT = re.compile(r'(weight|bias)_(ih|hh|hr)(_l(\d+)(_reverse)?)?')
# Of other modules: what seqjax calls `weight`, and its axes; each its own inverse.
_LAYOUTS: dict[str, tuple[str, tuple[int, ...]]] = {
  'Linear': ('kernel', (1, 0)),
  'Conv1d': ('kernel', (2, 1, 0)),
  'Embedding': ('embedding', (0, 1)),
  'LayerNorm': ('scale', (0,)),
}


class Module(NamedTuple):
  """A part of a state_dict that is one layer of seqjax."""

  name: str  # 'net/rnn/l0/forward_layer'
  kind: str  # 'LSTM', 'GRU', 'SimpleRNN', 'Linear', 'Embedding', 'Conv1d', ... or ''
  prefix: str  # 'net.rnn.'
  suffix: str  # '_l0_reverse'
  arrays: dict[str, np.ndarray]  # without prefix and suffix: 'weight_ih'


def _converters(
  cell: str,
) -> tuple[Callable[..., dict[str, np.ndarray]], Callable[..., dict[str, np.ndarray]]]:
  def to_layer(
    state_dict: Arrays,
    layer: int | None = 0,
    direction: str = 'forward',
    prefix: str = '',
  ) -> dict[str, np.ndarray]:
    """Parameters of seqjax's layer from one layer and direction of torch's module.

    Args:
      state_dict: Tensors on the host, or arrays.
      layer: Its number; None for torch's cell, nn.LSTMCell and so on.
      direction: 'forward' or 'backward'.
      prefix: Name of the module in the state_dict: 'encoder.lstm'.

    Returns:
      kernel [D, G], recurrent_kernel [H, G] and, if there is one, bias: the sum [G] of
      torch's two; of a GRU, which has reset_after, both [2, 3H]. The nonlinearity of
      nn.RNN, tanh or relu, is not in the state_dict.

    Raises:
      ValueError: if the state_dict has no such layer, or it is another cell.
    """
    start, suffix = _affixes(layer, direction, prefix)
    values = {
      stem: as_array(name, state_dict[name])
      for stem in _CELL_ARRAYS
      if (name := start + stem + suffix) in state_dict
    }
    where = f'{start or "the module "}{suffix.lstrip("_") or "cell"}'
    if f'{start}weight_hr{suffix}' in state_dict:
      raise ValueError(f'{where} has projections (proj_size), which have no equal here')
    for stem in _CELL_ARRAYS[:2]:
      if stem not in values:
        raise ValueError(
          f'the state_dict has no {start}{stem}{suffix}: {", ".join(state_dict)}'
        )
    return _to_layer(cell, values, where)

  def from_layer(
    params: Arrays, layer: int | None = 0, direction: str = 'forward', prefix: str = ''
  ) -> dict[str, np.ndarray]:
    """The part of a torch module's state_dict for one layer and direction.

    Args:
      params: kernel, recurrent_kernel and, if there is one, bias.
      layer: Its number; None for torch's cell, nn.LSTMCell and so on.
      direction: 'forward' or 'backward'.
      prefix: Name of the module in the state_dict.

    Returns:
      Arrays: weight_ih [G, D], weight_hh [G, H], bias_ih, and bias_hh: of zeros, or of
      a GRU the bias's second row.

    Raises:
      ValueError: if params are not those of such a layer, or of a GRU without
        reset_after, which torch does not have.
    """
    start, suffix = _affixes(layer, direction, prefix)
    return from_params(Module('', cell, start, suffix, {}), params)

  return to_layer, from_layer


to_lstm, from_lstm = _converters('LSTM')
to_gru, from_gru = _converters('GRU')
to_simple_rnn, from_simple_rnn = _converters('SimpleRNN')


def split(arrays: Arrays, source: str, linear: set[str]) -> dict[str, Module]:
  """The layers of a state_dict, in its order, by names with '/' for '.'.

  Args:
    arrays: The state_dict.
    source: What to call it.
    linear: Names of modules with one matrix that are Linear, not Embedding.

  Raises:
    InputError: if an LSTM has projections, which no other library has.
  """
  groups: dict[tuple[str, str], dict[str, np.ndarray]] = {}
  for key, value in arrays.items():
    prefix, dot, variable = key.rpartition('.')
    recurrent = _RECURRENT.fullmatch(variable)
    suffix = (recurrent[3] or '') if recurrent else ''
    if recurrent and recurrent[2] == 'hr':
      raise InputError(f'{source}: {key!r}: an LSTM with proj_size has no equal here')
    own = groups.setdefault((prefix + dot, suffix), {})
    own[variable.removesuffix(suffix)] = np.asarray(value)
  both = {prefix for prefix, suffix in groups if suffix.endswith('_reverse')}
  modules = {}
  for (prefix, suffix), own in groups.items():
    name = prefix.rstrip('.').replace('.', '/')
    if suffix:
      number = suffix.removesuffix('_reverse').removeprefix('_')
      direction = DIRECTIONS[suffix.endswith('_reverse')] if prefix in both else ''
      name = join(name, number, direction)
    modules[name] = Module(name, _kind(own, name in linear), prefix, suffix, own)
  return modules


def to_params(module: Module, source: str) -> dict[str, np.ndarray]:
  """A module's arrays with seqjax's names and layout; unchanged if its kind is ''.

  An InputError names it and `source` if it has not all arrays of its kind.
  """
  if module.kind in gates.GATES:
    where = f'layer {module.name!r} of {source}'
    return _to_layer(module.kind, module.arrays, where)
  if module.kind not in _LAYOUTS:
    return module.arrays
  name, axes = _LAYOUTS[module.kind]
  params = {name: module.arrays['weight'].transpose(axes)}
  return params | {k: v for k, v in module.arrays.items() if k != 'weight'}


def from_params(module: Module, params: Arrays) -> dict[str, np.ndarray]:
  """The inverse of `to_params`: arrays by their full names in the state_dict."""
  if module.kind in gates.GATES:
    kernel, recurrent_kernel, bias = gates.part(module.kind, params, 'torch')
    values = [kernel, recurrent_kernel, *([] if bias is None else bias)]
    ordered = map(_order(module.kind), values)
    arrays = {k: v.T for k, v in zip(_CELL_ARRAYS, ordered, strict=False)}
  elif module.kind in _LAYOUTS:
    name, axes = _LAYOUTS[module.kind]
    arrays = {'weight': np.transpose(params[name], axes)}
    arrays |= {k: v for k, v in params.items() if k != name}
  else:
    arrays = dict(params)
  return {
    f'{module.prefix}{key}{module.suffix}': np.ascontiguousarray(value)
    for key, value in arrays.items()
  }


def as_array(name: str, value: Any) -> np.ndarray:
  """A torch tensor, or what NumPy takes, as an array."""
  if not hasattr(value, 'detach'):
    return np.asarray(value)
  try:
    value = value.detach().cpu()
    if str(value.dtype) == 'torch.bfloat16':
      torch = library('torch')
      bits = value.contiguous().view(torch.int16).numpy()
      return bits.view(jnp.bfloat16)
    return value.numpy()
  except (TypeError, RuntimeError, NotImplementedError) as error:  # sparse, quantised
    why = str(error).split('\n', 1)[0]
    raise InputError(f'{name!r} of the state_dict is no plain array: {why}') from None


def _kind(arrays: Arrays, linear: bool) -> str:
  if {'weight_ih', 'weight_hh'} <= set(arrays):
    shape = arrays['weight_hh'].shape
    gate_count = shape[0] // shape[1] if len(shape) == 2 and shape[1] else 0
    return _CELLS.get(gate_count, '')
  if not {'weight'} <= set(arrays) <= {'weight', 'bias'}:
    return ''
  rank = arrays['weight'].ndim
  if rank == 2 and 'bias' not in arrays and not linear:
    return 'Embedding'
  return {1: 'LayerNorm', 2: 'Linear', 3: 'Conv1d'}.get(rank, '')


def _to_layer(cell: str, values: Arrays, where: str) -> dict[str, np.ndarray]:
  kernels = {name: np.transpose(values[name]) for name in _CELL_ARRAYS[:2]}
  biases = [values[name] for name in _CELL_ARRAYS[2:] if name in values]
  return gates.join(cell, kernels, biases, where, _order(cell))


def _order(cell: str) -> Callable[[Any], np.ndarray]:
  return gates.swap if cell == 'GRU' else np.asarray


def _affixes(layer: int | None, direction: str, prefix: str) -> tuple[str, str]:
  """'encoder.' and '_l0_reverse': what stands before and after a name."""
  if direction not in ('forward', 'backward'):
    raise ValueError(f"direction must be 'forward' or 'backward', got {direction!r}")
  suffix = '' if layer is None else f'_l{layer}'
  if layer is not None and direction == 'backward':
    suffix += '_reverse'
  return prefix and prefix.rstrip('.') + '.', suffix
