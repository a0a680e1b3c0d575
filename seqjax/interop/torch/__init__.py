"""Weights from PyTorch and back: a state_dict, a `.pt` or a `.safetensors` file."""

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
