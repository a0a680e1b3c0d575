"""Made-up reviews: who reads only words fails, who reads their order does not."""

import collections
import hashlib
import re

import numpy as np
import pytest

import seqjax as sj
from seqjax.data.reviews import synthetic as synthetic_reviews
from seqjax.data.reviews.word_ids import Reviews, encode
from seqjax.text.tokenizer import split_words
from seqjax.types import InputError

GOOD, BAD = set(synthetic_reviews.GOOD), set(synthetic_reviews.BAD)
NEGATIONS = {'not', 'no', 'never', 'nobody', "wasn't", "didn't", "wouldn't"}
STRONG = {'very', 'truly', 'extremely', 'really', 'hugely', 'deeply'}
WEAK = {'slightly', 'barely', 'mildly', 'somewhat', 'faintly', 'little'}


@pytest.fixture(scope='module')
def review_sets() -> tuple[Reviews, Reviews]:
  return synthetic_reviews.reviews(4, 4000, 2000)


def read_sentence(sentence: str) -> float:
  """What a sentence says by the rules of grammar: > 0 praise, < 0 blame, 0 nothing."""
  words = split_words(sentence)
  places = [i for i, word in enumerate(words) if word in GOOD | BAD]
  if not places:
    return 0.0
  first, second = places
  clauses = words[: first + 1], words[first + 1 : second + 1]
  values = []
  for clause in clauses:
    value = 1.0 if clause[-1] in GOOD else -1.0
    value *= -1 if NEGATIONS & set(clause) else 1
    values.append(
      value * (2 if clause[-2] in STRONG else 1 if clause[-2] not in WEAK else 0.5)
    )
  if {'although', 'though'} & set(clauses[1]):
    return values[0]
  if {'but', 'yet'} & set(clauses[1]) or clauses[0][0] in ('while', 'granted'):
    return values[1]
  return sum(values)


def read_review(text: str) -> bool:
  """Whether most sentences praise."""
  sentences = re.split(r'[.!]+(?:<br /><br />| |$)', text)
  return sum(np.sign(read_sentence(sentence)) for sentence in sentences) > 0


def counts(texts: list[str], vocabulary: dict, length: int) -> np.ndarray:
  """How often each run of up to `length` words occurs: [N, V], scaled, with a bias."""
  x = np.zeros((len(texts), len(vocabulary) + 1), np.float32)
  x[:, -1] = 1
  for row, text in zip(x, texts, strict=True):
    for gram in grams(text, length):
      if gram in vocabulary:
        row[vocabulary[gram]] += 1
  return x / np.sqrt(x.mean(0) + 1e-3)


def grams(text: str, length: int) -> list[tuple[str, ...]]:
  words = split_words(text)
  return [
    gram
    for size in range(1, length + 1)
    for gram in zip(*(words[i:] for i in range(size)), strict=False)
  ]


def bag_accuracy(train: Reviews, test: Reviews, length: int, size: int) -> float:
  """Test accuracy of a linear model on the `size` most frequent runs of words."""
  frequency = collections.Counter(g for t in train.texts for g in grams(t, length))
  vocabulary = {g: i for i, (g, _) in enumerate(frequency.most_common(size))}
  x = counts(train.texts, vocabulary, length)
  y = 2 * train.labels.astype(np.float32) - 1
  w = np.linalg.solve(x.T @ x + 300 * np.eye(x.shape[1], dtype=np.float32), x.T @ y)
  return np.mean((counts(test.texts, vocabulary, length) @ w > 0) == test.labels)


def test_labels_follow_from_the_order_of_the_words(review_sets):
  for reviews in review_sets:
    right = [read_review(t) for t in reviews.texts] == reviews.labels.astype(bool)
    # The rules explain every label but the planted noise, half of it in each class.
    noisy = round(synthetic_reviews.LABEL_NOISE * len(right) / 2)
    for label in (0, 1):
      assert np.sum(~right[reviews.labels == label]) == noisy > 0


