"""Layouts of layers that Keras no longer has, and of seqjax's names in all of Keras's.

CuDNNLSTM and CuDNNGRU of Keras 2: where a kernel has a gate's [D, H] lies a row-major
[H, D], and the bias [2G] is the input's and the recurrent one, behind one another.
Layers of Keras 1: W_i, U_i, b_i and so on, an array for each gate, or W, U, b of all
gates; an Embedding and a Dense have W and b.

Sources: what `build` of CuDNNLSTM in Keras 2.2 and of LSTM in Keras 1.2 make; the tests
compare with PyTorch, whose layout is cuDNN's own.
"""

import re
from collections.abc import Callable, Mapping

import numpy as np

from seqjax.interop.gates import GATES, KERNELS
from seqjax.interop.keras import configs
from seqjax.interop.weights import Weights

_KERAS_1 = re.compile(r'(?:.*_)?([WUb])(?:_([ifcozrh]))?')
_NAMES = {'W': 'kernel', 'U': 'recurrent_kernel', 'b': 'bias'}


def to_params(weights: Weights, name: str) -> dict[str, np.ndarray]:
  """The variables of a layer in seqjax's names and layout."""
  layer = weights[name]
  if kind := class_by_shapes(layer):
    return _from_cudnn(layer, kind)
  if parts := _keras_1_parts(weights, name):
    return {
      ours: np.concatenate([layer[part] for part in own], -1)
      for ours, own in parts.items()
    }
  return {_ours(layer, variable): value for variable, value in layer.items()}


def from_params(
  weights: Weights, name: str, params: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """The inverse: variables by the names that the layer gives them."""
  layer = weights[name]
  if kind := class_by_shapes(layer):
    return _to_cudnn(params, kind)
  if parts := _keras_1_parts(weights, name):
    split: dict[str, np.ndarray] = {}
    for ours, own in parts.items():
      pieces = np.split(np.asarray(params[ours]), len(own), -1)
      split |= dict(zip(own, pieces, strict=True))
    return {variable: split[variable] for variable in layer}
  return {variable: params[_ours(layer, variable)] for variable in layer}


def class_by_shapes(layer: Mapping[str, np.ndarray]) -> str:
  """'CuDNNLSTM' or 'CuDNNGRU' by its shapes; '' of others, whose bias has no 2G."""
  if set(layer) != {'kernel', 'recurrent_kernel', 'bias'}:
    return ''
  shapes = [layer[n].shape for n in ('kernel', 'recurrent_kernel', 'bias')]
  for kind, cell in configs.CUDNN.items():
    gates = GATES[cell]
    H = shapes[2][0] // (2 * gates) if len(shapes[2]) == 1 else 0
    G = gates * H
    if H and shapes[0][1:] == (G,) and shapes[1:] == [(H, G), (2 * G,)]:
      return kind
  return ''


def _ours(layer: Mapping[str, np.ndarray], variable: str) -> str:
  """seqjax's name of a variable of Keras 2 and 3."""
  return variable if 'moving_mean' in layer else configs.OURS.get(variable, variable)


def _from_cudnn(layer: Mapping[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
  bias = layer['bias'].reshape(2, -1)
  params = _turned(layer, kind, lambda block: block.reshape(block.shape[::-1]).T)
  is_gru = configs.CUDNN[kind] == 'GRU'
  return params | {'bias': bias if is_gru else bias.sum(0, dtype=bias.dtype)}


def _to_cudnn(params: Mapping[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
  bias = np.asarray(params['bias'])
  if configs.CUDNN[kind] != 'GRU':  # the input's is all of it
    bias = np.stack([bias, np.zeros_like(bias)])
  layer = _turned(params, kind, lambda block: block.T.reshape(block.shape))
  return layer | {'bias': bias.reshape(-1)}


def _turned(
  layer: Mapping[str, np.ndarray], kind: str, turn: Callable[[np.ndarray], np.ndarray]
) -> dict[str, np.ndarray]:
  """The two kernels, each gate's block of columns turned."""
  gates = GATES[configs.CUDNN[kind]]
  return {
    name: np.concatenate(
      [turn(b) for b in np.split(np.asarray(layer[name]), gates, -1)], -1
    )
    for name in KERNELS
  }


def _keras_1_parts(weights: Weights, name: str) -> dict[str, list[str]]:
  """seqjax's variables, each with the names of its gates' parts; of others empty."""
  layer = weights[name]
  matches = {variable: _KERAS_1.fullmatch(variable) for variable in layer}
  if not layer or not all(matches.values()):
    return {}
  places = {(m[1], m[2] or ''): v for v, m in matches.items() if m}
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
    expected = {(letter, gate) for letter in letters for gate in order}
    if expected == set(places):
      return {_NAMES[k]: [places[k, g] for g in order] for k in 'WUb' if k in letters}
  return {}
