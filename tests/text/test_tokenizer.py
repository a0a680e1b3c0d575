"""The tokenizer: equal to Keras's, worked by hand, and through a file and back."""

import copy
import json
import tarfile
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjax.data.reviews.word_ids import Vocabulary
from seqjax.text.tokenizer import FILTERS, Tokenizer, split_words
from seqjax.types import InputError

CAT_AND_DOG = ['The cat sat on the mat.', 'The dog ate my homework.']
MODES = ('binary', 'count', 'freq', 'tfidf')

# Few letters, so that words repeat; capitals, filter characters, and the characters on
# which str.split() and split(' ') disagree.
TEXT = st.text(alphabet="aBcÉ '.-\t\n\r\xa0", max_size=25)


@pytest.fixture(scope='module')
def keras_text():
  return pytest.importorskip('keras.src.legacy.preprocessing.text')


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    ('The cat sat.', ['the', 'cat', 'sat']),
    ("Don't  stop--now!", ["don't", 'stop', 'now']),
    ('a<br /><br />b', ['a', 'br', 'br', 'b']),
    ('tab\tline\nreturn\rstays', ['tab', 'line', 'return\rstays']),
    ('no\xa0break STAYS', ['no\xa0break', 'stays']),
    ('Ünïcödé, ДА', ['ünïcödé', 'да']),
    ('lone \udcff surrogate', ['lone', '\udcff', 'surrogate']),
    (' .,; ', []),
    ('', []),
  ],
)
def test_split_words_by_hand(text, words):
  assert split_words(text) == words


def test_split_words_takes_other_filters_and_keeps_capitals():
  assert split_words('A-b c', filters='', lower=False) == ['A-b', 'c']
  assert split_words('A…b.c', filters='…') == ['a', 'b.c']


@given(text=st.text(max_size=60) | TEXT, filters=st.sampled_from([FILTERS, '', 'aé…']))
def test_split_words_is_keras(keras_text, text, filters):
  expected = keras_text.text_to_word_sequence(text, filters=filters)
  assert split_words(text, filters=filters) == expected


def test_two_sentences_have_nine_words():
  tokenizer = Tokenizer().fit(CAT_AND_DOG)
  words = ['the', 'cat', 'sat', 'on', 'mat', 'dog', 'ate', 'my', 'homework']
  assert list(tokenizer.word_index) == words
  assert list(tokenizer.word_index.values()) == list(range(1, 10))
  assert tokenizer.encode(CAT_AND_DOG) == [[1, 2, 3, 4, 1, 5], [1, 6, 7, 8, 9]]
  assert tokenizer.word_counts['the'] == 3
  assert tokenizer.word_docs['the'] == 2


def test_ids_fall_with_frequency_and_ties_keep_their_order():
  tokenizer = Tokenizer().fit(['d c b b', 'a c'])
  assert tokenizer.word_index == {'c': 1, 'b': 2, 'd': 3, 'a': 4}


def test_num_words_drops_what_is_rarer_and_oov_replaces_it():
  plain = Tokenizer(3).fit(CAT_AND_DOG)
  assert plain.encode(['The cat sat, unseen']) == [[1, 2]]
  assert plain.num_ids == 3
  oov = Tokenizer(3, '<?>').fit(CAT_AND_DOG)
  assert oov.encode(['The cat sat, unseen']) == [[2, 1, 1, 1]]
  assert Tokenizer(100).fit(CAT_AND_DOG).num_ids == 10


def test_a_word_spelled_like_the_oov_token_is_that_token():
  tokenizer = Tokenizer(oov_token='unk').fit(['a unk b unk b b'])
  assert tokenizer.word_index == {'unk': 1, 'b': 2, 'a': 3}
  assert tokenizer.encode(['unk a nobody']) == [[1, 3, 1]]
  assert tokenizer.unknown_words('unk a nobody') == {'unk': 1, 'nobody': 1}


