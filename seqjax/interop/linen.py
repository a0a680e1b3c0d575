"""Weights from flax.linen's own cells and back.

LSTMCell and OptimizedLSTMCell, GRUCell and SimpleCell, alone, in nn.RNN and in
nn.Bidirectional. linen's GRUCell has three of a GRU's four biases: on the way there the
two of z, and the two of r, are added up.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from seqjax.interop import gates, matching
from seqjax.interop.trees import cast, layers_of, replaced
from seqjax.interop.weights import DIRECTIONS, LossyWarning
from seqjax.types import InputError, PyTree

Params = Mapping[str, Any]

# linen's gates in seqjax's order.
_GATES = {'LSTM': 'ifgo', 'GRU': 'zrn', 'SimpleRNN': ('',)}
_RNNS = {'forward_rnn': DIRECTIONS[0], 'backward_rnn': DIRECTIONS[1]}
_SOURCE = "linen's parameters"


def load_into(
  params: PyTree,
  linen_params: PyTree,
  mapping: Mapping[str, str] | None = None,
  *,
  allow_unused: bool = False,
) -> dict[str, Any]:
  """Parameters of a model with the values of one that uses linen's cells; all or none.

  Layers are matched by kind, then by shapes, then by the numbers in their names.

  Args:
    params: variables['params'] of the model, or their shapes (jax.eval_shape).
    linen_params: variables['params'] of the other.
    mapping: {path in `params`: path in `linen_params`}, each of a layer or of what
      contains layers. Only these are loaded.
    allow_unused: `linen_params` may have layers that the model has not.

  Returns:
    New params, in the dtypes of the old.

  Raises:
    InputError: if they do not fit; the message names both layers and shapes.
  """
  layers, _ = _split(linen_params)
  return matching.fill(
    params,
    layers,
    source=_SOURCE,
    mapping=mapping,
    allow_unused=allow_unused,
    family=str,
  )


def from_params(
  params: PyTree, like: PyTree, mapping: Mapping[str, str] | None = None
) -> dict[str, Any]:
  """Parameters for a model of linen's cells; the inverse of `load_into`.

  Args:
    params: variables['params'] of a model of seqjax's layers.
    like: Those of the model of linen's cells: names, shapes and dtypes.
    mapping: As in `load_into`. What it leaves out stays as it is in `like`.

  Raises:
    InputError: if they do not fit; the message names both layers and shapes.

  Warns:
    LossyWarning: as `from_gru`.
  """
  leaves = layers_of(params)
  layers, cells = _split(like)
  pairs = matching.pair(leaves, layers, source=_SOURCE, mapping=mapping, family=str)
  values = cast(
    [
      (name, layers[name], f'{path!r} of the parameters', leaves[path])
      for path, name in pairs
    ]
  )
  filled: dict[str, Mapping[str, Any]] = {}
  for name, layer in values.items():
    path, cell = cells[name]
    if cell:
      for part, value in _FROM[cell](layer).items():
        filled['/'.join(filter(None, (path, part)))] = value
    else:
      filled[path] = layer
  return replaced(like, filled)


def to_lstm(params: Params) -> dict[str, np.ndarray]:
  """Parameters of an LSTM from those of nn.LSTMCell or nn.OptimizedLSTMCell.

  Args:
    params: {'ii': {'kernel'}, ..., 'hi': {'kernel', 'bias'}, ...}.

  Returns:
    kernel [D, 4H], recurrent_kernel [H, 4H], bias [4H].

  Raises:
    ValueError: if they are not those of such a cell.
  """
  return _fused('LSTM', params)


def to_gru(params: Params) -> dict[str, np.ndarray]:
  """Parameters of a GRU with reset_after from those of nn.GRUCell; nothing is lost.

  Returns:
    kernel [D, 3H], recurrent_kernel [H, 3H], bias [2, 3H]; z's and r's recurrent biases
    are 0.

  Raises:
    ValueError: if they are not those of such a cell.
  """
  return _fused('GRU', params)


def to_simple_rnn(params: Params) -> dict[str, np.ndarray]:
  """Parameters of a SimpleRNN from those of nn.SimpleCell, as `to_lstm`."""
  return _fused('SimpleRNN', params)


def from_lstm(params: Params) -> dict[str, dict[str, np.ndarray]]:
  """Parameters of nn.LSTMCell from those of an LSTM; without bias they get zeros.

  Raises:
    ValueError: if params are not those of an LSTM.
  """
  kernels, bias = _parts('LSTM', params, (4,))
  for gate, value in zip(_GATES['LSTM'], bias, strict=True):
    kernels[f'h{gate}']['bias'] = value
  return kernels


def from_gru(params: Params) -> dict[str, dict[str, np.ndarray]]:
  """Parameters of nn.GRUCell from those of a GRU with reset_after.

  The function stays the same. Training goes on differently: a pair of biases that were
  added is then one.

  Raises:
    ValueError: if params are not those of a GRU, or of one without reset_after, which
      linen does not have.

  Warns:
    LossyWarning: if the recurrent biases of z and r are not 0.
  """
  kernels, bias = _parts('GRU', params, (2, 3))
  H = bias.shape[-1]
  z, r, n = bias.reshape(2, 3, H).transpose(1, 0, 2)
  if z[1].any() or r[1].any():
    warnings.warn(
      "linen's GRUCell has one bias for z and one for r: the sums of the input's and "
      'the recurrent bias replace them (the function stays the same)',
      LossyWarning,
      stacklevel=2,
    )
  kernels['iz']['bias'], kernels['ir']['bias'] = z[0] + z[1], r[0] + r[1]
  kernels['in']['bias'], kernels['hn']['bias'] = n
  return kernels


def from_simple_rnn(params: Params) -> dict[str, dict[str, np.ndarray]]:
  """Parameters of nn.SimpleCell from those of a SimpleRNN, as `from_lstm`."""
  kernels, bias = _parts('SimpleRNN', params, (1,))
  kernels['i']['bias'] = bias[0]
  return kernels


_FROM = {'LSTM': from_lstm, 'GRU': from_gru, 'SimpleRNN': from_simple_rnn}


def _fused(
  cell: str, params: Params, where: str = "linen's cell"
) -> dict[str, np.ndarray]:
  names = [[f'{side}{gate}' for gate in _GATES[cell]] for side in 'ih']
  absent = [n for n in names[0] + names[1] if 'kernel' not in params.get(n, {})]
  if absent:
    raise InputError(f'no parameters of a linen {cell} cell: no kernel of {absent}')
  both = [
    np.concatenate([np.asarray(params[n]['kernel']) for n in side], -1)
    for side in names
  ]
  fused = dict(zip(('kernel', 'recurrent_kernel'), both, strict=True))
  _, H = gates.checked(fused, tuple(fused), cell, where)
  zeros = np.zeros(H, fused['kernel'].dtype)
  rows = [
    np.concatenate([np.asarray(params[n].get('bias', zeros)) for n in side])
    for side in names
  ]
  if rows[0].shape != fused['kernel'].shape[1:] or rows[1].shape != rows[0].shape:
    raise InputError(f'{where}: biases must be ({H},)')
  fused['bias'] = np.stack(rows) if cell == 'GRU' else rows[0] + rows[1]
  return fused


def _parts(
  cell: str, params: Params, bias_parts: tuple[int, ...]
) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray]:
  """Kernels by gate, and the bias [*bias_parts, H]."""
  _, H = gates.checked(dict(params), ('kernel', 'recurrent_kernel'), cell, 'params')
  kernels = {}
  for side, name in (('i', 'kernel'), ('h', 'recurrent_kernel')):
    blocks = np.split(np.asarray(params[name]), len(_GATES[cell]), axis=-1)
    for gate, block in zip(_GATES[cell], blocks, strict=True):
      kernels[f'{side}{gate}'] = {'kernel': block}
  shape = (*bias_parts[:-1], bias_parts[-1] * H)
  bias = np.asarray(
    params.get('bias', np.zeros(shape, kernels[f'i{gate}']['kernel'].dtype))
  )
  if bias.shape != shape:
    hint = ': linen has no GRU without reset_after' if bias.shape == shape[1:] else ''
    raise ValueError(f'params: bias must be {shape}, got {bias.shape}{hint}')
  return kernels, bias.reshape(*bias_parts, H)


def _split(
  params: PyTree,
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, tuple[str, str]]]:
  """Layers by name in seqjax's layout; each name's path, and cell or ''."""
  layers: dict[str, dict[str, np.ndarray]] = {}
  places: dict[str, tuple[str, str]] = {}

  def visit(tree: Params, path: tuple[str, ...]) -> None:
    cell = _cell_of(tree)
    names = [_RNNS.get(part, part) for part in path]
    if cell:
      name = '/'.join(names[:-1] if names[-1:] == ['cell'] else names)
      layers[name] = _fused(cell, tree, f'layer {name!r} of {_SOURCE}')
      places[name] = '/'.join(path), cell
      return
    own = {k: v for k, v in tree.items() if not isinstance(v, Mapping)}
    if own:
      name = '/'.join(names)
      layers[name], places[name] = own, ('/'.join(path), '')
    for key, value in tree.items():
      if isinstance(value, Mapping):
        visit(value, (*path, key))

  layers_of(params)  # refuses what is no nested dict of arrays
  visit(params, ())
  return layers, places


def _cell_of(tree: Params) -> str:
  for cell, names in _GATES.items():
    parts = {f'{side}{gate}' for side in 'ih' for gate in names}
    if set(tree) == parts and all(
      isinstance(v, Mapping) and 'kernel' in v for v in tree.values()
    ):
      return cell
  return ''
