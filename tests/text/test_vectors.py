"""Word vectors: the matrix of an embedding, the published file, speed and memory."""

import json
import subprocess
import sys

import numpy as np
import pytest

import seqjax
from seqjax.text.tokenizer import Tokenizer
from seqjax.text.vector_files import WordVectors, load_vectors
from seqjax.text.vectors import Coverage, embedding_matrix


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'on_error': 'warn'}, "on_error must be one of raise, skip, got 'warn'"),
    ({'on_duplicate': 'last'}, "on_duplicate must be one of first, raise, got 'last'"),
    ({'layout': 'fasttext'}, 'layout must be one of glove, word2vec, word2vec_binary,'),
    ({'max_words': 0}, 'max_words must be None or >= 1, got 0'),
    ({'width': 0}, r'width must be in \[1, 65536\], for GloVe only, got 0'),
    ({'width': 3, 'layout': 'word2vec'}, 'for GloVe only, got 3'),
    ({'encoding': 'utf-16'}, "encoding must be one that keeps ASCII, got 'utf-16'"),
    ({'encoding': 'nosuch'}, "encoding must be one that keeps ASCII, got 'nosuch'"),
  ],
)
def test_wrong_use_is_named(tmp_path, options, message):
  path = tmp_path / 'vectors'
  path.write_bytes(b'a 1 2\n')
  with pytest.raises(ValueError, match=message):
    load_vectors(path, **options)


def test_one_word_is_no_collection_of_words(tmp_path):
  with pytest.raises(TypeError, match='words must be a collection of words, got one'):
    load_vectors(tmp_path / 'vectors', words='the')


def _vectors(**rows):
  matrix = np.float32(list(rows.values()))
  return WordVectors({word: i for i, word in enumerate(rows)}, matrix, {})


def test_embedding_matrix_by_hand():
  vectors = _vectors(mat=[1, 2], the=[3, 4], zebra=[5, 6])
  tokenizer = Tokenizer().fit(['The cat sat on the mat.', 'the end'])
  matrix, coverage = embedding_matrix(
    vectors, tokenizer.word_index, 7, counts=tokenizer.word_counts
  )
  # the 1, cat 2, sat 3, on 4, mat 5, end 6; row 0 is padding.
  expected = [[0, 0], [3, 4], [0, 0], [0, 0], [0, 0], [1, 2], [0, 0]]
  np.testing.assert_array_equal(matrix, expected)
  assert matrix.dtype == np.float32
  assert coverage == Coverage(6, 2, 8, 4, ('cat', 'sat', 'on', 'end'))
  assert coverage.vocabulary_share == 1 / 3
  assert coverage.text_share == 1 / 2
  assert str(coverage) == (
    '2 of 6 words have a vector (33.3%), 50.0% of the running text; '
    "without: 'cat', 'sat', 'on', 'end'"
  )


def test_words_beyond_the_rows_count_for_nothing():
  vectors = _vectors(mat=[1, 2], the=[3, 4])
  index = {'the': 1, 'cat': 2, 'mat': 3}
  matrix, coverage = embedding_matrix(vectors, index, 3, counts={'the': 6, 'mat': 99})
  np.testing.assert_array_equal(matrix, [[0, 0], [3, 4], [0, 0]])
  assert coverage == Coverage(2, 1, 6, 6, ('cat',))
  _, silent = embedding_matrix(vectors, index, 3)
  assert silent.text_share is None
  assert str(silent) == "1 of 2 words have a vector (50.0%); without: 'cat'"
  matrix, nothing = embedding_matrix(vectors, {}, 2)
  assert (matrix.shape, nothing.vocabulary_share) == ((2, 2), 0)
  many = {f'w{i}': i for i in range(30)}
  assert str(embedding_matrix(vectors, many, 30)[1]).endswith("'w9', ...")


def test_ids_that_cannot_be_rows_are_named():
  vectors = _vectors(a=[1, 2])
  with pytest.raises(ValueError, match="gives id 1 to both 'a' and 'b'"):
    embedding_matrix(vectors, {'a': 1, 'b': 1}, 3)
  with pytest.raises(ValueError, match="gives 'b' the id -1"):
    embedding_matrix(vectors, {'a': 1, 'b': -1}, 3)


@pytest.mark.real_data
def test_the_published_file(real_data):
  vectors = load_vectors(real_data / 'glove.6B.100d.txt')
  assert vectors.matrix.shape == (2604, 100)
  assert list(vectors.index)[:3] == ['the', ',', '.']
  first = '-0.038194 -0.24487 0.72812 -0.39961'
  np.testing.assert_array_equal(vectors['the'][:4], np.float32(first.split()))
  assert vectors.skipped == {}
  with open(real_data / 'glove.6B.100d.txt', encoding='utf-8') as f:
    expected = np.float32([line.rsplit(' ', 100)[1:] for line in f])
  np.testing.assert_array_equal(vectors.matrix, expected)


_MEASURE = """
import json, re, sys, time, types
package = types.ModuleType('seqjax')
package.__path__ = json.loads(sys.argv[1])
sys.modules['seqjax'] = package
from seqjax.text import load_vectors
# Not ru_maxrss, which after exec still holds the peak of the parent process.
def peak():
  status = open('/proc/self/status').read()
  return 1024 * int(re.search('VmHWM:\\\\s*(\\\\d+)', status)[1])
words = {f'w{i}' for i in range(0, 400_000, 40)} if sys.argv[3] == 'some' else None
before, start = peak(), time.process_time()
vectors = load_vectors(sys.argv[2], words=words)
seconds = time.process_time() - start
print(json.dumps([len(vectors), vectors.matrix.nbytes, peak() - before, seconds]))
"""


@pytest.mark.slow
def test_400_000_vectors_in_15_seconds_and_little_more_than_their_memory(tmp_path):
  rng = np.random.default_rng(0)
  numbers = rng.normal(0, 0.4, (1000, 100))
  tails = [b' %s\n' % b' '.join(b'%.5g' % v for v in row) for row in numbers]
  path = tmp_path / 'glove.txt'
  with open(path, 'wb') as f:
    for i in range(400_000):
      f.write(b'w%d' % i + tails[i % 1000])

  def measure(which):
    command = [sys.executable, '-c', _MEASURE, json.dumps(list(seqjax.__path__))]
    run = subprocess.run([*command, path, which], capture_output=True, check=True)
    return json.loads(run.stdout)

  number, matrix, memory, seconds = measure('all')
  assert (number, matrix) == (400_000, 160_000_000)
  assert seconds < 15
  assert memory < 1.5 * matrix  # the rest is the 400,000 words and their dictionary
  number, matrix, memory, some_seconds = measure('some')
  assert number == 10_000
  assert some_seconds < seconds / 3
  assert memory < 20_000_000
