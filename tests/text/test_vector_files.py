"""Files of word vectors: all layouts and packings read alike, faults are named."""

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

from seqjax.text.vector_files import (
  MAX_LINE,
  MAX_WIDTH,
  MAX_WORD,
  Skipped,
  load_vectors,
)
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
      .filter(bool),
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


# Numbers are read many at once where all are plain, else line by line: either way they
# are float()'s, bit for bit.

DECIMAL = st.from_regex(
  r'[+-]?([0-9]{1,25}|[0-9]{1,8}\.[0-9]{0,20}|\.[0-9]{1,20})([eE][+-]?[0-9]{1,2})?',
  fullmatch=True,
).filter(lambda text: abs(float(text)) < 1e38)
PRINTED = st.one_of(
  st.tuples(st.floats(-9, 9), st.sampled_from(['%.6f', '%.5g', '%r', '%.17g'])).map(
    lambda pair: pair[1] % pair[0]
  ),
  DECIMAL,
)


def _bits(numbers):
  return np.asarray(numbers, np.float32).view(np.uint32)


@settings(deadline=None)
@given(st.lists(st.tuples(PRINTED, PRINTED), min_size=1, max_size=9), st.booleans())
def test_numbers_are_those_of_float(tmp_path_factory, rows, one_by_one):
  path = tmp_path_factory.getbasetemp() / 'numbers'
  lines = [f'w{i} {a} {b}\n' for i, (a, b) in enumerate(rows)]
  # A line that is skipped makes the block be read line by line.
  path.write_text(''.join(['w 1 2\n', *lines, 'bad 1 x\n' * one_by_one]))
  matrix = load_vectors(path, on_error='skip').matrix[1:]
  expected = [[float(number) for number in row] for row in rows]
  np.testing.assert_array_equal(_bits(matrix), _bits(expected))


@settings(deadline=None, max_examples=300)
@given(st.text('01.-+eE_ \t\r\x1cx\xa0', max_size=12))
def test_text_of_plain_characters_is_never_misread(tmp_path_factory, text):
  path = tmp_path_factory.getbasetemp() / 'plain'
  raw = text.encode()
  path.write_bytes(b'w 1 2\nw2 ' + raw + b'\n')
  fields = raw.rstrip(b' \r\n').split(b' ')[-2:]  # the word may hold spaces
  try:
    matrix = load_vectors(path).matrix
  except InputError:
    return
  np.testing.assert_array_equal(_bits(matrix[1]), _bits([float(f) for f in fields]))
  assert b'_' not in b''.join(fields)


@pytest.mark.parametrize(
  'text',
  [b'.', b'-.', b'1..2', b'1.2.3', b'1.-2', b'--1.', b'-1.0-', b'', b'x', b'1_0',
   b'1,5', b'nan', b'infinity', b'1e', b'e5', b'0x1', b'\xff', b'1\xa0', b'\x1c1'],
)  # fmt: skip
def test_what_is_no_number(load, text):
  for rest in (b'', b'z 1_0 1\n'):  # read at once, and one by one
    raw = b'a 1 2\nb 1 ' + text + b'\nc 3 4\n' + rest
    with pytest.raises(InputError, match='line 2: expected '):
      load(raw)
    check(load(raw, on_error='skip'), ['a', 'c'], np.float32([[1, 2], [3, 4]]))


def test_longest_numbers_and_signed_zero(load):
  text = b'-0.0 0.0 -.000000000000001 999999999999999. 16777217.0 0.30000000000001'
  matrix = load(b'a ' + text + b'\n').matrix[0]
  np.testing.assert_array_equal(_bits(matrix), _bits([float(f) for f in text.split()]))


def test_halfway_between_two_float32_is_rounded_from_the_exact_number(load):
  # Times 1e-5 (or 1e-9) instead of a division, these would round away from float()'s.
  for text in (b'711558.65625', b'58411.783203125'):
    digits = len(text) - text.index(b'.') - 1
    inexact = int(text.replace(b'.', b'')) * 10.0**-digits
    assert np.float32(inexact) != np.float32(float(text))
    assert load(b'a ' + text + b'\n').matrix[0, 0] == np.float32(float(text))


def test_words_that_end_in_a_number(load):
  words = ['windows 95', '1 2', '3.1', 'a 0.5']
  for layout in ('glove', 'word2vec'):
    options = {'width': 5} if layout == 'glove' else {}
    raw = vector_file(layout, words, MATRIX[:4])
    check(load(raw, layout, **options), words, MATRIX[:4])
    few = load(raw, layout, words=['windows 95'], **options)
    check(few, ['windows 95'], MATRIX[:1])
  # The width of the first line is a guess: then it may be a number too many.
  raw = vector_file('glove', ['the', *words], MATRIX[:5])
  with pytest.raises(
    InputError, match='line 2: expected a word and 5 numbers, found 6'
  ):
    load(raw)


# Faults: each is named, or left out and counted.

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


def test_where_the_width_was_taken_from_is_said(load):
  raw = b'windows 95 0.1 0.2\nthe 0.3 0.4\n'
  match = r'line 2: .* 3 numbers, found 2; if line 1 has another .* give width=$'
  with pytest.raises(InputError, match=match):
    load(raw)
  assert list(load(raw, width=2).index) == ['windows 95', 'the']


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
