"""German captions of pictures into English ones: Multi30k, with attention.

python -m experiments.translate --flagfile=experiments/flags/translate.flags \
  --data_dir=DIR --workdir=DIR
python -m experiments.predict --workdir=DIR --text="Ein Hund rennt am Strand."

DIR holds multi30k/{train,val,test_2016_flickr}.{de,en}.gz. Words in lower case, with
the signs between them; `test_bleu` is sacrebleu's of the test's captions, which takes
upper and lower case for the same. About 33 is what full-size models with attention have
on flickr 2016. BLEU needs sacrebleu, an extra: pip install sacrebleu.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal

from experiments import experiment
from experiments.sequences import seq2seq
from seqjax import config as config_lib
from seqjax.config import field
from seqjax.data.texts import known, parallel
from seqjax.data.texts.known import Parallel


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(seq2seq.Config):
  """What it can be told; see --help."""

  dataset: Literal['multi30k', 'synthetic'] = field(
    'multi30k', 'Captions: multi30k from --data_dir, synthetic of a made-up language.'
  )
  tokens: Literal['characters', 'words'] = field(
    'words', 'What is read and written at each step; words in lower case.'
  )
  min_count: int = field(
    2, 'Tokens that occur less often are unknown, and never written.', at_least=1
  )
  features: int = field(256, 'Units of each recurrent layer, H.', at_least=1)
  embed_size: int = field(256, 'Width of the embeddings, E.', at_least=1)
  layer: Literal['lstm', 'gru', 'simple_rnn'] = field('gru', 'The recurrent layer.')
  dropout: float = field(
    0.3, "Rate on a recurrent layer's inputs.", at_least=0, below=1
  )
  output_dropout: float = field(
    0.3, 'Rate on what the logits are made of.', at_least=0, below=1
  )
  label_smoothing: float = field(
    0.1, 'Share of a label given to all classes, in training.', at_least=0, below=1
  )
  learning_rate: float = field(
    2e-3, 'Step size of the optimiser, the highest.', above=0, below=math.inf
  )
  warmup_steps: int = field(200, 'Steps in which the rate rises from 0.', at_least=0)
  num_epochs: int = field(10, 'Passes over the training set.', at_least=1)


def load_texts(config: Config) -> Mapping[str, Parallel]:
  """The captions that the flags ask for."""
  if config.dataset == 'synthetic':
    return parallel.captions(0, 2_000)
  return known.multi30k(config.data_dir)


make_model = seq2seq.make_model
task = seq2seq.Of(load_texts, lambda config: config.dataset == 'multi30k')
run = experiment.training(
  task, 'translate', '{layer}({features}) on {dataset}', make_model
)

if __name__ == '__main__':
  config_lib.main(Config, run)