@settings(deadline=None)
@given(
  texts=st.lists(TEXT, min_size=1, max_size=6),
  others=st.lists(TEXT, max_size=4),
  num_words=st.none() | st.integers(2, 8),
  oov_token=st.none() | st.just('<oov>'),
  char_level=st.booleans(),
  lower=st.booleans(),
)
def test_equals_keras(keras_text, texts, others, **options):
  ours, theirs = Tokenizer(**options).fit(texts), keras_text.Tokenizer(**options)
  theirs.fit_on_texts(texts)
  assert list(ours.word_index.items()) == list(theirs.word_index.items())
  assert list(ours.word_counts.items()) == list(theirs.word_counts.items())
  assert ours.word_docs == dict(theirs.word_docs)
  assert ours.document_count == theirs.document_count
  ids = ours.encode(texts + others)
  assert ids == theirs.texts_to_sequences(texts + others)
  if not ours.char_level:
    assert ours.decode(ids) == theirs.sequences_to_texts(ids)
  if ours.word_index:
    for mode in MODES:
      matrix = ours.to_matrix(texts + others, mode)
      np.testing.assert_array_equal(
        matrix, theirs.texts_to_matrix(texts + others, mode)
      )


def test_lists_of_words_are_taken_as_split(keras_text):
  texts = [['New York', 'is', 'Big.'], 'new york is big']
  theirs = keras_text.Tokenizer()
  theirs.fit_on_texts(texts)
  ours = Tokenizer().fit(texts)
  assert ours.word_index == theirs.word_index
  assert 'new york' in ours.word_index
  assert ours.encode(texts) == theirs.texts_to_sequences(texts)


@given(first=st.lists(TEXT), second=st.lists(TEXT))
def test_fitting_twice_is_fitting_all(first, second):
  twice, once = Tokenizer().fit(first).fit(second), Tokenizer().fit(first + second)
  assert list(twice.word_index.items()) == list(once.word_index.items())
  assert twice.word_docs == once.word_docs
  assert twice.document_count == once.document_count


@given(texts=st.lists(TEXT, min_size=1))
def test_decode_is_the_way_back(texts):
  tokenizer = Tokenizer().fit(texts)
  padded = [[0, 0, *ids, 0] for ids in tokenizer.encode(texts)]
  assert tokenizer.decode(padded) == [' '.join(split_words(text)) for text in texts]


def test_decode_of_ids_that_are_not_kept():
  ids = [[0, 1, 2, 99, 3], np.array([2, -1])]
  assert Tokenizer(3).fit(CAT_AND_DOG).decode(ids) == ['the cat', 'cat']
  oov = Tokenizer(3, '<?>').fit(CAT_AND_DOG)
  assert oov.decode(ids) == ['<?> the <?> <?>', 'the <?>']
  assert Tokenizer(char_level=True).fit(['ab']).decode([[2, 0, 1]]) == ['ba']


def test_document_matrices_by_hand():
  tokenizer = Tokenizer().fit(['a a b', 'a c'])  # ids a 1, b 2, c 3
  texts = ['b a b x', '']
  rows = {
    'binary': [0, 1, 1, 0],
    'count': [0, 1, 2, 0],
    'freq': [0, 1 / 3, 2 / 3, 0],  # of the three words kept, x is not
    'tfidf': [0, np.log(1 + 2 / 3), (1 + np.log(2)) * np.log(1 + 2 / 2), 0],
  }
  for mode, row in rows.items():
    matrix = tokenizer.to_matrix(texts, mode)
    np.testing.assert_allclose(matrix, [row, [0, 0, 0, 0]], rtol=1e-15)
  assert tokenizer.to_matrix(texts, dtype=np.float32).dtype == np.float32
  # Keras's rule for the width: num_words when it is given, used up or not.
  assert Tokenizer(7).fit(['a']).to_matrix(['a']).shape == (1, 7)


