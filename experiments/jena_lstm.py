"""LSTM on the weather of Jena, in the place of the GRU.

python -m experiments.jena_lstm \
  --flagfile=experiments/flags/jena_lstm.flags --data_dir=DIR --workdir=DIR

One of the further experiments that the chapter proposes, section 6.3.9, without a
number.
"""

import dataclasses

import seqjax as sj
from experiments import experiment, weather
from seqjax import config as config_lib
from seqjax.config import field


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(weather.Config):
  """The chapter's settings; see --help."""

  features: int = field(32, 'Units of the LSTM, H.', at_least=1)


def make_model(config: Config) -> sj.SequenceRegressor:
  """x [B, T, D] -> forecasts [B]."""
  return sj.SequenceRegressor(sj.LSTM(config.features))


task = weather
run = experiment.training(task, 'jena_lstm', 'LSTM({features})', make_model)

if __name__ == '__main__':
  config_lib.main(Config, run)
