"""GloVe vectors against an embedding from scratch, on a handful of IMDB reviews.

python -m experiments.imdb_glove --flagfile=experiments/flags/imdb_glove.flags \
  --data_dir=DIR --workdir=DIR
python -m experiments.imdb_glove --flagfile=experiments/flags/imdb_glove_scratch.flags \
  --data_dir=DIR --workdir=DIR

200 reviews to train on: too few to learn what words mean, so it is brought along. Runs
with the same --sample_seed see the same reviews. Ids are the tokenizer's: it drops the
words that it does not keep. Source: the chapter, section 6.1.3.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import numpy as np

import seqjax as sj
from experiments import reviews
from experiments.reviews import few
from seqjax import config as config_lib
from seqjax.config import field


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(few.Config):
  """The chapter's settings; see --help."""

  length: int = 100
  embed_size: int = field(100, "Width of the embedding, E: the vectors'.", at_least=1)
  features: int = field(32, 'Units of the dense layer.', at_least=1)
  batch_size: int = 32
  num_epochs: int = 20


def make_model(
  config: Config, matrix: np.ndarray | None = None
) -> sj.SequenceClassifier:
  """ids [B, T] -> logits [B]; the embedding starts from the matrix [V, E], if given."""
  glorot = nn.initializers.glorot_uniform()
  dense = nn.Dense(config.features, kernel_init=glorot)
  model = reviews.classifier(
    config,
    sj.Stack([sj.Flatten(), dense, nn.relu]),
    frozen=config.embedding == 'frozen',
  )
  return model if matrix is None else model.clone(embedding_init=sj.pretrained(matrix))


def run(config: Config) -> dict[str, Any]:
  """Trains; returns the result."""
  data, matrix = few.load(config)
  return reviews.train(
    config,
    data,
    name='imdb_glove',
    title=f'Dense network, {config.embedding} embedding, {config.num_train:,}',
    model=make_model(config, matrix),
  )


task = few

if __name__ == '__main__':
  config_lib.main(Config, run)
