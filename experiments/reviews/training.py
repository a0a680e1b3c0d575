"""What the experiments on reviews share: flags, data, and the call of the loop."""

import dataclasses
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import numpy as np

import seqjax as sj
from experiments.suites import rows
from seqjax import config as config_lib
from seqjax import train as train_lib
from seqjax.config import field
from seqjax.data.batches import Bucketed, InOrder, Shuffled
from seqjax.data.reviews import imdb, word_ids
from seqjax.data.reviews import synthetic as synthetic_reviews
from seqjax.text import Tokenizer
from seqjax.training import losses, plan
from seqjax.types import Examples, InputError
from seqjax.workdir.progress import Monitor

# The file in a workdir that turns texts into the ids that the run was trained on.
VOCABULARY_FILE = 'vocabulary.json'


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
  mask_zero: bool = field(False, 'Skip the padding; the chapter runs over it.')
  validation_split: float = field(
    0.2, 'Share of the training set held out, its end.', above=0, below=1
  )
  synthetic_size: int = field(
    4_000, 'Reviews to generate; an eighth more for test.', at_least=80
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecurrentConfig(Config):
  """Those of the recurrent models."""

  features: int = field(32, 'Units of a recurrent layer, H.', at_least=1)
  dropout: float = field(
    0.0, "Rate on a recurrent layer's inputs.", at_least=0, below=1
  )
  recurrent_dropout: float = field(
    0.0, "Rate on a recurrent layer's state.", at_least=0, below=1
  )
  bucket_by_length: bool = field(
    False,
    'Batches of like length: padding in front of all rows is skipped (--mask_zero), or '
    'without dropout run once for all rows of a layer on the embedding.',
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    dropped = self.dropout or self.recurrent_dropout
    if self.bucket_by_length and dropped and not self.mask_zero:
      raise InputError(
        '--bucket_by_length with dropout needs --mask_zero: unmasked, the padding of '
        'each row is dropped in its own way and nothing is saved'
      )

  def layer_options(self) -> dict[str, Any]:
    """Arguments that each recurrent layer of a model gets."""
    return {
      'features': self.features,
      'dropout': self.dropout,
      'recurrent_dropout': self.recurrent_dropout,
    }


def classifier(
  config: Config, encoder: nn.Module, *, frozen: bool = False
) -> sj.SequenceClassifier:
  """ids [B, T] -> logits [B], by an encoder [B, T, E] -> [B, H]."""
  V, E = config.vocab_size, config.embed_size
  return sj.SequenceClassifier(V, E, encoder, mask_zero=config.mask_zero, frozen=frozen)


class Data(NamedTuple):
  """The reviews of a run as rows of ids, and what made ids of them."""

  train: Examples
  validation: Examples
  test: Examples
  vocabulary: word_ids.Vocabulary | Tokenizer
  facts: dict[str, str]


def load_texts(config: Config) -> tuple[word_ids.Reviews, word_ids.Reviews]:
  """The reviews that the flags ask for, as texts: (train, test)."""
  if config.dataset == 'imdb':
    return imdb.load_texts(config.data_dir, config.cache_dir)
  return synthetic_reviews.reviews(0, config.synthetic_size, config.synthetic_size // 8)


def load(config: Config) -> Data:
  """The reviews that the flags ask for, as ids."""
  sizes = {'vocab_size': config.vocab_size, 'length': config.length}
  if config.dataset == 'imdb':
    encoded = imdb.load(config.data_dir, **sizes, cache_dir=config.cache_dir)
  else:
    train_texts, test_texts = load_texts(config)
    encoded = word_ids.encode(train_texts, test_texts, **sizes)
  train, validation = word_ids.split_validation(encoded.train, config.validation_split)
  stats = encoded.train_stats
  facts = {
    'words': f'{stats.mean_length:.0f} a review; {stats.share_truncated:.1%} of '
    f'reviews cut, {stats.share_oov:.1%} of words unknown'
  }
  return Data(train, validation, encoded.test, encoded.vocabulary, facts)


def train(
  config: Config,
  data: Data,
  *,
  name: str,
  title: str,
  model: nn.Module,
  test_last: bool = False,
) -> dict[str, Any]:
  """Trains a classifier of reviews; returns the result.

  Args:
    config: With the flags of the experiment.
    data: From `load`.
    name: Of the experiment, as in its command.
    title: The model, for the picture.
    model: int ids [B, T] -> logits [B].
    test_last: As for `train.run`.
  """
  feed = Shuffled(data.train, config.batch_size, config.seed)
  if isinstance(config, RecurrentConfig) and config.bucket_by_length:
    lengths = np.count_nonzero(data.train.x, axis=1)
    feed = Bucketed(data.train, lengths, config.batch_size, config.seed)
  counts = (len(part.x) for part in (data.train, data.validation, data.test))
  sizes = '{:,} training, {:,} validation, {:,} test'.format(*counts)
  number = rows.published(name, 'best.val_accuracy')
  published = {} if number is None else {'accuracy': number}
  return train_lib.run(
    config,
    plan.Task(
      model,
      losses.binary_xent,
      {'accuracy': losses.binary_accuracy},
      Monitor('accuracy', higher_is_better=True),
    ),
    plan.Data(
      feed,
      InOrder(data.validation, config.batch_size),
      InOrder(data.test, config.batch_size),
    ),
    name=name,
    title=f'{title} on {config.dataset} reviews',
    facts={'data': config.dataset, 'reviews': sizes, **data.facts},
    published=published if config.dataset == 'imdb' else None,
    test_last=test_last,
    files={VOCABULARY_FILE: data.vocabulary.save},
  )