def test_unknown_words_are_those_that_encode_drops():
  tokenizer = Tokenizer(3).fit(CAT_AND_DOG)
  text = 'Zebra, the zebra; sat'
  assert tokenizer.unknown_words(text) == {'zebra': 2, 'sat': 1}
  assert list(tokenizer.unknown_words(text)) == ['zebra', 'sat']


@given(
  texts=st.lists(st.text(max_size=30) | TEXT),
  num_words=st.none() | st.integers(2, 8),
  oov_token=st.none() | st.just('é"<oov>'),
  char_level=st.booleans(),
)
def test_a_saved_tokenizer_comes_back(tmp_path_factory, texts, **options):
  path = tmp_path_factory.mktemp('saved') / 'tokenizer.json'
  before = Tokenizer(filters='.é', lower=False, **options).fit(texts)
  before.save(path)
  after = Tokenizer.load(path)
  for name, value in vars(before).items():
    assert vars(after)[name] == value, name
    if isinstance(value, dict):
      assert list(vars(after)[name]) == list(value), name
  assert [p.name for p in path.parent.iterdir()] == ['tokenizer.json']


@pytest.mark.parametrize(
  ('change', 'reason'),
  [
    ({'version': 2}, 'version 2, this code reads 1'),
    ({'format': 'x'}, '"format"'),
    ({'num_words': '10'}, '"num_words" is \'10\''),
    ({'num_words': 0}, 'num_words must be None or >= 1'),
    ({'lower': 1}, '"lower" is 1'),
    ({'document_count': True}, '"document_count" is True'),
    ({'words': None}, '"words" is None'),
    ({'words': ['a', 'a', 'c']}, 'repeat'),
    ({'words': ['a', 'b', 3]}, 'word 3'),
    ({'counts': [1, 2]}, 'not as many'),
    ({'counts': [2, 1, 0.5]}, 'count 0.5'),
    ({'docs': [3, 1, 1]}, "word 'a' occurs 2 times in 3 of 2 texts"),
    ({'docs': [0, 1, 1]}, "word 'a' occurs 2 times in 0 of 2 texts"),
  ],
)
def test_load_says_what_is_wrong_with_a_file(tmp_path, change, reason):
  path = tmp_path / 'tokenizer.json'
  Tokenizer().fit(['a b', 'a c']).save(path)
  assert Tokenizer.load(path).word_index == {'a': 1, 'b': 2, 'c': 3}
  content = json.loads(path.read_text())
  path.write_text(json.dumps(content | change))
  with pytest.raises(InputError) as error:
    Tokenizer.load(path)
  assert str(path) in str(error.value)
  assert reason in str(error.value)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('name', ['words', 'docs', 'filters', 'document_count'])
def test_load_names_what_is_missing(tmp_path, name):
  path = tmp_path / 'tokenizer.json'
  Tokenizer().fit(['a b']).save(path)
  content = json.loads(path.read_text())
  del content[name]
  path.write_text(json.dumps(content))
  with pytest.raises(InputError, match=f'"{name}" is missing'):
    Tokenizer.load(path)


@pytest.mark.parametrize('raw', [b'', b'[1]', b'{"a": ', b'\xff\xfe', b'[' * 100_000])
def test_load_of_something_else(tmp_path, raw):
  path = tmp_path / 'tokenizer.json'
  path.write_bytes(raw)
  with pytest.raises(InputError, match=r'tokenizer\.json: expected a saved tokenizer'):
    Tokenizer.load(path)


def test_a_mark_in_front_is_dropped_and_utf_16_told(tmp_path):
  path = tmp_path / 'tokenizer.json'
  tokenizer = Tokenizer().fit(['a b', 'größer b'])
  tokenizer.save(path)
  content = path.read_text()
  path.write_text(content, encoding='utf-8-sig')
  assert Tokenizer.load(path).word_index == tokenizer.word_index
  path.write_text(content, encoding='utf-16')
  with pytest.raises(InputError, match='line 1 is not UTF-8; it looks like UTF-16'):
    Tokenizer.load(path)


