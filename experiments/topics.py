"""Topics of newswire: a bidirectional LSTM on the eight classes of R8.

python -m experiments.topics --flagfile=experiments/flags/topics.flags \
  --data_dir=DIR --workdir=DIR

DIR holds r8/train.txt and r8/test.txt, `label TAB text` a line. A tenth of the training
texts is drawn for validation, class by class. Source: Yao et al. 2019,
arXiv:1809.05679, table 2.
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

  dataset: Literal['r8', 'synthetic'] = field(
    'r8', 'Texts: r8 from --data_dir, synthetic from a generator.'
  )
  validation_split: float = field(
    0.1, 'Share of each class of the training texts held out.', above=0, below=1
  )
  length: int = 250
  embed_size: int = 100
  features: int = 64
  dropout: float = 0.5
  learning_rate: float = 2e-3
  batch_size: int = 32
  num_epochs: int = 12


def load_texts(config: Config) -> Splits:
  """The texts that the flags ask for."""
  if config.dataset == 'synthetic':
    return synthetic.topics(0, 800)
  return known.r8(config.data_dir, config.validation_split)


make_model = classification.make_model
task = classification.Of(load_texts, lambda config: config.dataset == 'r8')
run = experiment.training(
  task, 'topics', '{layer}({features}) on {dataset} texts', make_model
)

if __name__ == '__main__':
  config_lib.main(Config, run)
