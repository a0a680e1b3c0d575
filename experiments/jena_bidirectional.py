"""Bidirectional GRU on the weather of Jena.

python -m experiments.jena_bidirectional \
  --flagfile=experiments/flags/jena_bidirectional.flags --data_dir=DIR --workdir=DIR

The recent past matters most, so the half that reads backwards has little to add.
Source: the chapter, section 6.3.8, without a listing: as well as the GRU.
"""

import dataclasses

import seqjax as sj
from experiments import experiment, weather
from seqjax import config as config_lib
from seqjax.config import field


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(weather.Config):
  """The chapter's settings; see --help."""

  features: int = field(32, 'Units of each direction, H.', at_least=1)


def make_model(config: Config) -> sj.SequenceRegressor:
  """x [B, T, D] -> forecasts [B]."""
  return sj.SequenceRegressor(sj.Bidirectional(sj.GRU(config.features)))


task = weather
run = experiment.training(
  task, 'jena_bidirectional', 'Bidirectional GRU({features})', make_model
)

if __name__ == '__main__':
  config_lib.main(Config, run)
