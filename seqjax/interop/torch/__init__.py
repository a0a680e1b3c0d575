"""Weights from PyTorch and back: a state_dict, a `.pt` or a `.safetensors` file.

>>> from seqjax.interop import torch
>>> layer, path = sj.LSTM(4), tempfile.mkdtemp() + '/model.safetensors'
>>> params = layer.init(jax.random.key(0), jnp.ones((2, 5, 3)), train=False)['params']
>>> torch.save(path, torch.from_lstm(params, prefix='rnn'))
>>> sorted(torch.load(path))
['rnn.bias_hh_l0', 'rnn.bias_ih_l0', 'rnn.weight_hh_l0', 'rnn.weight_ih_l0']
>>> torch.load_into({'encoder': params}, path)['encoder']['kernel'].shape
(3, 16)
"""

from seqjax.interop.torch.load import from_params, load, load_into, save, tensors
from seqjax.interop.torch.modules import (
  from_gru,
  from_lstm,
  from_simple_rnn,
  to_gru,
  to_lstm,
  to_simple_rnn,
)

__all__ = [
  'from_gru',
  'from_lstm',
  'from_params',
  'from_simple_rnn',
  'load',
  'load_into',
  'save',
  'tensors',
  'to_gru',
  'to_lstm',
  'to_simple_rnn',
]
