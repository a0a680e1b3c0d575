"""A look at the reviews: sizes, lengths, the word index and one as a model sees it."""

import dataclasses
import pathlib
import textwrap
from typing import Literal

import numpy as np

from experiments.reviews import training
from seqjax import config as config_lib
from seqjax.config import field
from seqjax.data.reviews.word_ids import INDEX_FROM, Reviews, Vocabulary
from seqjax.text import Tokenizer, split_words
from seqjax.types import InputError
from seqjax.view import console, plots


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config_lib.DataConfig):
  """See --help."""

  dataset: Literal['imdb', 'synthetic'] = field(
    'imdb', 'Reviews: imdb from --data_dir or the network, synthetic from a generator.'
  )
  workdir: str = field('runs/imdb_explore', 'Folder of the picture.', path=True)
  vocab_size: int = field(
    1_000, 'Ids, V: the most frequent words and four others.', at_least=5
  )
  review: int = field(0, 'Training review to show.', at_least=0)
  head: int = field(20, 'Words of the index to show.', at_least=1)


def run(config: Config) -> None:
  """Prints and draws."""
  train, test = training.load_texts(
    training.Config(
      dataset=config.dataset, data_dir=config.data_dir, cache_dir=config.cache_dir
    )
  )
  if config.review >= len(train.texts):
    raise InputError(f'--review must be below {len(train.texts)}, got {config.review}')
  lengths = _lengths(train)
  rows = {'train': _facts(train, lengths), 'test': _facts(test, _lengths(test))}
  console.results_table(rows, title='Reviews, and words in a review')

  tokenizer = Tokenizer().fit(train.texts)
  words, counts = list(tokenizer.word_index), tokenizer.word_counts
  print(f'{len(words):,} different words in the training reviews\n')
  head = {
    word: {'rank': rank, 'id': rank + INDEX_FROM, 'count': counts[word]}
    for rank, word in enumerate(words[: config.head], 1)
  }
  console.results_table(head, title='Head of the word index')

  vocabulary = Vocabulary(
    words[: config.vocab_size - INDEX_FROM - 1], config.vocab_size
  )
  (ids,) = vocabulary.encode([train.texts[config.review]])
  label = 'positive' if train.labels[config.review] else 'negative'
  print(
    f'Training review {config.review}, {label}: {len(ids)} ids below '
    f'{config.vocab_size:,}, {" ".join(map(str, ids[:8]))} ..., decoded:'
  )
  print(textwrap.fill(vocabulary.decode(ids), 80), '\n')

  folder = pathlib.Path(config.workdir)
  folder.mkdir(parents=True, exist_ok=True)
  plots.histogram(
    lengths,
    folder / 'lengths.png',
    title=f'Lengths of the {config.dataset} training reviews',
    xlabel='Length (words)',
  )
  console.facts_table({'picture': folder / 'lengths.png'})


def _lengths(part: Reviews) -> np.ndarray:
  """Words of each review, [N]."""
  return np.array([len(split_words(text)) for text in part.texts])


def _facts(part: Reviews, lengths: np.ndarray) -> dict[str, float]:
  spread = np.percentile(lengths, [0, 25, 50, 75, 100]).round().astype(int).tolist()
  names = ('least', '25 %', 'median', '75 %', 'most')
  return {
    'reviews': len(part.texts),
    'positive': int(part.labels.sum()),
    'mean': float(lengths.mean()),
    **dict(zip(names, spread, strict=True)),
  }
