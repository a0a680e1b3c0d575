"""A convnet over time on IMDB reviews: 0.841 +- 0.008 best validation accuracy.

python -m experiments.imdb_conv1d --flagfile=experiments/flags/imdb_conv1d.flags \
  --data_dir=DIR --workdir=DIR

Filters of seven words, the strongest answer of each five, filters of seven of those,
and the strongest answer of all: cheaper than recurrence where only the presence of a
phrase counts and not its place. Source: the chapter, section 6.4.
"""

import dataclasses
import math

import seqjax as sj
from experiments import experiment, reviews
from seqjax import config as config_lib
from seqjax.config import field
from seqjax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(reviews.Config):
  """The chapter's settings; see --help."""

  embed_size: int = 128
  features: int = field(32, 'Filters of each convolution.', at_least=1)
  kernel_size: int = field(7, 'Words that a filter sees.', at_least=1)
  pool_size: int = field(5, 'Steps that become one between the two.', at_least=1)
  learning_rate: float = field(
    1e-4, 'Step size of the optimiser.', above=0, below=math.inf
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    fewest = (self.kernel_size - 1) + self.pool_size * self.kernel_size
    if self.length < fewest:
      raise InputError(
        f'--length must be at least {fewest} for two convolutions of '
        f'--kernel_size={self.kernel_size} around --pool_size={self.pool_size}, '
        f'got {self.length}'
      )


def make_model(config: Config) -> sj.SequenceClassifier:
  """ids [B, T] -> logits [B]."""
  layers = [
    sj.Conv1D(config.features, config.kernel_size, activation='relu'),
    sj.MaxPooling1D(config.pool_size),
    sj.Conv1D(config.features, config.kernel_size, activation='relu'),
    sj.GlobalMaxPooling1D(),
  ]
  return reviews.classifier(config, sj.Stack(layers))


task = reviews
run = experiment.training(
  task, 'imdb_conv1d', 'Convnet of {features} filters', make_model
)

if __name__ == '__main__':
  config_lib.main(Config, run)
