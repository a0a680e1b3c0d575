"""Which language a surname is of, by its characters: 18 classes, very unbalanced.

python -m experiments.names --flagfile=experiments/flags/names.flags \
  --data_dir=DIR --workdir=DIR

DIR holds names/LANGUAGE.txt, a name a line; a tenth of each class is drawn for
validation and for the test. Source of the task: Robertson, "NLP From Scratch:
Classifying Names with a Character-Level RNN", of PyTorch's tutorials, which reports no
number.
"""

import dataclasses
from typing import Literal

from experiments import experiment
from experiments.texts import classification
from seqjax import config as config_lib
from seqjax.config import field
from seqjax.data.texts import known, synthetic
from seqjax.data.texts.labelled import Splits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(classification.Config):
  """What it can be told; see --help."""

  dataset: Literal['names', 'synthetic'] = field(
    'names', 'Names: names from --data_dir, synthetic from a generator.'
  )
  validation_split: float = field(
    0.1, 'Share of each class held out.', above=0, below=1
  )
  test_split: float = field(0.1, 'Share of each class to test on.', above=0, below=1)
  split_seed: int = field(0, 'Seed of that draw.', at_least=0)
  tokens: Literal['words', 'characters'] = field(
    'characters', 'What a name is read by.'
  )
  length: int = field(20, 'Characters of a name, T: its last ones.', at_least=1)
  features: int = 128
  dropout: float = 0.2
  batch_size: int = 64
  num_epochs: int = 15


def load_texts(config: Config) -> Splits:
  """The names that the flags ask for."""
  if config.dataset == 'synthetic':
    return synthetic.names(0, 1_200)
  shares = config.validation_split, config.test_split
  return known.names(config.data_dir, *shares, config.split_seed)


make_model = classification.make_model
task = classification.Of(load_texts, lambda config: config.dataset == 'names')
run = experiment.training(task, 'names', '{layer}({features}) on {dataset}', make_model)

if __name__ == '__main__':
  config_lib.main(Config, run)
