"""Handwritten digits, one pixel a step, in order or permuted.

python -m experiments.pixels --flagfile=experiments/flags/pixels.flags --workdir=DIR
python -m experiments.pixels --dataset=mnist --features=128 --num_epochs=20 \
  --workdir=DIR

1,797 digits of 8 x 8 pixels come with scikit-learn; MNIST is read from --data_dir or
downloaded. Source: Le et al. 2015, arXiv:1504.00941; Bai et al. 2018, arXiv:1803.01271.
"""

import dataclasses
from typing import Literal

from experiments import experiment
from experiments.sequences import images
from seqjax import config as config_lib
from seqjax.config import field


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(images.Config):
  """What it can be told; see --help."""

  dataset: Literal['digits', 'mnist', 'synthetic'] = field(
    'digits', "Images: scikit-learn's, MNIST, or generated ones."
  )
  layer: Literal['lstm', 'gru', 'simple_rnn'] = 'gru'
  features: int = 64
  clip_global_norm: float | None = field(
    1.0, 'Bound of the norm of all gradients.', above=0
  )
  num_epochs: int = 120


make_model = images.make_model
task = images
run = experiment.training(
  task, 'pixels', '{layer}({features}) on {dataset}', make_model
)

if __name__ == '__main__':
  config_lib.main(Config, run)
