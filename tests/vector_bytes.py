"""Bytes of files of word vectors, in every layout, and a check of what is read."""

import numpy as np

WORDS = ['the', ',', '. . .', 'naïve', 'at name@domain.com', "'s", '7', 'e\x85f', 'nan']
MATRIX = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
LAYOUTS = ['glove', 'word2vec', 'word2vec_binary']


def line(word, vector, end='\n', encoding='utf-8'):
  """One line of text; nine digits are enough for every float32."""
  return (f'{word} ' + ' '.join(f'{v:.9g}' for v in vector) + end).encode(encoding)


def vector_file(layout, words=WORDS, matrix=MATRIX, **options):
  """The bytes of a file."""
  rows = list(zip(words, matrix, strict=True))
  header = b'%d %d\n' % matrix.shape
  if layout == 'glove':
    return b''.join(line(word, row, **options) for word, row in rows)
  if layout == 'word2vec':
    return header + b''.join(line(word, row, ' \n') for word, row in rows)
  newline = options.get('newline', b'\n')
  return header + b''.join(
    word.encode() + b' ' + row.astype('<f4').tobytes() + newline for word, row in rows
  )


def check(vectors, words=WORDS, matrix=MATRIX):
  """Asserts that vectors are these words and numbers, in this order."""
  assert list(vectors.index.items()) == [(word, i) for i, word in enumerate(words)]
  np.testing.assert_array_equal(vectors.matrix, matrix)
  assert vectors.matrix.dtype == np.float32
  assert len(vectors) == len(words)


# Binary words cannot hold a space, text words may.
PLAIN = [i for i, word in enumerate(WORDS) if ' ' not in word]
PLAIN_WORDS, PLAIN_MATRIX = [WORDS[i] for i in PLAIN], MATRIX[PLAIN]
