"""Recurrent networks for JAX: exact Keras semantics on a fast path.

`import seqjax as sj` gives the layers and the pure functions below them. Nothing here
opens a file or imports tensorflow-datasets, Orbax or matplotlib.
"""

from seqjax import cells, dropout, losses, optim, scan
from seqjax.layers import (
  GRU,
  LSTM,
  RNN,
  AveragePooling1D,
  Bidirectional,
  Conv1D,
  Embedding,
  Flatten,
  GlobalAveragePooling1D,
  GlobalMaxPooling1D,
  LayerCell,
  LayerNormGRUCell,
  LayerNormLSTMCell,
  MaxPooling1D,
  RepeatVector,
  RNNCell,
  SimpleRNN,
  Stack,
  TimeDistributed,
  Zoneout,
  frozen_parameters,
  pretrained,
)
from seqjax.models import SequenceClassifier, SequenceRegressor

__version__ = '0.1.0'

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
  'LayerCell',
  'LayerNormGRUCell',
  'LayerNormLSTMCell',
  'MaxPooling1D',
  'RNNCell',
  'RepeatVector',
  'SequenceClassifier',
  'SequenceRegressor',
  'SimpleRNN',
  'Stack',
  'TimeDistributed',
  'Zoneout',
  '__version__',
  'cells',
  'dropout',
  'frozen_parameters',
  'losses',
  'optim',
  'pretrained',
  'scan',
]