def test_the_same_words_in_another_order_say_the_opposite():
  for i in range(200):
    praise, blame = (
      synthetic_reviews._review(synthetic_reviews._dice(np.random.PCG64(i)), verdict)
      for verdict in (True, False)
    )
    assert read_review(praise)
    assert not read_review(blame)
    assert sorted(split_words(praise)) == sorted(split_words(blame))


def test_a_bag_of_words_knows_nothing(review_sets):
  assert 0.46 < bag_accuracy(*review_sets, length=1, size=1000) < 0.54


@pytest.mark.slow
def test_pairs_of_words_know_something_and_an_lstm_nearly_all():
  train, test = synthetic_reviews.reviews(1, 16000, 2000)
  assert 0.70 < bag_accuracy(train, test, length=2, size=4000) < 0.88

  data = encode(train, test, vocab_size=400, length=80)
  fitted = sj.fit(
    sj.SequenceClassifier(400, 32, sj.LSTM(32)),
    (data.train.x, data.train.y),
    loss='binary_crossentropy',
    metrics=['accuracy'],
    learning_rate=5e-3,
    batch_size=64,
    num_epochs=7,
    quiet=True,
  )
  found = fitted.evaluate((data.test.x, data.test.y))
  assert found['accuracy'] > 0.92


def test_reviews_are_balanced_and_shuffled(review_sets):
  train, test = review_sets
  assert (len(train.texts), len(test.texts)) == (4000, 2000)
  for labels in (train.labels, test.labels):
    assert labels.dtype == np.int8
    assert labels.sum() * 2 == len(labels)
    # Of random neighbours half are equal; sorted labels would have one change.
    assert 0.45 < np.mean(labels[1:] == labels[:-1]) < 0.55
  odd, _ = synthetic_reviews.reviews(0, 7, 0)
  assert odd.labels.sum() in (3, 4)


def test_reviews_read_like_reviews(review_sets):
  texts = review_sets[0].texts
  lengths = [len(split_words(text)) for text in texts]
  assert min(lengths) >= 20
  assert max(lengths) <= 95
  assert 45 < np.mean(lengths) < 60
  assert 300 < len({word for text in texts for word in split_words(text)}) < 400
  assert len(set(texts)) == len(texts)
  assert all(re.fullmatch(r'[A-Z].*[.!]', text) for text in texts)
  assert not re.search(r'[{}]|\b(\w+) \1\b', ' '.join(texts))
  for piece in ("n't ", '<br /><br />', '; ', '!'):
    assert 0.02 < np.mean([piece in text for text in texts]) < 0.9, piece


def test_train_and_test_reviews_are_independent(review_sets):
  train, test = review_sets
  assert not set(train.texts) & set(test.texts)
  _, same = synthetic_reviews.reviews(4, 10, 2000)
  assert same.texts == test.texts
  np.testing.assert_array_equal(same.labels, test.labels)


def test_a_seed_gives_the_same_reviews_everywhere():
  train, test = synthetic_reviews.reviews(7, 300, 100)
  digest = hashlib.sha256()
  for part in (train, test):
    digest.update('\n'.join(part.texts).encode())
    digest.update(part.labels.tobytes())
  assert (
    digest.hexdigest()
    == '536c52d036cd4f845296a7030d9a20d6727b2c29ed1a6fe81dbcff856171af6b'
  )
  assert synthetic_reviews.reviews(8, 300, 100)[0].texts != train.texts


@pytest.mark.parametrize('name', ['seed', 'num_train', 'num_test'])
def test_bad_numbers_of_reviews_are_named(name):
  numbers = {'seed': 0, 'num_train': 1, 'num_test': 1, name: -1}
  with pytest.raises(InputError, match=rf'^{name}: expected an integer >= 0, got -1$'):
    synthetic_reviews.reviews(**numbers)
