"""GRU with dropout on the weather of Jena, on inputs and on the state.

python -m experiments.jena_gru_dropout \
  --flagfile=experiments/flags/jena_gru_dropout.flags --data_dir=DIR --workdir=DIR

One mask a sequence, the same at every step, as Gal & Ghahramani have it: against the
overfitting of jena_gru. Source: the chapter, section 6.3.6: no overfitting for 20
epochs of 40.
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
  features: int = field(32, 'Units of the GRU, H.', at_least=1)
  dropout: float = field(0.2, 'Rate on the inputs.', at_least=0, below=1)
  recurrent_dropout: float = field(0.2, 'Rate on the state.', at_least=0, below=1)


def make_model(config: Config) -> sj.SequenceRegressor:
  """x [B, T, D] -> forecasts [B]."""
  gru = sj.GRU(
    config.features,
    dropout=config.dropout,
    recurrent_dropout=config.recurrent_dropout,
  )
  return sj.SequenceRegressor(gru)


task = weather
run = experiment.training(
  task, 'jena_gru_dropout', 'GRU({features}) with dropout', make_model
)

if __name__ == '__main__':
  config_lib.main(Config, run)
