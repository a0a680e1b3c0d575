"""The look at the data: its numbers are those of the reviews."""

import pytest

from experiments import imdb_explore
from experiments.reviews import explore
from seqjax.data.reviews import synthetic as synthetic_reviews
from seqjax.data.reviews.word_ids import Reviews, Vocabulary, split_words
from seqjax.types import InputError


@pytest.fixture
def texts(monkeypatch) -> tuple[Reviews, Reviews]:
  pair = synthetic_reviews.reviews(3, 60, 20)
  monkeypatch.setattr(explore.training, 'load_texts', lambda config: pair)
  return pair


def test_what_is_printed_and_drawn(texts, tmp_path, capsys):
  train, _ = texts
  imdb_explore.run(
    imdb_explore.Config(workdir=str(tmp_path), vocab_size=50, review=7, head=3)
  )
  output = capsys.readouterr().out
  words = [split_words(text) for text in train.texts]
  rows = {line.split()[0]: line.split()[1:] for line in output.splitlines() if line}
  lengths = [len(row) for row in words]
  assert rows['train'][:2] == ['60', '30']
  assert rows['test'][:2] == ['20', '10']
  assert float(rows['train'][2]) == pytest.approx(sum(lengths) / 60, abs=1e-4)
  assert (rows['train'][3], rows['train'][-1]) == (str(min(lengths)), str(max(lengths)))
  flat = [word for row in words for word in row]
  assert f'{len(set(flat))} different words' in output
  first = max(set(flat), key=flat.count)
  assert rows[first] == ['1', '4', str(flat.count(first))]
  vocabulary = Vocabulary.of_texts(train.texts, 50)
  (ids,) = vocabulary.encode([train.texts[7]])
  assert vocabulary.decode(ids) in ' '.join(output.split())
  assert '?' in vocabulary.decode(ids[1:])
  label = 'positive' if train.labels[7] else 'negative'
  assert f'Training review 7, {label}: {len(ids)} ids below 50, 1 ' in output
  assert (tmp_path / 'lengths.png').read_bytes().startswith(b'\x89PNG')


def test_a_review_that_is_not_there_is_refused(texts, tmp_path):
  with pytest.raises(InputError, match='--review must be below 60, got 60'):
    imdb_explore.run(imdb_explore.Config(workdir=str(tmp_path), review=60))