def test_load_of_nothing(tmp_path):
  with pytest.raises(InputError, match=r'none\.json: cannot be read: No such file'):
    Tokenizer.load(tmp_path / 'none.json')


def test_wrong_use_is_named():
  with pytest.raises(ValueError, match='num_words must be None or >= 1, got 0'):
    Tokenizer(0)
  with pytest.raises(ValueError, match='num_words must be None or >= 2, got 1'):
    Tokenizer(1, '<?>')
  with pytest.raises(ValueError, match='encode needs a fitted Tokenizer'):
    Tokenizer().encode(['a'])
  fitted = Tokenizer().fit(['a'])
  with pytest.raises(TypeError, match='texts must be a list of texts, got one str'):
    fitted.encode('a')
  with pytest.raises(ValueError, match="binary, count, freq, tfidf, got 'words'"):
    fitted.to_matrix(['a'], 'words')
  for bad in (b'bytes', 3, ['a', 3]):
    with pytest.raises(TypeError, match=r'texts\[1\] must be a string or a list'):
      fitted.fit(['b', bad])
  assert fitted.word_index == {'a': 1}  # the text before the bad one left no trace
  assert fitted.document_count == 1


def _reviews(folder):
  """Reads the texts of the archive, in its own order."""
  texts = {'train': [], 'test': []}
  with tarfile.open(folder / 'aclImdb_v1.tar.gz') as archive:
    for member in archive:
      if member.isfile():
        part = member.name.split('/')[1]
        texts[part].append(archive.extractfile(member).read().decode())
  return texts


@pytest.mark.real_data
@pytest.mark.slow
def test_equals_keras_on_all_reviews(real_data, keras_text):
  texts = _reviews(real_data)
  train, everything = texts['train'], texts['train'] + texts['test']
  assert len(everything) == 50_000

  start = time.process_time()
  ours = Tokenizer(10_000).fit(train)
  ours.encode(train)
  assert time.process_time() - start < 6
  assert abs(len(ours.word_index) - 88_580) < 10
  head = 'the and a of to is br in it i this that was as for with movie but film on'
  assert list(ours.word_index)[:20] == head.split()

  ours, theirs = Tokenizer().fit(everything), keras_text.Tokenizer()
  theirs.fit_on_texts(everything)
  assert list(ours.word_index.items()) == list(theirs.word_index.items())
  assert ours.encode(everything) == theirs.texts_to_sequences(everything)
  theirs.num_words, ours = 10_000, Tokenizer(10_000).fit(everything)
  sample = everything[::500]
  for mode in MODES:
    expected = theirs.texts_to_matrix(sample, mode)
    np.testing.assert_array_equal(ours.to_matrix(sample, mode), expected)


def test_num_words_assigned_after_fitting_is_what_a_new_tokenizer_has(keras_text):
  tokenizer = Tokenizer(oov_token='?').fit(CAT_AND_DOG)
  theirs = keras_text.Tokenizer(oov_token='?')
  theirs.fit_on_texts(CAT_AND_DOG)
  for num_words in (3, 5, None):
    tokenizer.num_words = theirs.num_words = num_words
    ids = tokenizer.encode(CAT_AND_DOG)
    assert ids == theirs.texts_to_sequences(CAT_AND_DOG)
    assert max(map(max, ids)) < tokenizer.num_ids
    fresh = Tokenizer(num_words, '?').fit(CAT_AND_DOG)
    assert ids == fresh.encode(CAT_AND_DOG)
  with pytest.raises(ValueError, match='num_words must be None or >= 2, got 1'):
    tokenizer.num_words = 1
  assert tokenizer.num_words is None


