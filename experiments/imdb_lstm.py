"""LSTM on IMDB reviews: 0.886 +- 0.001 best validation accuracy over 3 seeds.

python -m experiments.imdb_lstm --flagfile=experiments/flags/imdb_lstm.flags \
  --data_dir=DIR --workdir=DIR

Predicts from the words of a review, in their order, whether it is positive. Test
accuracy of the best epoch 0.877 +- 0.002; two CPU cores, commit 4e81a83. Source: the
chapter, section 6.2.3.
"""

import seqjax as sj
from experiments import experiment, reviews
from seqjax import config as config_lib

Config = reviews.RecurrentConfig


def make_model(config: Config) -> sj.SequenceClassifier:
  """ids [B, T] -> logits [B]."""
  return reviews.classifier(config, sj.LSTM(**config.layer_options()))


task = reviews
run = experiment.training(task, 'imdb_lstm', 'LSTM({features})', make_model)

if __name__ == '__main__':
  config_lib.main(Config, run)
