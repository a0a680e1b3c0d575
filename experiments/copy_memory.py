"""Ten symbols, a wait of 1,000 steps, and the ten again: how long a layer remembers.

python -m experiments.copy_memory --flagfile=experiments/flags/copy_memory.flags \
  --workdir=DIR
python -m experiments.predict --workdir=DIR --text="3 1 4 1 5 2 6 5 3 5"

Sequences are drawn, so no data is needed. Source: Hochreiter & Schmidhuber 1997; Bai et
al. 2018, arXiv:1803.01271.
"""

import dataclasses
from typing import Literal

import seqjax as sj
from experiments import experiment
from experiments.sequences import memory
from seqjax import config as config_lib
from seqjax.config import field


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(memory.Config):
  """What it can be told; see --help."""

  length: int = 1_000
  layer: Literal['lstm', 'gru', 'simple_rnn'] = 'gru'
  embed_size: int = field(8, 'Width of the embedding, E.', at_least=1)
  num_epochs: int = field(6, 'Validations.', at_least=1)


def make_model(config: Config) -> sj.SequenceTagger:
  """ids [B, T] -> logits [B, T, C]."""
  return memory.make_copier(config, config.embed_size)


task = memory.Copying()
run = experiment.training(task, 'copy_memory', '{layer}({features})', make_model)

if __name__ == '__main__':
  config_lib.main(Config, run)
