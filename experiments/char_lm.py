"""A language model of Shakespeare's plays, by characters or by words.

python -m experiments.char_lm --flagfile=experiments/flags/char_lm.flags \
  --data_dir=DIR --workdir=DIR
python -m experiments.generate --workdir=DIR --prompt="ROMEO:"

DIR holds tinyshakespeare.txt, or it is downloaded; the last tenth is validation, as is
the custom. The text is read at 64 places at once; the state goes on from step to step,
gradients go back 128 characters. Loss in nats a character. Source: Karpathy, nanoGPT,
whose small transformer has 10.7 million parameters and was trained on a GPU.
"""

import dataclasses
import pathlib
from typing import Literal

from experiments import experiment
from experiments.texts import writing
from seqjax import config as config_lib
from seqjax.config import field
from seqjax.data.texts import shakespeare, synthetic
from seqjax.data.texts.tables import read_text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(writing.Config):
  """What it can be told; see --help."""

  dataset: Literal['tinyshakespeare', 'file', 'synthetic'] = field(
    'tinyshakespeare',
    'Text: tinyshakespeare from --data_dir, file from --text_file, or a generated one.',
  )
  text_file: str = field('', 'Any text, UTF-8, with --dataset=file.', path=True)
  features: int = 256
  learning_rate: float = 8e-3
  warmup_steps: int = 50
  clip_global_norm: float | None = 1.0
  num_epochs: int = field(16, 'Passes over the training text.', at_least=1)


def load_text(config: Config) -> str:
  """The text that the flags ask for."""
  if config.dataset == 'synthetic':
    return synthetic.play(0, 1_500)
  if config.dataset == 'file':
    return read_text(pathlib.Path(config.text_file))
  return shakespeare.load(config.data_dir, config.cache_dir)


make_model = writing.make_model
task = writing.Of(load_text, lambda config: config.dataset == 'tinyshakespeare')
run = experiment.training(
  task, 'char_lm', '{layer}({features}) on {dataset}, by {tokens}', make_model
)

if __name__ == '__main__':
  config_lib.main(Config, run)
