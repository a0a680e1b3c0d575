"""Parts of speech: a bidirectional LSTM on English ParTUT of Universal Dependencies.

python -m experiments.tagging --flagfile=experiments/flags/tagging.flags \
  --data_dir=DIR --workdir=DIR

DIR holds ud_partut/en_partut-ud-{train,dev,test}.conllu. 17 tags; 43,000 words to learn
from, read in lower case; accuracy is over words.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from experiments import experiment
from experiments.texts import tagging
from seqjax import config as config_lib
from seqjax.config import field
from seqjax.data.texts import known, synthetic
from seqjax.data.texts.known import Tagged


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(tagging.Config):
  """What it can be told; see --help."""

  dataset: Literal['ud_partut', 'synthetic'] = field(
    'ud_partut', 'Sentences: ud_partut from --data_dir, synthetic from a generator.'
  )
  dropout: float = 0.5
  features: int = 128
  embed_size: int = 100
  num_epochs: int = 12


def load_parts(config: Config) -> Mapping[str, Tagged]:
  """The sentences that the flags ask for."""
  if config.dataset == 'synthetic':
    return synthetic.sentences(0, 800)
  return known.ud_partut(config.data_dir)


make_model = tagging.make_model
task = tagging.Of(load_parts, lambda config: config.dataset == 'ud_partut')
run = experiment.training(
  task, 'tagging', '{layer}({features}) on {dataset}', make_model
)

if __name__ == '__main__':
  config_lib.main(Config, run)
