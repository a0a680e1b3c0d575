"""GRU on IMDB reviews: 0.879 +- 0.004 best validation accuracy over 3 seeds.

python -m experiments.imdb_gru --flagfile=experiments/flags/imdb_gru.flags \
  --data_dir=DIR --workdir=DIR

The LSTM's experiment with the smaller cell: three gates' worth of weights, not four,
and one state. The chapter runs the cell on the weather alone (section 6.3.5), so there
is no published number.
"""

import seqjax as sj
from experiments import experiment, reviews
from seqjax import config as config_lib

Config = reviews.RecurrentConfig


def make_model(config: Config) -> sj.SequenceClassifier:
  """ids [B, T] -> logits [B]."""
  return reviews.classifier(config, sj.GRU(**config.layer_options()))


task = reviews
run = experiment.training(task, 'imdb_gru', 'GRU({features})', make_model)

if __name__ == '__main__':
  config_lib.main(Config, run)
