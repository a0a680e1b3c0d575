"""Dates as people write them into ISO 8601: 'the 3rd of May 2021', '2021-05-03'.

python -m experiments.dates --flagfile=experiments/flags/dates.flags --workdir=DIR
python -m experiments.predict --workdir=DIR --text="Friday, March 6, 1998"

Dates are generated, in twelve forms, of days from 1970 to 2069; no day of the test is
seen in training. A GRU reads both ways, another writes, with attention; attention.png
shows where it looks. `test_exact_match` is of whole dates. The task is that of the
course "Sequence Models" of deeplearning.ai, which reports no number.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from experiments import experiment
from experiments.sequences import seq2seq
from seqjax import config as config_lib
from seqjax.config import field
from seqjax.data.texts import parallel
from seqjax.data.texts.known import Parallel


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(seq2seq.Config):
  """What it can be told; see --help."""

  dataset: Literal['generated', 'synthetic'] = field(
    'generated', 'Dates: generated, or with synthetic fewer.'
  )
  num_pairs: int = field(
    12_500, 'Dates to draw, a fifth of them held out.', at_least=20
  )
  layer: Literal['lstm', 'gru', 'simple_rnn'] = 'gru'
  features: int = 64
  embed_size: int = field(32, 'Width of the embeddings, E.', at_least=1)
  beam_size: int = 1
  num_epochs: int = 12


def load_texts(config: Config) -> Mapping[str, Parallel]:
  """The dates that the flags ask for."""
  if config.dataset == 'synthetic':
    return parallel.dates(0, 2_000)
  return parallel.dates(0, config.num_pairs)


make_model = seq2seq.make_model
task = seq2seq.Of(load_texts, lambda config: config.dataset == 'generated')
run = experiment.training(task, 'dates', '{layer}({features}) on {dataset}', make_model)

if __name__ == '__main__':
  config_lib.main(Config, run)
