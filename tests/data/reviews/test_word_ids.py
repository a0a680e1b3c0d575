"""Reviews as ids: against a plain loop that follows the scheme word by word."""

import json
import random
import statistics

import numpy as np
import pytest

from seqjax.data.reviews import word_ids
from seqjax.types import Examples, InputError


def some_reviews(seed: int, num: int) -> word_ids.Reviews:
  """Random words in sentences; the frequent ones are the short ones."""
  rng = random.Random(seed)
  words = [f'w{i}' for i in range(60)] + ["don't", 'größe', 'UPPER', '<br />']
  texts = []
  for _ in range(num):
    chosen = [
      words[min(int(rng.expovariate(0.1)), 63)] for _ in range(rng.randrange(40))
    ]
    texts.append(rng.choice(' \t.,').join(chosen))
  labels = np.array([rng.randrange(2) for _ in range(num)], np.int8)
  return word_ids.Reviews(texts, labels)


def plain_words(text: str) -> list[str]:
  for c in '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n':
    text = text.lower().replace(c, ' ')
  return [word for word in text.split(' ') if word]


def plain_encode(train, test, vocab_size, length) -> list[list[list[int]]]:
  """The scheme of keras.datasets.imdb, one word at a time."""
  count, first = {}, {}
  for text in train:
    for word in plain_words(text):
      first.setdefault(word, len(first))
      count[word] = count.get(word, 0) + 1
  ranked = sorted(count, key=lambda word: (-count[word], first[word]))
  rank = {word: i + 1 for i, word in enumerate(ranked)}
  splits = []
  for texts in (train, test):
    rows = []
    for text in texts:
      row = [1]
      for word in plain_words(text):
        i = rank.get(word, 10**9) + 3
        row.append(i if i < vocab_size else 2)
      row = row[-length:]
      rows.append([0] * (length - len(row)) + row)
    splits.append(rows)
  return splits


@pytest.mark.parametrize(
  ('vocab_size', 'length'), [(30, 17), (5, 3), (500, 60), (12, 1)]
)
def test_encode_follows_the_scheme(vocab_size, length):
  train, test = some_reviews(1, 23), some_reviews(2, 19)
  data = word_ids.encode(train, test, vocab_size=vocab_size, length=length)
  expected = plain_encode(train.texts, test.texts, vocab_size, length)
  for examples, rows, split in zip(data[:2], expected, (train, test), strict=True):
    np.testing.assert_array_equal(examples.x, np.array(rows))
    assert examples.x.dtype == np.int32
    np.testing.assert_array_equal(examples.y, split.labels)
    assert examples.y.dtype == np.float32
    np.testing.assert_array_equal(examples.x, data.vocabulary.rows(split.texts, length))


def test_ids_worked_by_hand():
  train = word_ids.Reviews(
    ['The film, the FILM was good.', "It was bad: I don't; the end"],
    np.array([1, 0], np.int8),
  )
  test = word_ids.Reviews(['the unknown film'], np.array([1], np.int8))
  data = word_ids.encode(train, test, vocab_size=8, length=8)
  # the 3 -> 4; film 2 -> 5; was 2 -> 6; good, it, ... 1 each: good, the first, -> 7
  assert data.vocabulary.words == ['the', 'film', 'was', 'good']
  assert data.train.x.tolist() == [
    [0, 1, 4, 5, 4, 5, 6, 7],
    [1, 2, 6, 2, 2, 2, 4, 2],
  ]
  assert data.test.x.tolist() == [[0, 0, 0, 0, 1, 4, 2, 5]]
  assert data.train.y.tolist() == [1, 0]
  assert data.vocabulary.decode(data.test.x[0]) == '? ? ? ? ? the ? film'


@pytest.mark.parametrize('text', ['', ' ', '...!?', '\n\t', '<>'])
def test_a_review_without_words_is_its_start_id(text):
  train = word_ids.Reviews(['some words', text], np.array([1, 0], np.int8))
  data = word_ids.encode(train, train, vocab_size=9, length=4)
  assert data.train.x[1].tolist() == [0, 0, 0, 1]
  assert data.train_stats.median_length == 1  # of 2 words and none


def test_a_set_of_reviews_without_words_can_be_encoded():
  empty = word_ids.Reviews(['', '.'], np.array([1, 0], np.int8))
  data = word_ids.encode(empty, empty, vocab_size=9, length=3)
  assert data.test.x.tolist() == [[0, 0, 1], [0, 0, 1]]
  assert data.test_stats.share_oov == 0


