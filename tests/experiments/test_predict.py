"""Predictions from a workdir: those of the run, with its words, and what is refused."""

import contextlib
import gzip
import io
import json
import math
import shutil
import types

import numpy as np
import pytest

from experiments import experiment, imdb_embedding, imdb_glove, predict, reviews
from experiments.reviews import few
from seqjax import config as config_lib
from seqjax.data.reviews import synthetic as synthetic_reviews
from seqjax.data.reviews.word_ids import Vocabulary
from seqjax.types import InputError

pytestmark = pytest.mark.usefixtures('no_pictures', 'quick_programs')

_SETTINGS = {
  'dataset': 'synthetic',
  'synthetic_size': 400,
  'vocab_size': 90,
  'length': 20,
  'log_every': 1,
  'save_every': 1,
}


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """The folder and the result of a short run."""
  folder = tmp_path_factory.mktemp('run')
  config = imdb_embedding.Config(
    **_SETTINGS, learning_rate=0.1, num_epochs=3, workdir=str(folder)
  )
  return folder, imdb_embedding.run(config)


def _answers(capsys, **settings):
  capsys.readouterr()
  predict.run(predict.Config(**settings, json=True))
  return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_predictions_on_the_test_set_have_the_accuracy_of_the_run(
  trained, tmp_path, capsys
):
  folder, result = trained
  _, test = synthetic_reviews.reviews(0, 400, 50)
  path = tmp_path / 'reviews.txt'
  path.write_text('\n'.join(test.texts), encoding='utf-8')
  answers = _answers(capsys, workdir=str(folder), file=str(path))
  labels = [answer['label'] == 'positive' for answer in answers]
  assert len(set(labels)) == 2
  hits = [a == bool(b) for a, b in zip(labels, test.labels, strict=True)]
  assert sum(hits) / len(hits) == pytest.approx(result['test_accuracy'], abs=1e-6)


def test_a_review_alone_is_predicted_as_among_others(trained, capsys, monkeypatch):
  folder, _ = trained
  texts = ['a clever plot', 'the cast was dull and the plot was silly', '']
  lines = ('\r\n'.join(texts) + '\n').encode()
  monkeypatch.setattr('sys.stdin', types.SimpleNamespace(buffer=io.BytesIO(lines)))
  together = _answers(capsys, workdir=str(folder))
  alone = [_answers(capsys, workdir=str(folder), text=text)[0] for text in texts]
  assert len({answer['probability'] for answer in together}) == 3
  for a, b in zip(together, alone, strict=True):
    assert a.pop('probability') == pytest.approx(b.pop('probability'), rel=1e-5)
    assert a == b


def test_a_relative_workdir_is_that_folder(trained, capsys, monkeypatch):
  folder, _ = trained
  (expected,) = _answers(capsys, workdir=str(folder), text='a clever plot')
  monkeypatch.chdir(folder.parent)
  (answer,) = _answers(capsys, workdir=f'./{folder.name}', text='a clever plot')
  assert answer == expected


def test_paths_of_every_kind_are_those_files(trained, tmp_path, capsys, monkeypatch):
  folder, _ = trained
  (expected,) = _answers(capsys, workdir=str(folder), text='a clever plot')
  home = tmp_path / 'a home'
  home.mkdir()
  (home / 'my runs').symlink_to(folder)
  (home / 'my text').write_text('a clever plot\n')
  (tmp_path / 'link').symlink_to(home / 'my text')
  monkeypatch.setenv('HOME', str(home))
  monkeypatch.chdir(tmp_path)
  runs = ('~/my runs', './a home/my runs/', 'a home/../a home/my runs', '~/my runs/.')
  files = ('~/my text', './a home/my text', 'link', str(home / 'my text'))
  for run, file in zip(runs, files, strict=True):
    (answer,) = _answers(capsys, workdir=run, file=file)
    assert answer['probability'] == pytest.approx(expected['probability'], rel=1e-5)
    assert answer['words'] == 3


_REVIEWS = ['a clever plot', 'the cast was dull,\nand the "plot" was silly', 'the plot']
_TABLE = (
  'id; label ,review\n'
  '1,pos,a clever plot\n'
  '2, neg, "the cast was dull,\nand the ""plot"" was silly"\n'
  '3,,the plot\n'
)


@pytest.fixture(scope='module')
def alone(trained):
  """The answer to each of `_REVIEWS` by itself."""
  answers = {}
  for text in _REVIEWS:
    with contextlib.redirect_stdout(io.StringIO()) as out:
      predict.run(predict.Config(workdir=str(trained[0]), text=text, json=True))
    answers[text] = json.loads(out.getvalue())
  return answers


