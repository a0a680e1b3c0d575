"""LSTM on IMDB reviews: 0.882 +- 0.002 best validation accuracy over 3 seeds.

python -m experiments.imdb_lstm --flagfile=experiments/flags/imdb_lstm.flags \
  --data_dir=DIR --workdir=DIR

Predicts from the words of a review, in their order, whether it is positive. Test
accuracy of the best epoch 0.873 +- 0.003; two CPU cores, commit b9ea501. Source: the
chapter, section 6.2.3, validation accuracy up to 0.88.
"""

import dataclasses
from typing import Any, Literal

import numpy as np

import seqjax as sj
from seqjax import config as config_lib
from seqjax import loop, losses
from seqjax.config import field
from seqjax.data import imdb, reviews, synthetic
from seqjax.data.batches import Bucketed, InOrder, Shuffled
from seqjax.progress import Monitor
from seqjax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config_lib.TrainConfig):
  """The chapter's settings; see --help."""

  dataset: Literal['imdb', 'synthetic'] = field(
    'imdb', 'Reviews: imdb from --data_dir or the network, synthetic from a generator.'
  )
  vocab_size: int = field(
    10_000, 'Ids, V: the most frequent words and four others.', at_least=5
  )
  length: int = field(
    500, 'Words of a review, T: its last ones, padded in front.', at_least=1
  )
  embed_size: int = field(32, 'Width of the embedding, E.', at_least=1)
  features: int = field(32, 'LSTM units, H.', at_least=1)
  dropout: float = field(0.0, "Rate on the LSTM's inputs.", at_least=0, below=1)
  recurrent_dropout: float = field(
    0.0, "Rate on the LSTM's state.", at_least=0, below=1
  )
  mask_zero: bool = field(False, 'Skip the padding; the chapter runs over it.')
  bucket_by_length: bool = field(
    False, 'Batches of like length, which cost their longest; needs --mask_zero.'
  )
  validation_split: float = field(
    0.2, 'Share of the training set held out, its end.', above=0, below=1
  )
  synthetic_size: int = field(
    16_000, 'Reviews to generate; an eighth more for test.', at_least=80
  )


def run(config: Config) -> dict[str, Any]:
  """Trains; returns the result."""
  if config.bucket_by_length and not config.mask_zero:
    raise InputError('--bucket_by_length needs --mask_zero: unmasked padding counts')
  data = load(config)
  stats = data.train_stats
  train, validation = reviews.split_validation(data.train, config.validation_split)
  model = sj.SequenceClassifier(
    config.vocab_size,
    config.embed_size,
    sj.LSTM(
      config.features,
      dropout=config.dropout,
      recurrent_dropout=config.recurrent_dropout,
    ),
    mask_zero=config.mask_zero,
  )
  feed = Shuffled(train, config.batch_size, config.seed)
  if config.bucket_by_length:
    lengths = np.count_nonzero(train.x, axis=1)
    feed = Bucketed(train, lengths, config.batch_size, config.seed)
  return loop.train(
    config,
    name='imdb_lstm',
    title=f'LSTM({config.features}) on {config.dataset} reviews',
    model=model,
    loss=losses.binary_xent,
    metrics={'accuracy': losses.binary_accuracy},
    feed=feed,
    validation=InOrder(validation, config.batch_size),
    test=InOrder(data.test, config.batch_size),
    monitor=Monitor('accuracy', higher_is_better=True),
    facts={
      'data': config.dataset,
      'reviews': f'{len(train.x):,} training, {len(validation.x):,} validation, '
      f'{len(data.test.x):,} test',
      'words': f'{stats.mean_length:.0f} a review; {stats.share_truncated:.1%} of '
      f'reviews cut, {stats.share_oov:.1%} of words unknown',
    },
    published={'accuracy': 0.88} if config.dataset == 'imdb' else None,
  )


def load(config: Config) -> reviews.ReviewData:
  """The reviews that the flags ask for, as ids."""
  if config.dataset == 'imdb':
    return imdb.load(
      config.data_dir,
      vocab_size=config.vocab_size,
      length=config.length,
      cache_dir=config.cache_dir,
    )
  texts = synthetic.reviews(0, config.synthetic_size, config.synthetic_size // 8)
  return reviews.encode(*texts, vocab_size=config.vocab_size, length=config.length)


if __name__ == '__main__':
  config_lib.main(Config, run)
