"""Slots and intent of spoken commands at once: a bidirectional LSTM on SNIPS.

python -m experiments.slots --flagfile=experiments/flags/slots.flags \
  --data_dir=DIR --workdir=DIR

DIR holds snips/{train,dev,test}/{seq.in,seq.out,label}. One encoder; a slot for each
word, and the intent by the largest values over all words. Source: Liu & Lane 2016,
arXiv:1609.01454, whose attention model Goo et al. 2018 (NAACL, table 2) measured on
SNIPS.
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

  dataset: Literal['snips', 'synthetic'] = field(
    'snips', 'Commands: snips from --data_dir, synthetic from a generator.'
  )
  dropout: float = 0.5
  features: int = 128
  embed_size: int = 100
  length: int = field(40, 'Words of a command, T: its first ones.', at_least=1)
  num_epochs: int = 12


def load_parts(config: Config) -> Mapping[str, Tagged]:
  """The commands that the flags ask for."""
  if config.dataset == 'synthetic':
    return synthetic.commands(0, 800)
  return known.snips(config.data_dir)


make_model = tagging.make_model
task = tagging.Of(load_parts, lambda config: config.dataset == 'snips')
run = experiment.training(task, 'slots', '{layer}({features}) on {dataset}', make_model)

if __name__ == '__main__':
  config_lib.main(Config, run)