@pytest.mark.parametrize('mark', [b'', b'\xef\xbb\xbf'])
@pytest.mark.parametrize(
  ('name', 'table'),
  [
    ('a.csv', _TABLE.replace('id; label ', 'id, label ')),
    ('a.CSV', _TABLE.replace('id; label ', 'id, label ').replace('\n', '\r\n')),
    ('a.csv', 'review\n' + '\n'.join(f'"{t}"' for t in (_REVIEWS[0], *_REVIEWS[2:]))),
    ('a.tsv', '"id"\t"review"\n1\ta clever plot\n\n2\tthe plot\n  \n'),
    ('a.jsonl', '{"id": 1, "review": "a clever plot"}\n\n{"review": "the plot"}\n'),
    ('a.txt', '"review" ; "id"\r\n"a clever plot";1\r\n"the plot";2'),
  ],
)
def test_a_column_of_a_table_is_its_reviews(
  trained, alone, tmp_path, capsys, monkeypatch, name, table, mark
):
  path = tmp_path / name
  path.write_bytes(mark + table.encode())
  run = {'workdir': str(trained[0])}
  texts = _REVIEWS if 'dull' in table else [_REVIEWS[0], _REVIEWS[2]]
  answers = _answers(capsys, **run, file=str(path), text_column='review')
  stream = types.SimpleNamespace(buffer=io.BytesIO(path.read_bytes()))
  monkeypatch.setattr('sys.stdin', stream)
  assert _answers(capsys, **run, text_column='review') == answers
  wanted = [dict(alone[text]) for text in texts]
  found = [[each.pop('probability') for each in part] for part in (answers, wanted)]
  np.testing.assert_allclose(*found, rtol=1e-5)
  assert answers == wanted


def test_a_mark_in_front_is_no_word(trained, tmp_path, capsys):
  path = tmp_path / 'reviews.txt'
  path.write_text('the plot\rthe the\r\n', encoding='utf-8-sig')
  answers = _answers(capsys, workdir=str(trained[0]), file=str(path))
  assert [answer['unknown'] for answer in answers] == [[], []]


@pytest.mark.parametrize(
  ('table', 'message'),
  [
    ('id,text\n1,a\n', "line 1: expected a column 'review', once, found 'id', 'text'"),
    ('review,review\n1,a\n', "line 1: .* found 'review', 'review'"),
    ('', "line 1: expected a column 'review', once, found $"),
    ('id,review\n1,a\n2,b,c\n', 'line 3: expected 2 fields, found 3'),
    ('id,review\n1,a\n2\n', 'line 3: expected 2 fields, found 1'),
    ('id,review\n1,"a\nb\n', 'line 3: unexpected end of data'),
    ('id,review\n1,gr\xfcn', 'line 2 is not UTF-8'),
  ],
)
def test_a_table_that_does_not_do(trained, tmp_path, table, message):
  path = tmp_path / 'a.csv'
  path.write_text(table, encoding='latin-1')
  run = {'workdir': str(trained[0]), 'file': str(path)}
  _refused(f'--file={path}, {message}', **run, text_column='review')
  for name in ('a.csv', 'a.TSV', 'a.json', 'a.jsonl', 'a.ndjson'):
    run['file'] = str(tmp_path / name)
    message = f'--file={run["file"]} is a table: say its column with --text_column'
    _refused(message, **run)
  _refused(
    'only one of --text, --text_column',
    workdir=run['workdir'],
    text='a',
    text_column='b',
  )


def test_a_short_review_is_padded_as_in_training(trained, capsys):
  folder, _ = trained
  run = experiment.open_run(str(folder))
  vocabulary = Vocabulary.load(folder / reviews.VOCABULARY_FILE)
  x = vocabulary.rows(['a clever plot'], 20)
  params = experiment.best_params(run, x)
  logit = float(run.model.apply({'params': params}, x, train=False)[0])
  (answer,) = _answers(capsys, workdir=str(folder), text='A clever plot!')
  assert answer['probability'] == pytest.approx(1 / (1 + math.exp(-logit)), rel=1e-5)


