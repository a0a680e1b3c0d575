"""GRU on the weather of Jena, read from its end: what order in time is worth.

python -m experiments.jena_reversed \
  --flagfile=experiments/flags/jena_reversed.flags --data_dir=DIR --workdir=DIR

The last thing it sees is the weather of ten days ago. Source: the chapter, section
6.3.8, without a listing: worse than the naive forecast.
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
  return sj.SequenceRegressor(sj.GRU(config.features, go_backwards=True))


task = weather
run = experiment.training(task, 'jena_reversed', 'reversed GRU({features})', make_model)

if __name__ == '__main__':
  config_lib.main(Config, run)
