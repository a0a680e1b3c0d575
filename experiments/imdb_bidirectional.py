"""Bidirectional LSTM on IMDB: 0.882 +- 0.003 best validation accuracy over 3 seeds.

python -m experiments.imdb_bidirectional \
  --flagfile=experiments/flags/imdb_bidirectional.flags --data_dir=DIR --workdir=DIR

One LSTM reads the review as it is, another from its end, and the head sees both states.
Source: the chapter, section 6.3.8.
"""

import seqjax as sj
from experiments import experiment, reviews
from seqjax import config as config_lib

Config = reviews.RecurrentConfig


def make_model(config: Config) -> sj.SequenceClassifier:
  """ids [B, T] -> logits [B]."""
  return reviews.classifier(config, sj.Bidirectional(sj.LSTM(**config.layer_options())))


task = reviews
run = experiment.training(
  task, 'imdb_bidirectional', 'Bidirectional LSTM({features})', make_model
)

if __name__ == '__main__':
  config_lib.main(Config, run)
