"""How like two sentences are: a siamese bidirectional LSTM on SICK.

python -m experiments.compare --flagfile=experiments/flags/compare.flags \
  --data_dir=DIR --workdir=DIR

DIR holds sick/SICK_{train,trial,test_annotated}.txt: 4,500 pairs to learn from, 4,927
to test on, scored 1 to 5. Loss and outputs are of scores put into [0, 1]; r is
Pearson's. Source: Mueller & Thyagarajan 2016 (AAAI), with word vectors pretrained on
100 billion words, a model pretrained on other pairs, and pairs made by synonyms.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from experiments import experiment
from experiments.texts import comparison
from seqjax import config as config_lib
from seqjax.config import field
from seqjax.data.texts import known, synthetic
from seqjax.data.texts.known import Pairs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(comparison.Config):
  """What it can be told; see --help."""

  dataset: Literal['sick', 'synthetic'] = field(
    'sick', 'Pairs: sick from --data_dir, synthetic from a generator.'
  )
  embed_size: int = 100
  features: int = 64
  dropout: float = 0.2
  learning_rate: float = 1e-3
  num_epochs: int = 15


def load_parts(config: Config) -> Mapping[str, Pairs]:
  """The pairs that the flags ask for."""
  if config.dataset == 'synthetic':
    return synthetic.pairs(0, 1_200)
  return known.sick(config.data_dir)


make_model = comparison.make_model
task = comparison.Of(load_parts, lambda config: config.dataset == 'sick')
run = experiment.training(
  task, 'compare', '{layer}({features}) on {dataset}', make_model
)

if __name__ == '__main__':
  config_lib.main(Config, run)