@pytest.mark.parametrize(
  'name', ['oov_token', 'word_counts', 'word_docs', 'word_index', 'document_count']
)
def test_what_ids_derive_from_cannot_be_changed(name):
  tokenizer = Tokenizer(oov_token='?').fit(CAT_AND_DOG)
  with pytest.raises(AttributeError):
    setattr(tokenizer, name, 0)
  table = getattr(tokenizer, name)
  if name.startswith('word'):
    with pytest.raises(TypeError, match='does not support item assignment'):
      table['new'] = 9
    assert 'new' not in table
    assert copy.deepcopy(tokenizer).fit(['new']).encode(['new'])


def keras_json(texts, **options):
  """The file that Keras's Tokenizer.to_json writes, from its own class."""
  text = pytest.importorskip('keras.src.legacy.preprocessing.text')
  theirs = text.Tokenizer(**options)
  theirs.fit_on_texts(texts)
  return theirs, theirs.to_json()


@pytest.mark.parametrize(
  'options',
  [
    {},
    {'num_words': 5, 'oov_token': '<unk>'},
    {'lower': False, 'filters': '.,'},
    {'char_level': True, 'num_words': 9},
  ],
)
def test_a_tokenizer_of_keras_is_read(tmp_path, options):
  texts = ['The cat sat on the mat.', 'A dog, the Cat: sat!', 'on a mat']
  theirs, content = keras_json(texts, **options)
  path = tmp_path / 'tokenizer.json'
  path.write_text(content)
  ours = Tokenizer.load(path)
  assert ours.word_index == theirs.word_index
  assert ours.encode([*texts, 'a bird']) == theirs.texts_to_sequences(
    [*texts, 'a bird']
  )
  np.testing.assert_array_equal(
    ours.to_matrix(texts, 'tfidf'), theirs.texts_to_matrix(texts, 'tfidf')
  )
  path.write_text(json.dumps(content))  # a string in JSON: to_json dumped again
  assert Tokenizer.load(path).word_index == theirs.word_index


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'split': '_'}, "splits at '_'"),
    ({'word_index': '{"the": 2, "cat": 1}'}, '"word_index" is not the order'),
    ({'word_counts': '['}, '"word_counts" is no JSON'),
    ({'word_counts': 3}, '"word_counts" is no JSON'),
    ({'filters': 3}, '"filters" is 3'),
  ],
)
def test_a_broken_tokenizer_of_keras_is_refused(tmp_path, change, message):
  content = json.loads(keras_json(['the cat the'])[1])
  content['config'] |= change
  (tmp_path / 'a.json').write_text(json.dumps(content))
  with pytest.raises(InputError, match=message):
    Tokenizer.load(tmp_path / 'a.json')


@pytest.mark.parametrize(
  ('content', 'whose'),
  [
    ({'version': '1.0', 'model': {}, 'added_tokens': []}, 'Hugging Face'),
    ({'tokenizer_class': 'BertTokenizer'}, 'Hugging Face'),
    ({'model': {'vocab': {}}, 'pre_tokenizer': None}, 'Hugging Face'),
    ({'unk_token': '[UNK]', 'pad_token': '[PAD]'}, 'Hugging Face'),
    ({'class_name': 'TextVectorization', 'config': {}}, "Keras's 'TextVectorization'"),
    ({'the': 1, 'cat': 2}, 'words and ids'),
    ({'1': 'the', '2': 'cat'}, 'ids and words'),
    (['the', 'cat'], 'a list of words'),
    ({'num_words': None, 'word_counts': '{}'}, r'get_config\(\) of Keras'),
    (Vocabulary(['the'], 10).to_json(), "a 'seqjax.data.Vocabulary'"),
  ],
)
def test_other_json_is_told_whose_it_looks_like(tmp_path, content, whose):
  (tmp_path / 'a.json').write_text(json.dumps(content))
  with pytest.raises(InputError, match=f'a.json: .*looks like .*{whose}'):
    Tokenizer.load(tmp_path / 'a.json')
