"""Dense layers on the weather of Jena: a window flattened, without an order in time.

python -m experiments.jena_dense \
  --flagfile=experiments/flags/jena_dense.flags --data_dir=DIR --workdir=DIR

240 x 14 numbers, 32 relu units, one number: what a model gives that does not know time.
Source: the chapter, section 6.3.4: about the naive forecast.
"""

import dataclasses

import seqjax as sj
from experiments import experiment, layer_flags, weather
from seqjax import config as config_lib
from seqjax.config import field


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(weather.Config):
  """The chapter's settings; see --help."""

  features: int = field(32, 'Units of the hidden layer.', at_least=1)


def make_model(config: Config) -> sj.SequenceRegressor:
  """x [B, T, D] -> forecasts [B]."""
  return sj.SequenceRegressor(sj.Stack(layer_flags.dense(config.features)))


task = weather
run = experiment.training(task, 'jena_dense', 'Dense({features})', make_model)

if __name__ == '__main__':
  config_lib.main(Config, run)
