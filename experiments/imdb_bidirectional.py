"""Bidirectional LSTM on IMDB: 0.882 +- 0.003 best validation accuracy over 3 seeds.

python -m experiments.imdb_bidirectional \
  --flagfile=experiments/flags/imdb_bidirectional.flags --data_dir=DIR --workdir=DIR

One LSTM reads the review as it is, another from its end, and the head sees both states.
Source: the chapter, section 6.3.8, validation accuracy 0.886.
"""

import dataclasses
from typing import Any

import seqjax as sj
from experiments import reviews
from seqjax import config as config_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(reviews.RecurrentConfig):
  """The chapter's settings; see --help."""


def make_model(config: Config) -> sj.SequenceClassifier:
  """ids [B, T] -> logits [B]."""
  return sj.SequenceClassifier(
    config.vocab_size,
    config.embed_size,
    sj.Bidirectional(sj.LSTM(**config.layer_options())),
    mask_zero=config.mask_zero,
  )


def run(config: Config) -> dict[str, Any]:
  """Trains; returns the result."""
  return reviews.train(
    config,
    reviews.load(config),
    name='imdb_bidirectional',
    title=f'Bidirectional LSTM({config.features})',
    model=make_model(config),
    published=0.886,
  )


if __name__ == '__main__':
  config_lib.main(Config, run)