def test_stats_are_those_of_the_whole_reviews():
  train, test = some_reviews(3, 31), some_reviews(4, 8)
  data = word_ids.encode(train, test, vocab_size=20, length=15)
  whole = plain_encode(train.texts, test.texts, 20, 10_000)
  for split, rows, stats in zip((train, test), whole, data[3:], strict=True):
    lengths = [len(plain_words(text)) for text in split.texts]
    assert stats.num_reviews == len(split.texts)
    assert stats.num_positive == sum(label == 1 for label in split.labels)
    assert stats.mean_length == pytest.approx(statistics.mean(lengths))
    assert stats.median_length == statistics.median(lengths)
    assert stats.max_length == max(lengths)
    truncated = sum(n + 1 > 15 for n in lengths) / len(lengths)
    assert stats.share_truncated == pytest.approx(truncated)
    oov = sum(row.count(2) for row in rows) / sum(lengths)
    assert stats.share_oov == pytest.approx(oov)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'vocab_size': 4, 'length': 5}, 'vocab_size=4: expected at least 5'),
    ({'vocab_size': 9, 'length': 0}, 'length=0: expected at least 1'),
  ],
)
def test_settings_that_leave_no_room_are_refused(settings, message):
  with pytest.raises(InputError, match=message):
    word_ids.encode(some_reviews(1, 3), some_reviews(2, 3), **settings)


def test_an_empty_split_is_refused():
  none = word_ids.Reviews([], np.zeros(0, np.int8))
  with pytest.raises(InputError, match='test set holds no review'):
    word_ids.encode(some_reviews(1, 3), none, vocab_size=9, length=5)


@pytest.mark.parametrize(
  'labels',
  [np.zeros(3, np.int8), np.zeros((2, 1), np.int8), np.zeros(2), np.int8([0, 2])],
)
def test_labels_must_fit_the_texts(labels):
  with pytest.raises(ValueError, match='labels must be'):
    word_ids.Reviews(['a', 'b'], labels)


def test_shuffle_keeps_each_text_with_its_label_and_never_changes():
  num = 41
  ordered = word_ids.Reviews(
    [f'{i}' for i in range(num)], (np.arange(num) >= 20).astype(np.int8)
  )
  one, two = word_ids.shuffle(ordered), word_ids.shuffle(ordered)
  assert one.texts == two.texts != ordered.texts
  assert sorted(one.texts, key=int) == ordered.texts
  assert [int(text) >= 20 for text in one.texts] == one.labels.astype(bool).tolist()
  assert 3 < one.labels[-10:].sum() < 10  # both classes at the end
  assert word_ids.shuffle(ordered, seed=1).texts != one.texts
  # Written down once: another order would be other held-out reviews.
  assert one.texts[:8] == ['13', '38', '21', '36', '8', '18', '35', '9']


def examples(num: int) -> Examples:
  return Examples(np.arange(num * 3).reshape(num, 3), np.arange(num, dtype=np.float32))


@pytest.mark.parametrize(
  ('num', 'fraction', 'kept'),
  [(10, 0.2, 8), (25_000, 0.2, 20_000), (7, 0.5, 3), (3, 0.01, 2), (2, 0.99, 0)],
)
def test_the_last_share_is_held_out_as_in_keras(num, fraction, kept):
  whole = examples(num)
  if not kept:
    with pytest.raises(InputError, match='validation_split'):
      word_ids.split_validation(whole, fraction)
    return
  train, validation = word_ids.split_validation(whole, fraction)
  np.testing.assert_array_equal(train.x, whole.x[:kept])
  np.testing.assert_array_equal(train.y, whole.y[:kept])
  np.testing.assert_array_equal(validation.x, whole.x[kept:])
  np.testing.assert_array_equal(validation.y, whole.y[kept:])


@pytest.mark.parametrize('fraction', [0.0, 1.0, -0.2, 1.5, float('nan'), float('inf')])
def test_a_share_that_leaves_a_side_empty_is_refused(fraction):
  with pytest.raises(InputError, match=r'validation_split=.*expected a share'):
    word_ids.split_validation(examples(10), fraction)


