"""A random draw of few reviews, and word vectors brought along for them."""

import dataclasses
import functools
import operator
import pathlib
from typing import Literal

import numpy as np

from experiments import reviews
from seqjax.config import field
from seqjax.data.reviews.word_ids import Reviews
from seqjax.text import Tokenizer, embedding_matrix, load_vectors, pad_sequences
from seqjax.types import Examples, InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(reviews.Config):
  """Which reviews, and which vectors; see --help."""

  embedding: Literal['frozen', 'tuned', 'scratch'] = field(
    'frozen', 'The vectors as they are, trained further, or none and a trained matrix.'
  )
  vectors: str = field(
    'glove.6B.100d.txt',
    'GloVe file, plain, gzip or zip: a path, or a name in --data_dir. Not used with '
    'scratch, nor with synthetic reviews, whose vectors are drawn at random.',
    path=True,
  )
  num_train: int = field(200, 'Training reviews, drawn at random.', at_least=1)
  num_validation: int = field(
    10_000,
    'Validation reviews, drawn from the others; all if there are fewer.',
    at_least=1,
  )
  sample_seed: int | None = field(
    None, "Seed of that draw; default the run's --seed.", at_least=0
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.num_seeds > 1 and self.sample_seed is None:
      raise InputError(
        '`num_seeds` trains each seed on the same reviews: it needs `sample_seed`'
      )


predict = functools.partial(
  reviews.predict,
  load_vocabulary=Tokenizer.load,
  data_of=operator.itemgetter(0),
)
INPUTS, ASKED = reviews.INPUTS, reviews.ASKED
about = functools.partial(reviews.about, load_vocabulary=Tokenizer.load)


def load(config: Config) -> tuple[reviews.Data, np.ndarray | None]:
  """The reviews drawn, and the embedding [V, E] to start from (None with scratch).

  The tokenizer is fitted on all training reviews, as in the chapter: their words are
  known, only the labels of most are not used.

  Raises:
    InputError: --num_train leaves nothing to validate on, or the file of vectors is
      missing, damaged or of another width.
  """
  train, test = reviews.load_texts(config)
  drawn, held_out = _draw(train, config)
  tokenizer = Tokenizer(config.vocab_size).fit(train.texts)
  matrix, facts = None, {}
  if config.embedding != 'scratch':
    matrix, facts['vectors'] = _vectors(config, tokenizer)

  def examples(part: Reviews) -> Examples:
    rows = pad_sequences(tokenizer.encode(part.texts), config.length)
    return Examples(rows, part.labels.astype(np.float32))

  data = reviews.Data(
    examples(drawn), examples(held_out), examples(test), tokenizer, facts
  )
  return data, matrix


def _draw(train: Reviews, config: Config) -> tuple[Reviews, Reviews]:
  """Training and validation reviews: the same ones for the same seed."""
  N, num_train = len(train.texts), config.num_train
  if num_train >= N:
    raise InputError(f'--num_train must be below the {N:,} reviews, got {num_train}')
  seed = config.seed if config.sample_seed is None else config.sample_seed
  # NumPy promises RandomState's stream for all times; Generator's may change.
  order = np.random.RandomState(seed).permutation(N)
  parts = order[:num_train], order[num_train:][: config.num_validation]
  drawn, held_out = (
    Reviews([train.texts[i] for i in part], train.labels[part]) for part in parts
  )
  return drawn, held_out


def _vectors(config: Config, tokenizer: Tokenizer) -> tuple[np.ndarray, str]:
  """The matrix [V, E], and what is to be said of it."""
  V, E = config.vocab_size, config.embed_size
  if config.dataset == 'synthetic':
    return np.random.RandomState(0).normal(0, 0.4, (V, E)), 'drawn at random'
  path = pathlib.Path(config.data_dir, config.vectors)
  if not path.is_file():
    raise InputError(
      f'--vectors: {path} is no file: name a GloVe file, or use --embedding=scratch'
    )
  vectors = load_vectors(path, words=tokenizer.word_index)
  if vectors.matrix.shape[1] != E:
    raise InputError(
      f'--embed_size must be {vectors.matrix.shape[1]}, the width of the vectors in '
      f'{path}, got {E}'
    )
  matrix, coverage = embedding_matrix(
    vectors, tokenizer.word_index, V, counts=tokenizer.word_counts
  )
  return matrix, f'{path.name}: {coverage}'
