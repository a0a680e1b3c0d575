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
from seqjax.layers.conv_lstm import ConvLSTM
from seqjax.layers.embedding import Embedding, frozen_parameters, pretrained
from seqjax.layers.masking import Masking
from seqjax.layers.min_gru import MinGRU
from seqjax.layers.peephole import PeepholeLSTMCell
from seqjax.layers.recurrent import GRU, LSTM, RecurrentLayer, SimpleRNN
from seqjax.layers.regularized import (
  LayerNormGRUCell,
  LayerNormLSTMCell,
  LayerNormSimpleRNNCell,
  Zoneout,
)
from seqjax.layers.rnn import RNN, LayerCell, RNNCell
from seqjax.layers.scanned import ScannedRNN
from seqjax.layers.stack import Stack
from seqjax.layers.wrappers import Bidirectional, RepeatVector, TimeDistributed

__all__ = [
  'GRU',
  'LSTM',
  'RNN',
  'AveragePooling1D',
  'Bidirectional',
  'Conv1D',
  'ConvLSTM',
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
  'MinGRU',
  'PeepholeLSTMCell',
  'RNNCell',
  'RecurrentLayer',
  'RepeatVector',
  'ScannedRNN',
  'SimpleRNN',
  'Stack',
  'TimeDistributed',
  'Zoneout',
  'frozen_parameters',
  'pretrained',
]
