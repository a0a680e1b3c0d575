"""Convolutions below a GRU on the weather of Jena: many rows, read in fewer steps.

python -m experiments.jena_conv_gru \
  --flagfile=experiments/flags/jena_conv_gru.flags --data_dir=DIR --workdir=DIR

The convnet shortens half-hourly rows to a sequence that the GRU reads in order. Source:
the chapter, section 6.4.4: not as good as the GRU, much faster.
"""

import dataclasses

import seqjax as sj
from experiments import experiment, weather
from seqjax import config as config_lib
from seqjax.config import field
from seqjax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(weather.Config):
  """The chapter's settings; see --help."""

  lookback: int = 720
  step: int = 3
  features: int = field(32, 'Filters of each layer, units of the GRU.', at_least=1)
  kernel_size: int = field(5, 'Rows that a filter sees.', at_least=1)
  pool_size: int = field(3, 'Steps that become one.', at_least=1)
  dropout: float = field(0.1, "Rate on the GRU's inputs.", at_least=0, below=1)
  recurrent_dropout: float = field(0.5, "Rate on the GRU's state.", at_least=0, below=1)

  def __post_init__(self) -> None:
    super().__post_init__()
    k, p, inputs = self.kernel_size, self.pool_size, self.lookback // self.step
    fewest = k - 1 + p * k
    if inputs < fewest:
      raise InputError(
        f'--lookback must be at least {fewest} times --step for two convolutions of '
        f'--kernel_size={k} around --pool_size={p}, got {inputs} times'
      )


def make_model(config: Config) -> sj.SequenceRegressor:
  """x [B, T, D] -> forecasts [B]."""
  layers = [
    sj.Conv1D(config.features, config.kernel_size, activation='relu'),
    sj.MaxPooling1D(config.pool_size),
    sj.Conv1D(config.features, config.kernel_size, activation='relu'),
    sj.GRU(
      config.features,
      dropout=config.dropout,
      recurrent_dropout=config.recurrent_dropout,
    ),
  ]
  return sj.SequenceRegressor(sj.Stack(layers))


task = weather
run = experiment.training(
  task, 'jena_conv_gru', 'Conv1D({features}) and GRU({features})', make_model
)

if __name__ == '__main__':
  config_lib.main(Config, run)
