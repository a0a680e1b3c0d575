"""Convolutions below a GRU on the weather of Jena: many rows, read in fewer steps.

python -m experiments.jena_conv_gru \
  --flagfile=experiments/flags/jena_conv_gru.flags --data_dir=DIR --workdir=DIR

The convnet shortens half-hourly rows to a sequence that the GRU reads in order. Source:
the chapter, section 6.4.4: not as good as the GRU, much faster.
"""

import dataclasses

import seqjax as sj
from experiments import experiment, layer_flags, weather
from experiments.series import data as series_data
from seqjax import config as config_lib
from seqjax.config import field


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
    series_data.check_rows(self, self.kernel_size, self.pool_size, 2)


def make_model(config: Config) -> sj.SequenceRegressor:
  """x [B, T, D] -> forecasts [B]."""
  layers = [
    *layer_flags.convolutions(config.features, config.kernel_size, config.pool_size, 2),
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
