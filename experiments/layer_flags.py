"""What the models of the experiments on texts and series are made of, by flags."""

import dataclasses
from typing import Any, Literal

import flax.linen as nn

import seqjax as sj
from seqjax import config as config_lib
from seqjax.config import field
from seqjax.types import InputError

LAYERS = {
  'lstm': sj.LSTM,
  'gru': sj.GRU,
  'simple_rnn': sj.SimpleRNN,
  'min_gru': sj.MinGRU,
}
_IGNORED = {  # what a layer would not heed
  'min_gru': ('dropout', 'recurrent_dropout'),
  'conv1d': ('dropout', 'recurrent_dropout', 'bidirectional'),
  'dense': ('dropout', 'recurrent_dropout', 'bidirectional'),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layers(config_lib.TrainConfig):
  """Those of every model, of numbers too; see --help."""

  layer: str = field('lstm', 'The layer.')
  features: int = field(64, 'Units of each layer, H.', at_least=1)
  num_layers: int = field(1, 'Layers, one on the other.', at_least=1)
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
class Recurrent(Layers):
  """Those of every model whose layers are recurrent; see --help."""

  layer: Literal['lstm', 'gru', 'simple_rnn'] = field('lstm', 'The recurrent layer.')


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
class OfSeries(Layers):
  """Those of models that make one vector of a series; see --help."""

  layer: Literal['lstm', 'gru', 'simple_rnn', 'min_gru', 'conv1d', 'dense'] = field(
    'lstm',
    'Recurrent layers; convolutions with pools between them; dense layers, which read '
    'all rows at once.',
  )
  kernel_size: int = field(5, 'Rows that a filter of conv1d sees.', at_least=1)
  bidirectional: bool = field(False, 'Read from both ends.')
  pooling: Literal['max', 'mean', 'last'] = field(
    'last', 'Of the states of all steps: their largest values, their mean, or the last.'
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    for name in _IGNORED.get(self.layer, ()):
      if getattr(self, name):
        raise InputError(f'`{name}` does not go with `layer={self.layer}`')
    if self.layer == 'conv1d' and self.pooling == 'last':
      raise InputError(
        '`layer=conv1d` has no last state: `pooling` must be max or mean'
      )
    if self.layer == 'dense' and self.pooling != 'last':
      raise InputError(f'`pooling={self.pooling}` does not go with `layer=dense`')


def recurrent(config: Layers, *, return_carry: bool = False) -> list[Any]:
  """The recurrent layers, which return [B, T, H], or 2H where they read both ways."""
  rates = {'dropout', 'recurrent_dropout'} - {*_IGNORED.get(config.layer, ())}
  options: dict[str, Any] = {
    'features': config.features,
    'return_sequences': True,
    'return_carry': return_carry,
    **{name: getattr(config, name) for name in rates},
  }
  kind = LAYERS[config.layer]
  both = isinstance(config, BothWays | OfSeries) and config.bidirectional
  layers = [kind(**options) for _ in range(config.num_layers)]
  return [sj.Bidirectional(layer) for layer in layers] if both else layers


def sequence_encoder(config: Layers, *, return_carry: bool = False) -> Any:
  """[B, T, E] -> [B, T, H]."""
  layers = recurrent(config, return_carry=return_carry)
  return layers[0] if len(layers) == 1 else sj.Stack(layers)


def last_encoder(config: Layers) -> Any:
  """[B, T, D] -> [B, H], the last states."""
  *below, top = recurrent(config)
  if isinstance(top, sj.Bidirectional):
    top = sj.Bidirectional(top.forward_layer.clone(return_sequences=False))
  else:
    top = top.clone(return_sequences=False)
  return sj.Stack([*below, top]) if below else top


def pooled_encoder(config: Pooled | OfSeries, pool_size: int = 1) -> Any:
  """[B, T, E] -> [B, H]; of `conv1d` with pools of so many steps between."""
  features, number = config.features, config.num_layers
  if config.layer == 'dense':
    return sj.Stack(dense(features, number))
  if config.pooling == 'last':
    return last_encoder(config)
  if isinstance(config, OfSeries) and config.layer == 'conv1d':
    layers = convolutions(features, config.kernel_size, pool_size, number)
  else:
    layers = recurrent(config)
  pooling = {'max': sj.GlobalMaxPooling1D, 'mean': sj.GlobalAveragePooling1D}
  return sj.Stack([*layers, pooling[config.pooling]()])


def dense(features: int, number: int = 1) -> list[Any]:
  """Layers [B, T, D] -> [B, H] that read all steps at once, always as many."""
  init = nn.initializers.glorot_uniform()  # Keras's; linen's is another
  layers: list[Any] = [sj.Flatten()]
  for _ in range(number):
    layers += [nn.Dense(features, kernel_init=init), nn.relu]
  return layers


def convolutions(
  features: int, kernel_size: int, pool_size: int, number: int
) -> list[Any]:
  """Layers [B, T, D] -> [B, T', F]: convolutions, and a pool between two."""
  layers: list[Any] = []
  for i in range(number):
    layers += [sj.MaxPooling1D(pool_size)] if i else []
    layers.append(sj.Conv1D(features, kernel_size, activation='relu'))
  return layers


def fewest_steps(kernel_size: int, pool_size: int, number: int) -> int:
  """The T that `convolutions` need."""
  fewest = kernel_size
  for _ in range(number - 1):
    fewest = kernel_size - 1 + pool_size * fewest
  return fewest
