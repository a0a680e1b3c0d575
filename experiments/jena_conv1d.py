"""1D convnet on the weather of Jena: patterns wherever in time they are.

python -m experiments.jena_conv1d \
  --flagfile=experiments/flags/jena_conv1d.flags --data_dir=DIR --workdir=DIR

It finds patterns of a few hours and does not know where in the ten days they were.
Source: the chapter, section 6.4.3: worse than the naive forecast.
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

  features: int = field(32, 'Filters of each layer.', at_least=1)
  kernel_size: int = field(5, 'Rows that a filter sees.', at_least=1)
  pool_size: int = field(3, 'Steps that become one.', at_least=1)

  def __post_init__(self) -> None:
    super().__post_init__()
    series_data.check_rows(self, self.kernel_size, self.pool_size, 3)


def make_model(config: Config) -> sj.SequenceRegressor:
  """x [B, T, D] -> forecasts [B]."""
  layers = layer_flags.convolutions(
    config.features, config.kernel_size, config.pool_size, 3
  )
  return sj.SequenceRegressor(sj.Stack([*layers, sj.GlobalMaxPooling1D()]))


task = weather
run = experiment.training(task, 'jena_conv1d', 'Conv1D({features})', make_model)

if __name__ == '__main__':
  config_lib.main(Config, run)
