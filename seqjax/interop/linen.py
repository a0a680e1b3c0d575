"""Weights from flax.linen's own cells and back.

LSTMCell and OptimizedLSTMCell, GRUCell and SimpleCell, alone, in nn.RNN and in
nn.Bidirectional. linen's GRUCell has three of a GRU's four biases: on the way there the
two of z, and the two of r, are added up.

  >>> from seqjax.interop import linen
  >>> x, model = jnp.ones((2, 5, 3)), sj.GRU(4, return_sequences=True)
  >>> theirs = nn.RNN(nn.GRUCell(4)).init(jax.random.key(0), x)['params']
  >>> params = {'gru': model.init(jax.random.key(1), x, train=False)['params']}
  >>> linen.load_into(params, theirs)['gru']['kernel'].shape
  (3, 12)
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from seqjax.interop import gates, transfer
from seqjax.interop.weights import DIRECTIONS, LossyWarning, join
from seqjax.types import InputError, PyTree

Params = Mapping[str, Any]

# Of each cell: linen's gates in seqjax's order, and the parts that have a bias.
_CELLS = {
  'LSTM': ('ifgo', {'hi', 'hf', 'hg', 'ho'}),
  'GRU': ('zrn', {'iz', 'ir', 'in', 'hn'}),
  'SimpleRNN': (('',), {'i'}),
}
_RNNS = {'forward_rnn': DIRECTIONS[0], 'backward_rnn': DIRECTIONS[1]}
_SOURCE = "linen's parameters"


class _Layer(NamedTuple):
  path: str
  cell: str  # '' for what is no cell
  params: Mapping[str, Any]  # in seqjax's layout


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
  return transfer.fill(params, _source(_read(linen_params)), mapping, allow_unused)


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
  layers = _read(like)
  filled: dict[str, Mapping[str, Any]] = {}
  for name, values in transfer.values_of(params, _source(layers), mapping).items():
    path, cell, _ = layers[name]
    parts = _from_cell(cell, values) if cell else {'': values}
    filled |= {join(path, part): value for part, value in parts.items()}
  return transfer.replaced(like, filled)


def _converters(
  cell: str,
) -> tuple[
  Callable[[Params], dict[str, np.ndarray]],
  Callable[[Params], dict[str, dict[str, np.ndarray]]],
]:
  def to_layer(params: Params) -> dict[str, np.ndarray]:
    """Parameters of seqjax's layer from those of linen's cell; nothing is lost.

    Args:
      params: Of nn.LSTMCell or nn.OptimizedLSTMCell {'ii': {'kernel'}, ..., 'hi':
        {'kernel', 'bias'}, ...}; or of nn.GRUCell, or of nn.SimpleCell.

    Returns:
      kernel [D, G], recurrent_kernel [H, G], bias [G]; of a GRU, which has reset_after,
      bias [2, 3H], where z's and r's recurrent biases are 0.

    Raises:
      ValueError: if they are not those of such a cell.
    """
    return _to_layer(cell, params)

  def from_layer(params: Params) -> dict[str, dict[str, np.ndarray]]:
    """Parameters of linen's cell from those of seqjax's layer; no bias gives zeros.

    The function stays the same. Training a GRU goes on differently: a pair of biases
    that were added is then one.

    Raises:
      ValueError: if params are not those of such a layer, or of a GRU without
        reset_after, which linen does not have.

    Warns:
      LossyWarning: if the recurrent biases of a GRU's z and r are not 0.
    """
    return _from_cell(cell, params)

  return to_layer, from_layer


to_lstm, from_lstm = _converters('LSTM')
to_gru, from_gru = _converters('GRU')
to_simple_rnn, from_simple_rnn = _converters('SimpleRNN')


def _to_layer(
  cell: str, params: Params, where: str = "linen's cell"
) -> dict[str, np.ndarray]:
  sides = [[f'{side}{gate}' for gate in _CELLS[cell][0]] for side in 'ih']
  absent = [n for n in sides[0] + sides[1] if 'kernel' not in params.get(n, {})]
  if absent:
    raise InputError(f'no parameters of a linen {cell} cell: no kernel of {absent}')
  kernel, recurrent_kernel = (
    np.concatenate([np.asarray(params[part]['kernel']) for part in side], -1)
    for side in sides
  )
  zeros = np.zeros(len(recurrent_kernel), kernel.dtype)
  biases = [
    [np.asarray(params[part].get('bias', zeros)) for part in side] for side in sides
  ]
  if any(bias.shape != zeros.shape for side in biases for bias in side):
    raise InputError(f'{where}: biases must be {zeros.shape}')
  kernels = {'kernel': kernel, 'recurrent_kernel': recurrent_kernel}
  return gates.join(cell, kernels, list(map(np.concatenate, biases)), where)


def _from_cell(cell: str, params: Params) -> dict[str, dict[str, np.ndarray]]:
  kernel, recurrent_kernel, bias = gates.part(cell, params, 'linen')
  names, biased = _CELLS[cell]
  if bias is None:
    bias = np.zeros((2, kernel.shape[1]), kernel.dtype)
  blocks = [np.split(each, len(names), -1) for each in (kernel, recurrent_kernel, bias)]
  parts: dict[str, dict[str, np.ndarray]] = {}
  lossy = False
  for gate, block, recurrent_block, pair in zip(names, *blocks, strict=True):
    i, h = f'i{gate}', f'h{gate}'
    parts |= {i: {'kernel': block}, h: {'kernel': recurrent_block}}
    if {i, h} <= biased:
      parts[i]['bias'], parts[h]['bias'] = pair
    else:
      parts[i if i in biased else h]['bias'] = pair.sum(0, dtype=pair.dtype)
      lossy |= bool(pair[1].any())
  if lossy:
    warnings.warn(
      "linen's GRUCell has one bias for z and one for r: the sums of the input's and "
      'the recurrent bias replace them (the function stays the same)',
      LossyWarning,
      stacklevel=3,
    )
  return parts


def _source(layers: Mapping[str, _Layer]) -> transfer.Source:
  return transfer.Source(_SOURCE, {n: layer.params for n, layer in layers.items()})


def _read(params: PyTree) -> dict[str, _Layer]:
  """Layers by name, which says nothing of nn.RNN and its cell."""
  groups: dict[str, dict[str, Any]] = {}
  for path, leaf in transfer.layers_of(params).items():
    outer, _, own = path.rpartition('/')
    groups.setdefault(outer, {})[own] = leaf
  layers = {}
  for outer, parts in groups.items():
    name = '/'.join(_RNNS.get(part, part) for part in outer.split('/'))
    cell = _cell_of(parts)
    if cell:
      name = '' if name == 'cell' else name.removesuffix('/cell')
      values = _to_layer(cell, parts, f'layer {name!r} of {_SOURCE}')
      layers[name] = _Layer(outer, cell, values)
    else:
      for own, leaf in parts.items():
        layers[join(name, own)] = _Layer(join(outer, own), '', leaf)
  return layers


def _cell_of(parts: Params) -> str:
  for cell, (names, _) in _CELLS.items():
    expected = {f'{side}{gate}' for side in 'ih' for gate in names}
    if set(parts) == expected and all('kernel' in part for part in parts.values()):
      return cell
  return ''
