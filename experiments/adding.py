"""The sum of two marked numbers among 600: how long a layer remembers.

python -m experiments.adding --flagfile=experiments/flags/adding.flags --workdir=DIR
python -m experiments.predict --workdir=DIR --text="0.5* 0.1 0.9 0.25*"

Sequences are drawn, so no data is needed. Source: Hochreiter & Schmidhuber 1997; Bai et
al. 2018, arXiv:1803.01271, of layers of 70,000 parameters. A squared error of 0.167
needs no memory.
"""

import dataclasses
from typing import Literal

from experiments import experiment
from experiments.sequences import memory
from seqjax import config as config_lib
from seqjax.config import field


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(memory.Config):
  """What it can be told; see --help."""

  layer: Literal['lstm', 'gru', 'simple_rnn'] = 'gru'
  num_epochs: int = field(16, 'Validations.', at_least=1)


make_model = memory.make_adder
task = memory.Adding()
run = experiment.training(task, 'adding', '{layer}({features})', make_model)

if __name__ == '__main__':
  config_lib.main(Config, run)
