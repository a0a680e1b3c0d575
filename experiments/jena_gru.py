"""GRU on the weather of Jena: the temperature in 24 hours from ten days.

python -m experiments.jena_gru --flagfile=experiments/flags/jena_gru.flags \
  --data_dir=DIR --workdir=DIR

240 hourly rows of 14 quantities, one GRU of 32 units, one number. Source: the chapter,
section 6.3.5: better than the naive forecast.
"""

import dataclasses

import seqjax as sj
from experiments import experiment, weather
from seqjax import config as config_lib
from seqjax.config import field


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(weather.Config):
  """The chapter's settings; see --help."""

  features: int = field(32, 'Units of the GRU, H.', at_least=1)


def make_model(config: Config) -> sj.SequenceRegressor:
  """x [B, T, D] -> forecasts [B]."""
  return sj.SequenceRegressor(sj.GRU(config.features))


task = weather
run = experiment.training(task, 'jena_gru', 'GRU({features})', make_model)

if __name__ == '__main__':
  config_lib.main(Config, run)