def test_unknown_words_and_what_is_not_read_are_reported(trained, capsys):
  folder, _ = trained
  text = 'Zebra, zebra! Qualms ' + 'the plot was ' * 8
  (answer,) = _answers(capsys, workdir=str(folder), text=text)
  assert answer['words'] == 27
  assert answer['unknown'] == ['zebra', 'qualms']
  assert answer['unread'] == 8  # the start id is read too, or rather not
  predict.run(predict.Config(workdir=str(folder), text=text))
  line = capsys.readouterr().out
  assert line.endswith('27 words, 2 unknown (zebra, qualms), first 8 not read\n')
  (short,) = _answers(capsys, workdir=str(folder), text='the plot')
  assert short['unread'] == 0
  unread_changes_nothing = 'qualms ' * 50 + ' '.join(text.split()[-20:])
  (same,) = _answers(capsys, workdir=str(folder), text=unread_changes_nothing)
  assert same['probability'] == answer['probability']


@pytest.mark.slow
def test_a_run_with_a_tokenizer_drops_the_words_it_does_not_know(tmp_path, capsys):
  config = imdb_glove.Config(
    **_SETTINGS, num_train=30, num_validation=20, num_epochs=1, workdir=str(tmp_path)
  )
  imdb_glove.run(config)
  (one,) = _answers(capsys, workdir=str(tmp_path), text='the zebra plot was')
  (two,) = _answers(capsys, workdir=str(tmp_path), text='the plot was')
  assert one['unknown'] == ['zebra']
  assert one['probability'] == two['probability']

  # The vectors brought along are those of the best epoch still, bit for bit.
  run = experiment.open_run(str(tmp_path))
  params = experiment.best_params(run, np.zeros((1, 20), np.int32))
  _, matrix = few.load(config)
  np.testing.assert_array_equal(params['embedding']['embedding'], np.float32(matrix))


@pytest.fixture
def copy(trained, tmp_path):
  """A copy of the run, to be spoilt."""
  return shutil.copytree(trained[0], tmp_path / 'copy')


def _refused(match, **settings):
  with pytest.raises(InputError, match=match):
    predict.run(predict.Config(**settings))


def test_runs_that_are_not_whole_are_refused(copy, tmp_path):
  text = {'workdir': str(copy), 'text': 'a film'}
  vocabulary = copy / reviews.VOCABULARY_FILE
  words = vocabulary.read_text()
  vocabulary.write_text(words[:-1])
  _refused(r'vocabulary\.json: expected a saved vocabulary', **text)
  vocabulary.unlink()
  _refused(r'vocabulary\.json: cannot be read', **text)
  vocabulary.write_text(words)
  for path in copy.glob('checkpoints/*/state/**/*'):
    if path.is_file():
      path.write_bytes(b'')
  _refused('no intact checkpoint of a best epoch .*bytes', **text)
  shutil.rmtree(copy / 'checkpoints')
  _refused('no intact checkpoint of a best epoch', **text)
  _refused('--workdir must name the folder of a run', text='a film')
  _refused('cannot read config.json', workdir=str(tmp_path), text='a film')


@pytest.mark.parametrize(
  ('name', 'match'),
  [
    ('reviews', 'no prediction'),
    ('suites', 'has no model'),
    ('none', 'no experiment of this package'),
    (None, 'names no experiment'),
    ('os.path', 'names no experiment'),
  ],
)
def test_other_runs_are_refused(copy, name, match, monkeypatch):
  path = copy / 'config.json'
  record = json.loads(path.read_text())
  record['config']['experiment'] = name
  path.write_text(json.dumps(record))
  monkeypatch.setattr(reviews, 'Config', config_lib.TrainConfig)
  monkeypatch.setattr(reviews, 'make_model', lambda config: None, raising=False)
  _refused(match, workdir=str(copy), text='a film')


def test_input_that_is_no_text_is_refused(trained, tmp_path):
  path = tmp_path / 'latin.txt'
  path.write_bytes('good\ncafé\n'.encode('latin-1'))
  run = {'workdir': str(trained[0])}
  _refused(r'--file=.*latin\.txt, line 2 is not UTF-8', **run, file=str(path))
  path.write_bytes(gzip.compress(b'review\ngood\n'))
  message = 'line 1 is not UTF-8; it looks like a file packed by gzip: unpack it'
  for column in (None, 'review'):
    _refused(message, **run, file=str(path), text_column=column)
  path.write_text('{"review": "a"}\n{"review": 1.5}\n')
  _refused(
    "latin.txt, line 2: 'review' must be a string, got 1.5",
    **run,
    file=str(path),
    text_column='review',
  )
  _refused('No such file', **run, file=str(tmp_path / 'none'))
  _refused('give only one of --text, --file', **run, text='a', file='b')
