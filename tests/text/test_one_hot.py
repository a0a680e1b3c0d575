"""One-hot, n-grams, the hashing trick: by hand, slow twins and other processes."""

import collections
import os
import string
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import seqjax
from seqjax.text.one_hot import (
  NUM_CHARACTER_IDS,
  character_ids,
  collision_rate,
  hash_id,
  hash_words,
  ngrams,
  one_hot_characters,
  one_hot_ids,
  one_hot_words,
)
from seqjax.text.tokenizer import Tokenizer, split_words

CAT_AND_DOG = ['The cat sat on the mat.', 'The dog ate my homework.']


def test_words_of_the_chapter():
  tokenizer = Tokenizer().fit(CAT_AND_DOG)
  x = one_hot_words(CAT_AND_DOG, tokenizer, 10)
  assert x.shape == (2, 10, 10)
  assert x.dtype == np.float32
  expected = [[1, 2, 3, 4, 1, 5, 0, 0, 0, 0], [1, 6, 7, 8, 9, 0, 0, 0, 0, 0]]
  np.testing.assert_array_equal(x.argmax(-1), expected)
  np.testing.assert_array_equal(x.sum(-1), np.array(expected) > 0)


def test_words_have_the_same_shape_whatever_the_texts():
  tokenizer = Tokenizer(7).fit(CAT_AND_DOG)
  x = one_hot_words(['cat ' * 9, '', 'dog homework unseen cat'], tokenizer, 4)
  assert x.shape == (3, 4, 7)
  np.testing.assert_array_equal(
    x.argmax(-1), [[2, 2, 2, 2], [0, 0, 0, 0], [6, 2, 0, 0]]
  )
  assert one_hot_words([], tokenizer, 4).shape == (0, 4, 7)
  # num_words may be more than there are words.
  assert one_hot_words(['cat'], Tokenizer(50).fit(['cat']), 4).shape == (1, 4, 50)


def test_characters():
  printable = ''.join(map(chr, range(32, 127)))
  assert set(printable) == set(string.printable) - set('\t\n\r\x0b\x0c')
  assert character_ids(printable) == list(range(1, 96))
  x = one_hot_characters(['a~ é\n', 'The cat sat'], 6)
  assert x.shape == (2, 6, NUM_CHARACTER_IDS)
  np.testing.assert_array_equal(x[0].argmax(-1), [66, 95, 1, 0, 0, 0])
  np.testing.assert_array_equal(x[0].sum(-1), [1, 1, 1, 0, 0, 0])
  text = ''.join(printable[i - 1] for i in x[1].argmax(-1))
  assert text == 'The ca'


@given(
  sequences=st.lists(st.lists(st.integers(0, 4), max_size=6), max_size=4),
  length=st.integers(1, 7),
)
def test_one_hot_against_a_loop(sequences, length):
  expected = np.zeros((len(sequences), length, 5))
  for n, ids in enumerate(sequences):
    for t, i in enumerate(ids[:length]):
      if i:
        expected[n, t, i] = 1
  np.testing.assert_array_equal(one_hot_ids(sequences, length, 5), expected)


def test_sides_and_dtype_of_one_hot():
  x = one_hot_ids([[1, 2, 3]], 2, 4, truncating='pre', dtype=np.bool_)
  np.testing.assert_array_equal(x, [[[0, 0, 1, 0], [0, 0, 0, 1]]])
  assert x.dtype == np.bool_
  x = one_hot_ids([[1]], 2, 2, padding='pre')
  np.testing.assert_array_equal(x, [[[0, 0], [0, 1]]])


@pytest.mark.parametrize('bad', [5, -1])
def test_ids_outside_are_named(bad):
  with pytest.raises(
    ValueError, match=rf'sequences\[1\] holds id {bad}, expected \[0,'
  ):
    one_hot_ids([[1], [2, bad]], 3, 5)
  with pytest.raises(ValueError, match=r'must be lists of ids, got steps \(2,\)'):
    one_hot_ids([[[1, 2]]], 3, 5)


def test_bag_of_2_grams_of_the_chapter():
  bag = ngrams(['The', 'cat', 'sat', 'on', 'the', 'mat'], 2)
  assert bag == {
    *('The', 'The cat', 'cat', 'cat sat', 'sat', 'sat on', 'on', 'on the'),
    *('the', 'the mat', 'mat'),
  }
  assert len(ngrams(split_words('The cat sat on the mat.'), 3)) == 5 + 5 + 4
  assert ngrams(list('aba'), 2, separator='') == {'a', 'b', 'ab', 'ba'}
  assert ngrams([], 3) == set()


