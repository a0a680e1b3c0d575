"""German captions of pictures into English ones: Multi30k, with attention.

python -m experiments.translate --flagfile=experiments/flags/translate.flags \
  --data_dir=DIR --workdir=DIR
python -m experiments.predict --workdir=DIR --text="Ein Hund rennt am Strand."

DIR holds multi30k/{train,val,test_2016_flickr}.{de,en}.gz. Words in lower case, with
the signs between them; `test_bleu` is sacrebleu's of the test's captions, which takes
upper and lower case for the same. BLEU needs sacrebleu, an extra: pip
install sacrebleu.
"""

import dataclasses
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
  tokens: Literal['characters', 'words'] = 'words'
  min_count: int = 2
  features: int = 192
  embed_size: int = field(192, 'Width of the embeddings, E.', at_least=1)
  layer: Literal['lstm', 'gru', 'simple_rnn'] = 'gru'
  dropout: float = 0.3
  output_dropout: float = 0.3
  label_smoothing: float = 0.1
  learning_rate: float = 2e-3
  warmup_steps: int = 200
  num_epochs: int = 8


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
