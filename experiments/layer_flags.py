"""What the models of the experiments on texts and series are made of, by flags."""

import dataclasses
from typing import Any, Literal

import seqjax as sj
from seqjax import config as config_lib
from seqjax.config import field

LAYERS = {'lstm': sj.LSTM, 'gru': sj.GRU, 'simple_rnn': sj.SimpleRNN}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recurrent(config_lib.TrainConfig):
  """Those of every model, of numbers too; see --help."""

  layer: Literal['lstm', 'gru', 'simple_rnn'] = field('lstm', 'The recurrent layer.')
  features: int = field(64, 'Units of each recurrent layer, H.', at_least=1)
  num_layers: int = field(1, 'Recurrent layers, one on the other.', at_least=1)
  dropout: float = field(
    0.0, "Rate on a recurrent layer's inputs.", at_least=0, below=1
  )
  recurrent_dropout: float = field(
    0.0, "Rate on a recurrent layer's state.", at_least=0, below=1
  )
  optimizer: Literal['sgd', 'rmsprop', 'adam', 'adamw', 'lion', 'adafactor'] = field(
    'adam', 'With Keras defaults.'
  )
  schedule: Literal['constant', 'cosine', 'linear', 'exponential', 'piecewise'] = (
    'cosine'
  )
  learning_rate: float = 3e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Recurrent):
  """Those of every model of ids; see --help."""

  embed_size: int = field(64, 'Width of the embedding, E.', at_least=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BothWays(Config):
  """Those of models that may see a text's end before they answer."""

  bidirectional: bool = field(True, 'Read from both ends.')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pooled(BothWays):
  """Those of models that make one vector of a text."""

  pooling: Literal['max', 'mean', 'last'] = field(
    'max', 'Of the states of all steps: their largest values, their mean, or the last.'
  )
  vectors: str = field(
    '',
    'File of word vectors that the embedding starts from, of --embed_size.',
    path=True,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfSeries(Recurrent):
  """Those of models that make one vector of a series; see --help."""

  bidirectional: bool = field(False, 'Read from both ends.')
  pooling: Literal['max', 'mean', 'last'] = field(
    'last', 'Of the states of all steps: their largest values, their mean, or the last.'
  )


def recurrent(config: Recurrent, *, return_carry: bool = False) -> list[Any]:
  """The recurrent layers, which return [B, T, H], or 2H where they read both ways."""
  options = {
    'features': config.features,
    'dropout': config.dropout,
    'recurrent_dropout': config.recurrent_dropout,
    'return_sequences': True,
    'return_carry': return_carry,
  }
  kind = LAYERS[config.layer]
  both = isinstance(config, BothWays | OfSeries) and config.bidirectional
  layers = [kind(**options) for _ in range(config.num_layers)]
  return [sj.Bidirectional(layer) for layer in layers] if both else layers


def sequence_encoder(config: Recurrent, *, return_carry: bool = False) -> Any:
  """[B, T, E] -> [B, T, H]."""
  layers = recurrent(config, return_carry=return_carry)
  return layers[0] if len(layers) == 1 else sj.Stack(layers)


def last_encoder(config: Recurrent) -> Any:
  """[B, T, D] -> [B, H], the last states."""
  *below, top = recurrent(config)
  if isinstance(top, sj.Bidirectional):
    top = sj.Bidirectional(top.forward_layer.clone(return_sequences=False))
  else:
    top = top.clone(return_sequences=False)
  return sj.Stack([*below, top]) if below else top


def pooled_encoder(config: Pooled | OfSeries) -> Any:
  """[B, T, E] -> [B, H]."""
  if config.pooling == 'last':
    return last_encoder(config)
  pooling = {'max': sj.GlobalMaxPooling1D, 'mean': sj.GlobalAveragePooling1D}
  return sj.Stack([*recurrent(config), pooling[config.pooling]()])