@given(
  tokens=st.lists(st.sampled_from(['a', 'b', 'cd']), max_size=8), n=st.integers(1, 9)
)
def test_ngrams_against_all_pairs_of_ends(tokens, n):
  expected = {
    ' '.join(tokens[i:j])
    for i in range(len(tokens))
    for j in range(i + 1, len(tokens) + 1)
    if j - i <= n
  }
  assert ngrams(tokens, n) == expected


def test_ngrams_become_a_document_matrix():
  bags = [sorted(ngrams(split_words(text), 2)) for text in CAT_AND_DOG]
  tokenizer = Tokenizer().fit(bags)
  matrix = tokenizer.to_matrix(bags)
  assert matrix.sum(-1).tolist() == [len(bag) for bag in bags]
  assert 'cat sat' in tokenizer.word_index


def test_wrong_use_of_ngrams_is_named():
  with pytest.raises(ValueError, match="token 'a b' cannot be joined by separator ' '"):
    ngrams(['a b'], 2)
  with pytest.raises(ValueError, match="token 'ab' cannot be joined by separator ''"):
    ngrams(['ab'], 2, separator='')
  with pytest.raises(ValueError, match='n must be >= 1, got 0'):
    ngrams(['a'], 0)
  with pytest.raises(TypeError, match='tokens must be a list of tokens, got one str'):
    ngrams('the cat', 2)


@settings(deadline=None)
@given(text=st.text(st.characters(exclude_categories=['Cs'])), n=st.integers(2, 2000))
def test_hashing_is_keras_with_md5(text, n):
  keras_text = pytest.importorskip('keras.src.legacy.preprocessing.text')
  expected = keras_text.hashing_trick(text, n, hash_function='md5')
  assert hash_words([text], n) == [expected]
  assert all(1 <= i <= n - 1 for i in expected)


def test_hashing_by_hand():
  # md5('') is d41d8cd98f00b204e9800998ecf8427e; 0x7e is even, so modulo 2 gives 0.
  assert hash_id('', 3) == 1
  # md5('a') is 0cc175b9c0f1b6a831c399e269772661, which ends in 0x61 = 97; 97 % 32 = 1.
  assert hash_id('a', 33) == 2
  assert hash_words(['A a.', ['a', ''], ''], 33) == [[2, 2], [2, hash_id('', 33)], []]
  with pytest.raises(ValueError, match='num_ids must be >= 2, got 1'):
    hash_id('a', 1)


def test_hashing_is_the_same_in_processes_with_other_hash_seeds():
  # A bare package in place of seqjax keeps its layers, and jax with them, out.
  code = f"""
import sys, types
package = types.ModuleType('seqjax')
package.__path__ = {list(seqjax.__path__)!r}
sys.modules['seqjax'] = package
from seqjax.text import hash_words
assert 'jax' not in sys.modules
print(hash('cat'), hash_words({CAT_AND_DOG!r}, 1000))
"""
  outputs = []
  for seed in ('1', '2'):
    env = os.environ | {'PYTHONHASHSEED': seed}
    run = subprocess.run(
      [sys.executable, '-c', code], env=env, capture_output=True, text=True, check=True
    )
    outputs.append(run.stdout.split(' ', 1))
  (salted, ids), (other_salted, other_ids) = outputs
  assert salted != other_salted  # the seed does reach the process
  assert ids == other_ids
  assert ids.strip() == str(hash_words(CAT_AND_DOG, 1000))


def test_collision_rate_counts_words_that_share():
  words = [f'word{i}' for i in range(300)]
  ids = [hash_id(word, 100) for word in words]
  sharing = sum(ids.count(i) > 1 for i in ids)
  rate = collision_rate([*words, 'word7'], 100)  # a repeated word is the same word
  assert rate.measured == sharing / 300
  np.testing.assert_allclose(rate.expected, 1 - (98 / 99) ** 299, rtol=1e-12)


def test_collision_rate_at_its_ends():
  assert collision_rate(['a'], 2) == (0, 0)
  assert collision_rate(['a', 'b'], 2) == (1, 1)
  with pytest.raises(ValueError, match='at least one word'):
    collision_rate([], 10)


def test_hash_is_uniform():
  words = [f'w{i}' for i in range(20_000)]
  rate = collision_rate(words, 30_001)
  # Standard deviation of the share, by simulation of a uniform hash.
  rng = np.random.default_rng(0)
  draws = []
  for _ in range(30):
    sizes = np.bincount(rng.integers(0, 30_000, len(words)))
    draws.append(sizes[sizes > 1].sum() / len(words))
  np.testing.assert_allclose(np.mean(draws), rate.expected, atol=2 * np.std(draws))
  assert abs(rate.measured - rate.expected) < 4 * np.std(draws)
  counts = collections.Counter(hash_id(word, 5) for word in words)
  assert set(counts) == {1, 2, 3, 4}
  assert max(abs(count - 5000) for count in counts.values()) < 5 * np.sqrt(5000 * 0.75)
