"""Polyphonic music, frame by frame: chorales, or folk tunes with chords.

python -m experiments.music --flagfile=experiments/flags/music.flags \
  --data_dir=DIR --workdir=DIR
python -m experiments.compose --workdir=DIR --out=FILE.mid

DIR holds music/JSB_Chorales.mat and Nottingham.mat. Nats a frame, the sum over 88 keys;
a frame is a quarter note of a chorale and an eighth of a tune. Source:
Boulanger-Lewandowski et al. 2012, arXiv:1206.6392; Bai et al. 2018, arXiv:1803.01271.
"""

import dataclasses
from typing import Literal

from experiments import experiment
from experiments.sequences import music
from seqjax import config as config_lib
from seqjax.config import field
from seqjax.data.music import rolls


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(music.Config):
  """What it can be told; see --help."""

  dataset: Literal['jsb', 'nottingham', 'synthetic'] = field(
    'jsb', 'Pieces: jsb and nottingham from --data_dir, synthetic from a generator.'
  )
  features: int = 200
  dropout: float = field(
    0.3, 'Rate on the inputs of each layer, the last one too.', at_least=0, below=1
  )
  num_epochs: int = 200


def load_rolls(config: Config) -> rolls.Rolls:
  """The pieces that the flags ask for."""
  if config.dataset == 'synthetic':
    return rolls.synthetic(0, 200)
  return rolls.load(config.data_dir, config.dataset)


make_model = music.make_model
task = music.Of(load_rolls, lambda config: config.dataset == 'jsb')
run = experiment.training(task, 'music', '{layer}({features}) on {dataset}', make_model)

if __name__ == '__main__':
  config_lib.main(Config, run)
