"""Recurrent networks for JAX: exact Keras semantics on a fast path.

`import seqjax as sj` gives the layers and the pure functions below them. A name is
imported when it is first asked for (PEP 562): who reads files or texts starts no JAX,
and nothing here opens a file.
"""

import importlib
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what `__getattr__` does, for type checkers and editors
  from seqjax import cells as cells
  from seqjax import decoding as decoding
  from seqjax import dropout as dropout
  from seqjax import generation as generation
  from seqjax import scan as scan
  from seqjax.fitting import Fitted as Fitted
  from seqjax.fitting import fit as fit
  from seqjax.fitting import load as load
  from seqjax.layers import GRU as GRU
  from seqjax.layers import LSTM as LSTM
  from seqjax.layers import RNN as RNN
  from seqjax.layers import AveragePooling1D as AveragePooling1D
  from seqjax.layers import Bidirectional as Bidirectional
  from seqjax.layers import Conv1D as Conv1D
  from seqjax.layers import ConvLSTM as ConvLSTM
  from seqjax.layers import Embedding as Embedding
  from seqjax.layers import Flatten as Flatten
  from seqjax.layers import GlobalAveragePooling1D as GlobalAveragePooling1D
  from seqjax.layers import GlobalMaxPooling1D as GlobalMaxPooling1D
  from seqjax.layers import LayerCell as LayerCell
  from seqjax.layers import LayerNormGRUCell as LayerNormGRUCell
  from seqjax.layers import LayerNormLSTMCell as LayerNormLSTMCell
  from seqjax.layers import LayerNormSimpleRNNCell as LayerNormSimpleRNNCell
  from seqjax.layers import Masking as Masking
  from seqjax.layers import MaxPooling1D as MaxPooling1D
  from seqjax.layers import MinGRU as MinGRU
  from seqjax.layers import PeepholeLSTMCell as PeepholeLSTMCell
  from seqjax.layers import RepeatVector as RepeatVector
  from seqjax.layers import RNNCell as RNNCell
  from seqjax.layers import ScannedRNN as ScannedRNN
  from seqjax.layers import SimpleRNN as SimpleRNN
  from seqjax.layers import Stack as Stack
  from seqjax.layers import TimeDistributed as TimeDistributed
  from seqjax.layers import Zoneout as Zoneout
  from seqjax.layers import frozen_parameters as frozen_parameters
  from seqjax.layers import pretrained as pretrained
  from seqjax.models import LanguageModel as LanguageModel
  from seqjax.models import SequenceClassifier as SequenceClassifier
  from seqjax.models import SequenceComparer as SequenceComparer
  from seqjax.models import SequenceRegressor as SequenceRegressor
  from seqjax.models import SequenceTagger as SequenceTagger
  from seqjax.ragged import pad_ragged as pad_ragged
  from seqjax.ragged import unpad_ragged as unpad_ragged
  from seqjax.seq2seq import EncoderDecoder as EncoderDecoder
  from seqjax.training import losses as losses
  from seqjax.training import metrics as metrics
  from seqjax.training import optim as optim
  from seqjax.training import spans as spans

__version__ = '0.1.0'

_LAYERS = [
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
  'LayerCell',
  'LayerNormGRUCell',
  'LayerNormLSTMCell',
  'LayerNormSimpleRNNCell',
  'Masking',
  'MaxPooling1D',
  'MinGRU',
  'PeepholeLSTMCell',
  'RNNCell',
  'RepeatVector',
  'ScannedRNN',
  'SimpleRNN',
  'Stack',
  'TimeDistributed',
  'Zoneout',
  'frozen_parameters',
  'pretrained',
]
_MODELS = (
  'LanguageModel',
  'SequenceClassifier',
  'SequenceComparer',
  'SequenceRegressor',
  'SequenceTagger',
)
# A name -> the module it is taken from, or None where it is a module itself.
_HOMES: dict[str, str] = {
  **dict.fromkeys(('cells', 'decoding', 'dropout', 'generation', 'scan'), 'seqjax'),
  **dict.fromkeys(('losses', 'metrics', 'optim', 'spans'), 'seqjax.training'),
  **dict.fromkeys(('Fitted', 'fit', 'load'), 'seqjax.fitting'),
  **dict.fromkeys(('pad_ragged', 'unpad_ragged'), 'seqjax.ragged'),
  **dict.fromkeys(_LAYERS, 'seqjax.layers'),
  **dict.fromkeys(_MODELS, 'seqjax.models'),
  'EncoderDecoder': 'seqjax.seq2seq',
}
# What was public under another name -> where it is now.
_MOVED = {'parallel': 'seqjax.cluster.mesh'}

__all__ = ['__version__', *_HOMES]


def __getattr__(name: str) -> Any:
  if name in _MOVED:
    warnings.warn(
      f'seqjax.{name} is {_MOVED[name]} now', DeprecationWarning, stacklevel=2
    )
    return importlib.import_module(_MOVED[name])
  if name not in _HOMES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  home = _HOMES[name]
  if home in ('seqjax', 'seqjax.training'):
    return importlib.import_module(f'{home}.{name}')
  return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
  return sorted({*globals(), *_HOMES})
