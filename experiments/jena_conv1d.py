"""1D convnet on the weather of Jena: patterns wherever in time they are.

python -m experiments.jena_conv1d \
  --flagfile=experiments/flags/jena_conv1d.flags --data_dir=DIR --workdir=DIR

It finds patterns of a few hours and does not know where in the ten days they were.
Source: the chapter, section 6.4.3: worse than the naive forecast.
"""

import dataclasses
from typing import Any

import seqjax as sj
from experiments import experiment, weather
from seqjax import config as config_lib
from seqjax.config import field
from seqjax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(weather.Config):
  """The chapter's settings; see --help."""

  features: int = field(32, 'Filters of each layer.', at_least=1)
  kernel_size: int = field(5, 'Rows that a filter sees.', at_least=1)
  pool_size: int = field(3, 'Steps that become one.', at_least=1)

  def __post_init__(self) -> None:
    super().__post_init__()
    k, p, inputs = self.kernel_size, self.pool_size, self.lookback // self.step
    fewest = k - 1 + p * (k - 1 + p * k)
    if inputs < fewest:
      raise InputError(
        f'--lookback must be at least {fewest} times --step for three convolutions of '
        f'--kernel_size={k} around --pool_size={p}, got {inputs} times'
      )


def make_model(config: Config) -> sj.SequenceRegressor:
  """x [B, T, D] -> forecasts [B]."""
  layers: list[Any] = []
  for last in (False, False, True):
    layers.append(sj.Conv1D(config.features, config.kernel_size, activation='relu'))
    layers.append(
      sj.GlobalMaxPooling1D() if last else sj.MaxPooling1D(config.pool_size)
    )
  return sj.SequenceRegressor(sj.Stack(layers))


task = weather
run = experiment.training(task, 'jena_conv1d', 'Conv1D({features})', make_model)

if __name__ == '__main__':
  config_lib.main(Config, run)