@pytest.mark.parametrize(('row', 'column', 'bad'), [(3, 1, -1), (0, 4, 50), (2, 0, 99)])
def test_an_id_out_of_range_is_named(row, column, bad):
  x = np.random.default_rng(0).integers(0, 50, (4, 5)).astype(np.int32)
  word_ids.check_ids(x, 50)
  x[row, column] = bad
  message = f'row {row}, column {column} holds id {bad}, expected 0 <= id < 50'
  with pytest.raises(InputError, match=message):
    word_ids.check_ids(x, 50)


def test_check_ids_wants_integers_and_takes_an_empty_set():
  word_ids.check_ids(np.zeros((0, 7), np.int32), 5)
  with pytest.raises(ValueError, match=r'integers \[N, T\], got float64 \[2, 3\]'):
    word_ids.check_ids(np.zeros((2, 3)), 5)
  with pytest.raises(ValueError, match=r'got int64 \[3\]'):
    word_ids.check_ids(np.zeros(3, np.int64), 5)


def test_decode_shows_a_question_mark_for_every_id_without_a_word():
  vocabulary = word_ids.Vocabulary(['the', 'a'], 20)
  ids = [0, 1, 2, 3, 4, 5, 6, 19, 20, -1, -16]
  assert vocabulary.decode(ids) == '? ? ? ? the a ? ? ? ? ?'
  assert vocabulary.decode(np.array([[5, 4]])[0]) == 'a the'
  text = 'the a a the'
  assert vocabulary.decode(vocabulary.encode([text])[0][1:]) == text


def test_a_saved_vocabulary_encodes_alike(tmp_path):
  train, test = some_reviews(5, 20), some_reviews(6, 20)
  vocabulary = word_ids.encode(train, test, vocab_size=40, length=9).vocabulary
  path = tmp_path / 'vocabulary.json'
  vocabulary.save(path)
  loaded = word_ids.Vocabulary.load(path)
  assert loaded.words == vocabulary.words
  assert loaded.vocab_size == 40
  np.testing.assert_array_equal(
    loaded.rows(test.texts, 9), vocabulary.rows(test.texts, 9)
  )
  assert [p.name for p in tmp_path.iterdir()] == ['vocabulary.json']


def saved(**changes) -> str:
  content = word_ids.Vocabulary(['the', 'a'], 9).to_json() | changes
  return json.dumps({k: v for k, v in content.items() if v is not None})


@pytest.mark.parametrize(
  'content',
  [
    b'',
    b'{"format": ',
    b'[1]',
    b'\xff\xfe',
    saved(format='other').encode(),
    saved(version=2).encode(),
    saved(words=None).encode(),
    saved(words='the').encode(),
    saved(words=['the', 3]).encode(),
    saved(words=['the', 'the']).encode(),
    saved(words=list('abcdefgh')).encode(),
    saved(vocab_size=True).encode(),
    saved(vocab_size=4).encode(),
    saved(vocab_size=None).encode(),
  ],
)
def test_a_file_that_holds_no_vocabulary_is_refused_by_name(content, tmp_path):
  path = tmp_path / 'vocabulary.json'
  path.write_bytes(content)
  with pytest.raises(InputError, match=r'vocabulary\.json: expected a saved') as e:
    word_ids.Vocabulary.load(path)
  assert '\n' not in str(e.value)


def test_a_vocabulary_file_that_is_not_there(tmp_path):
  with pytest.raises(InputError, match=r'none\.json: cannot be read'):
    word_ids.Vocabulary.load(tmp_path / 'none.json')


def test_arrays_for_the_cache_hold_everything():
  data = word_ids.encode(
    some_reviews(7, 12), some_reviews(8, 9), vocab_size=33, length=14
  )
  again = word_ids.from_arrays(word_ids.to_arrays(data))
  for one, two in zip(data[:2], again[:2], strict=True):
    np.testing.assert_array_equal(one.x, two.x)
    np.testing.assert_array_equal(one.y, two.y)
  assert again.vocabulary.words == data.vocabulary.words
  assert again[3:] == data[3:]


def test_arrays_with_an_id_out_of_range_are_not_taken():
  data = word_ids.encode(
    some_reviews(7, 12), some_reviews(8, 9), vocab_size=33, length=14
  )
  arrays = word_ids.to_arrays(data)
  arrays['test_x'][5, 2] = 33
  with pytest.raises(InputError, match='row 5, column 2 holds id 33'):
    word_ids.from_arrays(arrays)
