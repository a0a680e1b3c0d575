"""Layers as flax.linen modules, with Keras's semantics."""

from seqjax.layers.base import Layer
from seqjax.layers.conv import (
  AveragePooling1D,
  Conv1D,
  Flatten,
  GlobalAveragePooling1D,
  GlobalMaxPooling1D,
  MaxPooling1D,
)
from seqjax.layers.embedding import Embedding, frozen_parameters, pretrained
from seqjax.layers.masking import Masking
from seqjax.layers.recurrent import GRU, LSTM, RecurrentLayer, SimpleRNN
from seqjax.layers.regularized import (
  LayerNormGRUCell,
  LayerNormLSTMCell,
  LayerNormSimpleRNNCell,
  Zoneout,
)
from seqjax.layers.rnn import RNN, LayerCell, RNNCell
from seqjax.layers.stack import Stack
from seqjax.layers.wrappers import Bidirectional, RepeatVector, TimeDistributed

__all__ = [
  'GRU',
  'LSTM',
  'RNN',
  'AveragePooling1D',
  'Bidirectional',
  'Conv1D',
  'Embedding',
  'Flatten',
  'GlobalAveragePooling1D',
  'GlobalMaxPooling1D',
  'Layer',
  'LayerCell',
  'LayerNormGRUCell',
  'LayerNormLSTMCell',
  'LayerNormSimpleRNNCell',
  'Masking',
  'MaxPooling1D',
  'RNNCell',
  'RecurrentLayer',
  'RepeatVector',
  'SimpleRNN',
  'Stack',
  'TimeDistributed',
  'Zoneout',
  'frozen_parameters',
  'pretrained',
]
