"""Faults of files of word vectors: each is named, or left out and counted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vector_bytes import (
  LAYOUTS,
  MATRIX,
  PLAIN_MATRIX,
  PLAIN_WORDS,
  check,
  line,
  vector_file,
)

from seqjax.text.vectors.load import load_vectors
from seqjax.text.vectors.rows import MAX_WORD, Skipped
from seqjax.types import InputError


@pytest.fixture
def load(tmp_path):
  """Writes bytes to a file and reads it."""

  def write_and_load(raw, layout='glove', **options):
    path = tmp_path / 'vectors'
    path.write_bytes(raw)
    return load_vectors(path, layout, **options)

  return write_and_load


GOOD = line('a', [1, 2, 3])


@pytest.mark.parametrize(
  ('bad', 'reason', 'found'),
  [
    (b'b 1 2', 'width', 'expected a word and 3 numbers, found 2'),
    (b'b 1 2 3 4', 'width', 'expected a word and 3 numbers, found 4'),
    (b'b c 1 2 3 4', 'width', 'expected a word and 3 numbers, found 5'),
    (b'b\t1 2 3 4', 'width', 'expected a word and 3 numbers, found 4'),
    (b'b', 'width', 'expected a word and 3 numbers, found 0'),
    (b'', 'width', 'expected a word and 3 numbers, found 0'),
    (b'b 1 x\x07 3', 'number', r"expected numbers, found 'x\x07'"),
    (b'b 1  3', 'number', "expected numbers, found ''"),
    (b'b 1 2_0 3', 'number', "expected numbers, found '2_0'"),
    (b'b 1 \xd9\xa1 3', 'number', "expected numbers, found '\u0661'"),
    (b'b 1 nan 3', 'not finite', 'found NaN or infinity'),
    (b'b 1 2 -inf', 'not finite', 'found NaN or infinity'),
    (b'b 1 1e39 3', 'not finite', 'found NaN or infinity'),
    (b' 1 2 3', 'word length', f'expected a word of 1 to {MAX_WORD} bytes'),
    (b'b' * (MAX_WORD + 1) + b' 1 2 3', 'word length', 'expected a word of 1 to'),
    (b'na\xefve 1 2 3', 'encoding', r"a word in utf-8, found 'na\\xefve'"),
  ],
)
def test_a_bad_line_is_named_or_counted(load, bad, reason, found):
  raw = GOOD + bad + b'\n' + line('z', [7, 8, 9]) + bad + b'\n'
  with pytest.raises(InputError) as error:
    load(raw)
  assert 'vectors, line 2: ' in str(error.value)
  assert found in str(error.value)
  assert str(error.value).isprintable()  # so it is one line, too
  vectors = load(raw, on_error='skip')
  check(vectors, ['a', 'z'], np.float32([[1, 2, 3], [7, 8, 9]]))
  assert vectors.skipped == {reason: Skipped(2, 'line 2')}


def test_the_first_of_several_faults_is_the_one_named(load):
  raw = GOOD + b'b 1 x 3\n' + b'c 1\n'
  with pytest.raises(InputError, match='line 2: expected numbers'):
    load(raw)
  skipped = load(raw, on_error='skip').skipped
  assert skipped == {'number': Skipped(1, 'line 2'), 'width': Skipped(1, 'line 3')}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_duplicate_words(load, layout):
  words, matrix = ['a', 'b', 'a', 'a'], MATRIX[:4]
  raw = vector_file(layout, words, matrix)
  vectors = load(raw, layout)
  check(vectors, ['a', 'b'], matrix[:2])
  (skipped,) = vectors.skipped.items()
  line = {'glove': 'line 3', 'word2vec': 'line 4'}
  # 4 bytes of header; a word, a space, 5 numbers; and the newline is of the next one.
  assert skipped == ('duplicate word', Skipped(2, line.get(layout, 'byte 49')))
  with pytest.raises(
    InputError, match=rf"{skipped[1].first}: word 'a' occurred before"
  ):
    load(raw, layout, on_duplicate='raise')
  # Damage is another matter.
  assert 'duplicate word' in load(raw, layout, on_error='skip').skipped


def test_encodings(load):
  latin = vector_file('glove', encoding='latin-1')
  with pytest.raises(InputError, match=r"line 4: expected a word in utf-8, found 'na"):
    load(latin)
  check(load(latin, encoding='latin-1'))
  assert load(latin, encoding='latin-1', words=['naïve', 'π']).index == {'naïve': 0}
  with pytest.raises(InputError, match='line 1: expected a word and 1 to'):
    load(vector_file('glove', ['a', 'b'], MATRIX[:2], encoding='utf-16'))


def test_binary_faults_are_named_or_counted(load):
  matrix = PLAIN_MATRIX.copy()
  matrix[2, 3] = np.nan
  raw = vector_file('word2vec_binary', PLAIN_WORDS, matrix)
  raw = raw.replace(b"'s ", b"'\xff ")
  where = raw.index('naïve'.encode()) - 1  # of the newline in front
  with pytest.raises(InputError, match=f'byte {where}: expected finite numbers'):
    load(raw, 'word2vec_binary')
  vectors = load(raw, 'word2vec_binary', on_error='skip')
  kept = [0, 1, 4, 5, 6]
  check(vectors, [PLAIN_WORDS[i] for i in kept], PLAIN_MATRIX[kept])
  assert {reason: s.total for reason, s in vectors.skipped.items()} == {
    'not finite': 1,
    'encoding': 1,
  }


@settings(deadline=None, max_examples=200)
@given(
  layout=st.sampled_from(LAYOUTS),
  at=st.integers(0, 10_000),
  byte=st.integers(0, 255),
  on_error=st.sampled_from(['raise', 'skip']),
)
def test_one_wrong_byte_is_no_other_error(tmp_path_factory, layout, at, byte, on_error):
  raw = bytearray(vector_file(layout, PLAIN_WORDS, PLAIN_MATRIX))
  raw[at % len(raw)] = byte
  path = tmp_path_factory.getbasetemp() / 'wrong_byte'
  path.write_bytes(raw)
  try:
    vectors = load_vectors(path, layout, on_error=on_error)
  except InputError as e:
    message = str(e)
  else:
    assert np.isfinite(vectors.matrix).all()
    assert vectors.matrix.shape[0] == len(vectors) > 0
    return
  assert str(path) in message
  assert '\n' not in message
