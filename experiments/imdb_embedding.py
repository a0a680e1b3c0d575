"""An embedding learnt on IMDB reviews: 0.761 +- 0.002 best validation accuracy.

python -m experiments.imdb_embedding --flagfile=experiments/flags/imdb_embedding.flags \
  --data_dir=DIR --workdir=DIR

The last 20 words of a review, each 8 numbers, side by side in front of a single logit:
what can be told from words alone, each in its place. Source: the chapter, section
6.1.2.
"""

import dataclasses

import seqjax as sj
from experiments import experiment, reviews
from seqjax import config as config_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(reviews.Config):
  """The chapter's settings; see --help."""

  length: int = 20
  embed_size: int = 8
  batch_size: int = 32


def make_model(config: Config) -> sj.SequenceClassifier:
  """ids [B, T] -> logits [B]."""
  return reviews.classifier(config, sj.Stack([sj.Flatten()]))


task = reviews
run = experiment.training(
  task, 'imdb_embedding', 'Embedding({embed_size}) of {length} words', make_model
)

if __name__ == '__main__':
  config_lib.main(Config, run)
