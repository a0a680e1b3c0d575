"""Files of word vectors: every layout in every packing reads alike."""

import gzip
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vector_bytes import (
  LAYOUTS,
  MATRIX,
  PLAIN_MATRIX,
  PLAIN_WORDS,
  WORDS,
  check,
  line,
  vector_file,
)

from seqjax.text.vectors.formats import MAX_LINE, MAX_WIDTH
from seqjax.text.vectors.load import load_vectors
from seqjax.types import InputError


@pytest.fixture
def load(tmp_path):
  """Writes bytes to a file and reads it."""

  def write_and_load(raw, layout='glove', **options):
    path = tmp_path / 'vectors'
    path.write_bytes(raw)
    return load_vectors(path, layout, **options)

  return write_and_load


@pytest.mark.parametrize('packing', ['plain', 'gzip', 'zip'])
@pytest.mark.parametrize('layout', LAYOUTS)
def test_every_layout_in_every_packing(load, tmp_path, layout, packing):
  raw = vector_file(layout, PLAIN_WORDS, PLAIN_MATRIX)
  if packing == 'gzip':
    raw = gzip.compress(raw)
  elif packing == 'zip':
    with zipfile.ZipFile(tmp_path / 'z', 'w', zipfile.ZIP_DEFLATED) as archive:
      archive.writestr('other.txt', 'x')
      archive.writestr('vectors.txt', raw)
    raw = (tmp_path / 'z').read_bytes()
  member = 'vectors.txt' if packing == 'zip' else None
  vectors = load(raw, layout, member=member)
  check(vectors, PLAIN_WORDS, PLAIN_MATRIX)
  assert vectors.skipped == {}


def test_words_with_spaces_are_split_from_the_right(load):
  for layout in ('glove', 'word2vec'):
    check(load(vector_file(layout), layout))
  # As the first word it needs the width to be told.
  raw = vector_file('glove', WORDS[2:], MATRIX[2:])
  with pytest.raises(InputError, match='vectors, line 1: expected a word and 1 to'):
    load(raw)
  check(load(raw, width=5), WORDS[2:], MATRIX[2:])


@pytest.mark.parametrize('end', ['\n', '\r\n', ' \n', ' \r\n'])
def test_line_ends(load, end):
  raw = vector_file('glove', end=end)
  check(load(raw))
  check(load(raw.rstrip()))  # no newline at the end of the file
  check(load(b'\xef\xbb\xbf' + raw))  # the mark some editors put in front


def test_binary_with_and_without_newlines_and_over_many_pieces(load):
  raw = vector_file('word2vec_binary', PLAIN_WORDS, PLAIN_MATRIX, newline=b'')
  check(load(raw, 'word2vec_binary'), PLAIN_WORDS, PLAIN_MATRIX)
  words = ['\ta', 'b\r', '\x0c']  # only a newline in front is no part of the word
  raw = vector_file('word2vec_binary', words, MATRIX[:3])
  check(load(raw, 'word2vec_binary'), words, MATRIX[:3])
  # 3 MB, read in pieces of 1 MB; bytes of numbers look like spaces and newlines.
  rng = np.random.default_rng(1)
  bits = rng.integers(0, 256, (2500, 300, 4), dtype=np.uint8)
  bits[..., 0], bits[..., 3] = b' \n'[0], 0x41  # finite, and full of 0x20
  matrix = bits.view('<f4')[..., 0].astype(np.float32)
  words = [f'w{i}' for i in range(2500)]
  for newline in (b'', b'\n'):
    raw = vector_file('word2vec_binary', words, matrix, newline=newline)
    check(load(raw, 'word2vec_binary'), words, matrix)
  some = load(raw, 'word2vec_binary', words={'w7', 'w2499', 'other'})
  check(some, ['w7', 'w2499'], matrix[[7, 2499]])


def test_only_the_words_asked_for(load):
  for layout in ('glove', 'word2vec'):
    # Not in its encoding, a word cannot be in the file: no error.
    wanted = {'. . .': 1, 'nan': 2, 'absent': 3, '\udcffthe': 4}
    check(
      load(vector_file(layout), layout, words=wanted), ['. . .', 'nan'], MATRIX[[2, 8]]
    )
  none = load(vector_file('glove'), words=[])
  assert none.matrix.shape == (0, 5)
  # Numbers of other words are not looked at, the width of their lines is.
  raw = line('a', [1, 2]) + b'b x y\n' + line('c', [3, 4])
  check(load(raw, words=['a', 'c']), ['a', 'c'], np.float32([[1, 2], [3, 4]]))
  with pytest.raises(
    InputError, match='line 2: expected a word and 2 numbers, found 1'
  ):
    load(line('a', [1, 2]) + b'b 1\n', words=['a'])


