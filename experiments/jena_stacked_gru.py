"""Two GRUs on the weather of Jena, one on top of the other, with dropout.

python -m experiments.jena_stacked_gru \
  --flagfile=experiments/flags/jena_stacked_gru.flags --data_dir=DIR --workdir=DIR

More capacity, now that dropout holds overfitting down; the upper GRU has relu, as in
the book. Source: the chapter, section 6.3.7: no great gain.
"""

import dataclasses

import seqjax as sj
from experiments import experiment, weather
from seqjax import config as config_lib
from seqjax.config import field


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(weather.Config):
  """The chapter's settings; see --help."""

  num_epochs: int = 40
  features: int = field(32, 'Units of the lower GRU, H.', at_least=1)
  top_features: int = field(64, 'Units of the upper GRU.', at_least=1)
  dropout: float = field(0.1, 'Rate on the inputs of each.', at_least=0, below=1)
  recurrent_dropout: float = field(
    0.5, 'Rate on the state of each.', at_least=0, below=1
  )


def make_model(config: Config) -> sj.SequenceRegressor:
  """x [B, T, D] -> forecasts [B]."""
  below = sj.GRU(
    config.features,
    dropout=config.dropout,
    recurrent_dropout=config.recurrent_dropout,
    return_sequences=True,
  )
  top = sj.GRU(
    config.top_features,
    activation='relu',
    dropout=config.dropout,
    recurrent_dropout=config.recurrent_dropout,
  )
  return sj.SequenceRegressor(sj.Stack([below, top]))


task = weather
run = experiment.training(
  task, 'jena_stacked_gru', 'GRU({features}) and GRU({top_features})', make_model
)

if __name__ == '__main__':
  config_lib.main(Config, run)
