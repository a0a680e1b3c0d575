"""Adding two numbers, character by character: '27+605' becomes '632'.

python -m experiments.addition --flagfile=experiments/flags/addition.flags \
  --workdir=DIR
python -m experiments.predict --workdir=DIR --text=27+605

Sums are generated; none of the test is seen in training, nor the same one turned round.
An LSTM reads the sum from its end, and hands its state to another, which writes; there
is no attention. `test_accuracy` is over characters with the end, after right ones;
`test_exact_match` over whole numbers. Source: keras-io, "Sequence to sequence learning
for performing number addition": three digits, LSTM 128, 50,000 sums.
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
from seqjax.types import InputError

_SYNTHETIC = 1_000  # sums


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(seq2seq.Config):
  """What it can be told; see --help."""

  dataset: Literal['generated', 'synthetic'] = field(
    'generated', 'Sums: generated, or with synthetic 1,000 of them at most.'
  )
  digits: int = field(3, 'Of each number, at most.', at_least=1, below=9)
  num_pairs: int = field(62_500, 'Sums to draw, a fifth of them held out.', at_least=20)
  length: int = field(17, 'Characters of a text, T.', at_least=1)
  bidirectional: bool = False
  reverse: bool = field(True, 'Read from the last character to the first.')
  attention: Literal['additive', 'dot', 'none'] = 'none'
  features: int = 128
  embed_size: int = field(32, 'Width of the embeddings, E.', at_least=1)
  beam_size: int = 1
  batch_size: int = 128
  num_epochs: int = 20

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.length < 2 * self.digits + 1:
      raise InputError(
        f'`length` must be at least {2 * self.digits + 1} for `digits={self.digits}`'
      )


def load_texts(config: Config) -> Mapping[str, Parallel]:
  """The sums that the flags ask for."""
  few = config.dataset == 'synthetic'
  most = min(_SYNTHETIC, parallel.most_sums(config.digits))
  num_pairs = min(config.num_pairs, most) if few else config.num_pairs
  return parallel.addition(0, num_pairs, config.digits)


make_model = seq2seq.make_model
task = seq2seq.Of(load_texts, lambda config: config.dataset == 'generated')
run = experiment.training(
  task, 'addition', '{layer}({features}) on {dataset}', make_model
)

if __name__ == '__main__':
  config_lib.main(Config, run)
