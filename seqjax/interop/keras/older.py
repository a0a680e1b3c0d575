"""Layouts of layers that Keras no longer has, and of seqjax's names in all of Keras's.

CuDNNLSTM and CuDNNGRU of Keras 2: where a kernel has a gate's [D, H] lies a row-major
[H, D], and the bias [2G] is the input's and the recurrent one, behind one another.
Layers of Keras 1: W_i, U_i, b_i and so on, an array for each gate, or W, U, b of all
gates; an Embedding and a Dense have W and b.

Sources: what `build` of CuDNNLSTM in Keras 2.2 and of LSTM in Keras 1.2 make; the tests
compare with PyTorch, whose layout is cuDNN's own.
"""

import re
from collections.abc import Mapping

import numpy as np

from seqjax.interop.gates import GATES
from seqjax.interop.keras import configs
from seqjax.interop.weights import Layer, Weights

CUDNN = {4: 'CuDNNLSTM', 3: 'CuDNNGRU'}
_KERAS_1 = re.compile(r'(?:.*_)?([WUb])(?:_([ifcozrh]))?')
_NAMES = {'W': 'kernel', 'U': 'recurrent_kernel', 'b': 'bias'}


def to_params(weights: Weights, name: str) -> dict[str, np.ndarray]:
  """The variables of a layer in seqjax's names and layout."""
  layer = weights[name]
  if gates := _cudnn_gates(layer):
    return _from_cudnn(layer, gates)
  if parts := _keras_1_parts(weights, name):
    return {ours: _joined(layer, own) for ours, own in parts.items()}
  return {_ours(layer, variable): value for variable, value in layer.items()}


def from_params(
  weights: Weights, name: str, params: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """The inverse: variables by the names that the layer gives them."""
  layer = weights[name]
  if gates := _cudnn_gates(layer):
    return _to_cudnn(params, gates)
  if parts := _keras_1_parts(weights, name):
    split: dict[str, np.ndarray] = {}
    for ours, own in parts.items():
      pieces = np.split(np.asarray(params[ours]), len(own), -1)
      split |= dict(zip(own, pieces, strict=True))
    return {variable: split[variable] for variable in layer}
  return {variable: params[_ours(layer, variable)] for variable in layer}


def class_by_shapes(layer: Mapping[str, np.ndarray]) -> str:
  """'CuDNNLSTM' or 'CuDNNGRU' if it is one by its shapes; else ''."""
  return CUDNN.get(_cudnn_gates(layer), '')


def _ours(layer: Mapping[str, np.ndarray], variable: str) -> str:
  """seqjax's name of a variable of Keras 2 and 3."""
  return variable if 'moving_mean' in layer else configs.OURS.get(variable, variable)


def _cudnn_gates(layer: Mapping[str, np.ndarray]) -> int:
  """4 of a CuDNNLSTM, 3 of a CuDNNGRU; 0 of others, whose bias has no 2G entries."""
  if set(layer) != {'kernel', 'recurrent_kernel', 'bias'}:
    return 0
  shapes = [layer[n].shape for n in ('kernel', 'recurrent_kernel', 'bias')]
  for gates in CUDNN:
    H = shapes[2][0] // (2 * gates) if len(shapes[2]) == 1 else 0
    G = gates * H
    if H and shapes[0][1:] == (G,) and shapes[1:] == [(H, G), (2 * G,)]:
      return gates
  return 0


def _from_cudnn(layer: Mapping[str, np.ndarray], gates: int) -> dict[str, np.ndarray]:
  def turned(kernel: np.ndarray) -> np.ndarray:
    blocks = np.split(kernel, gates, -1)
    return np.concatenate([b.reshape(b.shape[::-1]).T for b in blocks], -1)

  bias = layer['bias'].reshape(2, -1)
  return {
    'kernel': turned(layer['kernel']),
    'recurrent_kernel': turned(layer['recurrent_kernel']),
    'bias': bias if gates == GATES['GRU'] else bias.sum(0, dtype=bias.dtype),
  }


def _to_cudnn(params: Mapping[str, np.ndarray], gates: int) -> dict[str, np.ndarray]:
  def turned(kernel: np.ndarray) -> np.ndarray:
    blocks = np.split(np.asarray(kernel), gates, -1)
    return np.concatenate([b.T.reshape(b.shape) for b in blocks], -1)

  bias = np.asarray(params['bias'])
  if gates != GATES['GRU']:  # the input's is all of it
    bias = np.stack([bias, np.zeros_like(bias)])
  return {
    'kernel': turned(params['kernel']),
    'recurrent_kernel': turned(params['recurrent_kernel']),
    'bias': bias.reshape(-1),
  }


def _keras_1_parts(weights: Weights, name: str) -> dict[str, list[str]]:
  """seqjax's variables, each with the names of its gates' parts; of others empty."""
  layer = weights[name]
  found = {variable: _KERAS_1.fullmatch(variable) for variable in layer}
  if not layer or not all(found.values()):
    return {}
  places = {(m[1], m[2] or ''): v for v, m in found.items() if m}
  letters = {letter for letter, _ in places}
  if weights.version and not weights.version.startswith('1.'):
    return {}
  if 'U' not in letters:  # no name tells an Embedding from a Dense without bias
    if not weights.version.startswith('1.') or set(places) - {('W', ''), ('b', '')}:
      return {}
    is_embedding = layer.class_name == 'Embedding' or name.startswith('embedding')
    first = 'embedding' if is_embedding else 'kernel'
    return {(first if k == 'W' else 'bias'): [v] for (k, _), v in places.items()}
  for gates in ('', 'ifco', 'zrh'):
    order = list(gates) or ['']
    wanted = {(letter, gate) for letter in letters for gate in order}
    if wanted == set(places):
      return {_NAMES[k]: [places[k, g] for g in order] for k in 'WUb' if k in letters}
  return {}


def _joined(layer: Layer, names: list[str]) -> np.ndarray:
  return np.concatenate([layer[name] for name in names], -1)
