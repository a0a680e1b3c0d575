"""The draw of few reviews, and the vectors brought along for their words."""

import dataclasses

import numpy as np
import pytest

from experiments.reviews import few
from seqjax.data.reviews import synthetic as synthetic_reviews
from seqjax.text import Tokenizer
from seqjax.types import InputError

_CONFIG = few.Config(
  dataset='synthetic',
  synthetic_size=120,
  vocab_size=60,
  length=30,
  embed_size=3,
  embedding='scratch',
  num_train=20,
  num_validation=50,
  sample_seed=7,
)


def test_the_draw_is_the_same_for_the_same_seed_and_splits_share_nothing():
  data, matrix = few.load(_CONFIG)
  again, _ = few.load(dataclasses.replace(_CONFIG, seed=3, embedding='frozen'))
  other, _ = few.load(dataclasses.replace(_CONFIG, sample_seed=8))
  default, _ = few.load(dataclasses.replace(_CONFIG, sample_seed=None, seed=7))
  assert matrix is None
  assert data.train.x.shape == (20, 30)
  assert data.validation.x.shape == (50, 30)
  np.testing.assert_array_equal(data.train.x, again.train.x)
  np.testing.assert_array_equal(data.train.x, default.train.x)
  assert (data.train.x != other.train.x).any()
  rows = np.concatenate([data.train.x, data.validation.x])
  assert len(np.unique(rows, axis=0)) == 70


def test_ids_are_the_tokenizers_and_labels_those_of_the_texts():
  data, _ = few.load(_CONFIG)
  train, test = synthetic_reviews.reviews(0, 120, 15)
  tokenizer = Tokenizer(60).fit(train.texts)
  order = np.random.RandomState(7).permutation(120)
  for row, label, i in zip(data.train.x, data.train.y, order, strict=False):
    ids = tokenizer.encode([train.texts[i]])[0][-30:]
    assert row.tolist() == [0] * (30 - len(ids)) + ids
    assert label == train.labels[i]
  assert len(data.test.x) == len(test.texts)


def test_few_are_left_to_validate_on():
  data, _ = few.load(dataclasses.replace(_CONFIG, num_train=119))
  assert len(data.validation.x) == 1
  with pytest.raises(InputError, match='--num_train must be below the 120 reviews'):
    few.load(dataclasses.replace(_CONFIG, num_train=120))


def _with_vectors(tmp_path, monkeypatch, **settings):
  """Loads as from real reviews, with a GloVe file of three words."""
  lines = ['the 0.5 -1 2', 'cast 1 2 3', 'unheard 4 5 6']
  (tmp_path / 'tiny.txt').write_text('\n'.join(lines) + '\n')
  texts = synthetic_reviews.reviews(0, 120, 15)
  monkeypatch.setattr(few.reviews, 'load_texts', lambda config: texts)
  config = dataclasses.replace(
    _CONFIG, dataset='imdb', data_dir=str(tmp_path), vectors='tiny.txt', vocab_size=400
  )
  return few.load(dataclasses.replace(config, **{'embedding': 'frozen', **settings}))


def test_rows_of_the_matrix_are_the_vectors_of_the_words(tmp_path, monkeypatch):
  data, matrix = _with_vectors(tmp_path, monkeypatch)
  index = data.vocabulary.word_index
  expected = np.zeros((400, 3), np.float32)
  expected[index['the']] = [0.5, -1, 2]
  expected[index['cast']] = [1, 2, 3]
  np.testing.assert_array_equal(matrix, expected)
  assert data.facts['vectors'].startswith('tiny.txt: 2 of ')
  assert 'of the running text' in data.facts['vectors']


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'vectors': 'none.txt'}, '--vectors: .*none.txt is no file'),
    ({'embed_size': 4}, '--embed_size must be 3, the width .* got 4'),
  ],
)
def test_vectors_that_cannot_be_used_are_refused(
  tmp_path, monkeypatch, settings, message
):
  with pytest.raises(InputError, match=message):
    _with_vectors(tmp_path, monkeypatch, **settings)