@pytest.mark.parametrize('layout', LAYOUTS)
def test_no_more_than_max_words(load, layout):
  raw = vector_file(layout, PLAIN_WORDS, PLAIN_MATRIX)
  check(load(raw, layout, max_words=3), PLAIN_WORDS[:3], PLAIN_MATRIX[:3])
  check(load(raw, layout, max_words=99), PLAIN_WORDS, PLAIN_MATRIX)
  # What lies behind is not looked at.
  cut = raw[: int(len(raw) * 0.9)]
  check(load(cut, layout, max_words=3), PLAIN_WORDS[:3], PLAIN_MATRIX[:3])


def test_files_without_vectors(load):
  for layout in LAYOUTS:
    with pytest.raises(InputError, match=r"vectors, line 1: .*, found ''$"):
      load(b'', layout)
  with pytest.raises(InputError, match='vectors: none of its 2 vectors is usable'):
    load(b'b 1\nc 1\n', width=2, on_error='skip')
  with pytest.raises(InputError, match=r"line 1: .* numbers, found 'word'"):
    load(b'word\n')
  with pytest.raises(InputError, match="found '400000 100', the header of a word2vec"):
    load(b'400000 100\n')
  check(load(b'5 1\n', width=1), ['5'], np.float32([[1]]))


HEADERS = {
  'one field': b'3\n',
  'three fields': b'1 2 3\n',
  'words': b'a b\n',
  'no width': b'3 0\n',
  'no vectors': b'0 3\n',
  'negative': b'3 -5\n',
  'GloVe': b'the 0.1 0.2\n',
  'too wide': b'3 %d\n' % (MAX_WIDTH + 1),
  'endless': b'9' * 5000 + b' 3\n',
  'zeros': bytes(99),
}


@pytest.mark.parametrize('header', HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize('layout', LAYOUTS[1:])
def test_headers_that_are_none(load, layout, header):
  with pytest.raises(InputError, match='line 1: expected a word2vec header') as error:
    load(header, layout)
  assert len(str(error.value).split('vectors, ')[1]) < 300


def test_word2vec_text_keeps_its_promise(load):
  raw = vector_file('word2vec')
  with pytest.raises(InputError, match='header promises 9 vectors, the file holds 8'):
    load(raw[: raw.rindex(b'nan ')], 'word2vec')
  with pytest.raises(
    InputError, match='promises 9 vectors, the file holds more than 9'
  ):
    load(raw + line('x', MATRIX[0]) * 3, 'word2vec')
  with pytest.raises(InputError, match='line 10: expected a word and 5 numbers, found'):
    load(raw[:-30], 'word2vec')


def test_binary_cut_anywhere_is_named(load):
  raw = vector_file('word2vec_binary', PLAIN_WORDS, PLAIN_MATRIX)
  start = len(b'7 5\n')
  for size in range(start, len(raw) - 1):
    with pytest.raises(
      InputError, match='expected 7 vectors, the file ends in'
    ) as error:
      load(raw[:size], 'word2vec_binary', on_error='skip')
    at = int(str(error.value).split('byte ')[1].split(':')[0])
    assert start <= at <= size  # where the vector that is cut begins
    assert raw[at:size].count(b'\n') <= 25
  with pytest.raises(
    InputError, match=r'byte \d+: expected the end of the file after 7'
  ):
    load(raw + b'x', 'word2vec_binary')
  with pytest.raises(InputError, match='expected a word of at most 4096 bytes'):
    load(b'2 1\n' + b'x' * 5000, 'word2vec_binary')
  with pytest.raises(
    InputError, match=r'byte 4: expected a word of at most 4096 bytes'
  ):
    load(b'2 1\n' + b'x' * 5000 + b' 1234', 'word2vec_binary')


@pytest.mark.parametrize('layout', ['glove', 'word2vec'])
def test_an_endless_line_is_refused(load, layout):
  head = b'9 2\n' if layout == 'word2vec' else b'a 1 2\n'
  bomb = gzip.compress(head + b'b ' + b'1' * (64 << 20))
  assert len(bomb) < 200_000
  with pytest.raises(
    InputError, match=f'line 2: expected a line of at most {MAX_LINE}'
  ):
    load(bomb, layout, on_error='skip')


@settings(deadline=None)
@given(
  st.lists(
    st.tuples(
      st.text(st.characters(exclude_categories=['Cs', 'Cc']), min_size=1, max_size=9)
      .map(str.strip)
      .filter(lambda word: word and not word.split()[-1][-1:].isdigit()),
      st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3)
      .map(lambda numbers: numbers[:3]),
    ),
    min_size=1,
    unique_by=lambda pair: pair[0],
  )
)  # fmt: skip
def test_what_is_written_is_read(tmp_path_factory, pairs):
  path = tmp_path_factory.getbasetemp() / 'written'
  words, matrix = [word for word, _ in pairs], np.float32([row for _, row in pairs])
  path.write_bytes(vector_file('glove', words, matrix))
  check(load_vectors(path, width=3), words, matrix)
  path.write_bytes(vector_file('word2vec', words, matrix))
  check(load_vectors(path, 'word2vec'), words, matrix)
