"""SimpleRNN on IMDB reviews: 0.853 +- 0.008 best validation accuracy over 3 seeds.

python -m experiments.imdb_simple_rnn \
  --flagfile=experiments/flags/imdb_simple_rnn.flags --data_dir=DIR --workdir=DIR

The state is all that the network remembers of 500 words, and every one of them writes
it anew. Source: the chapter, section 6.2.1.
"""

import seqjax as sj
from experiments import experiment, reviews
from seqjax import config as config_lib

Config = reviews.RecurrentConfig


def make_model(config: Config) -> sj.SequenceClassifier:
  """ids [B, T] -> logits [B]."""
  return reviews.classifier(config, sj.SimpleRNN(**config.layer_options()))


task = reviews
run = experiment.training(task, 'imdb_simple_rnn', 'SimpleRNN({features})', make_model)

if __name__ == '__main__':
  config_lib.main(Config, run)
