"""Texts of a user's own: to a prediction in two commands, as docs/own_data.md says."""

import csv
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from experiments import classify, classify_explore, predict
from seqjax.data.texts import synthetic
from seqjax.training.confusion import class_scores, confusion_matrix
from seqjax.types import InputError

pytestmark = pytest.mark.usefixtures('no_pictures', 'quick_programs')

_ROOT = pathlib.Path(__file__).parents[2]


def _table(path, N=240):
  """A CSV of generated texts."""
  splits = synthetic.topics(1, N)
  with path.open('w', newline='', encoding='utf-8') as file:
    writer = csv.writer(file)
    writer.writerow(['label', 'text'])
    for part in splits:
      writer.writerows(zip(part.labels, part.texts, strict=True))
  return path


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """The folder of a short run, its result, and its data."""
  folder = tmp_path_factory.mktemp('run')
  data = _table(folder / 'own.csv')
  config = classify.Config(
    data=str(data), workdir=str(folder / 'run'), num_epochs=8, embed_size=16,
    features=16, test_split=0.2, learning_rate=0.02, batch_size=16,
  )  # fmt: skip
  return folder / 'run', classify.run(config), data


def _answers(capsys, folder, *more, **settings):
  capsys.readouterr()
  predict.run(predict.Config(workdir=str(folder), json=True, **settings))
  return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_run_leaves_scores_of_each_class_and_a_picture(trained):
  folder, result, _ = trained
  assert json.loads((folder / 'result.json').read_text()) == result
  matrix = np.array(result['confusion'])
  assert matrix.sum() == 48
  assert matrix.trace() / 48 == pytest.approx(result['test_accuracy'])
  assert result['test_accuracy'] > 0.5  # a fifth by chance
  assert list(result['classes']) == ['food', 'garden', 'music', 'space', 'sport']
  f1 = np.mean([row['f1'] for row in result['classes'].values()])
  assert result['test_macro_f1'] == pytest.approx(f1)
  assert (folder / 'confusion.png').read_bytes().startswith(b'\x89PNG')
  assert json.loads((folder / 'labels.json').read_text()) == list(result['classes'])


def test_predictions_on_the_test_set_have_the_accuracy_of_the_run(
  trained, tmp_path, capsys
):
  folder, result, data = trained
  texts = classify.load_texts(classify.Config(data=str(data), test_split=0.2)).test
  path = tmp_path / 'texts.txt'
  path.write_text('\n'.join(texts.texts), encoding='utf-8')
  answers = _answers(capsys, folder, file=str(path))
  hits = [a['label'] == label for a, label in zip(answers, texts.labels, strict=True)]
  assert np.mean(hits) == pytest.approx(result['test_accuracy'])
  one = _answers(capsys, folder, text=texts.texts[3] + ' xylem')[0]
  assert one['unknown'] == ['xylem']
  assert sum(one['probabilities'].values()) == pytest.approx(1, abs=1e-5)
  assert one['probabilities'][one['label']] == one['probability']
  (empty,) = _answers(capsys, folder, text='')
  assert empty['words'] == 0


def test_explore_tells_of_data_and_of_mistakes(trained, tmp_path, capsys):
  folder, result, data = trained
  capsys.readouterr()
  classify_explore.run(classify_explore.Config(workdir=str(folder), out=str(tmp_path)))
  output = capsys.readouterr().out
  wrong = 48 - round(48 * result['test_accuracy'])
  assert f'{wrong} of 48 texts of the test set are mistaken' in output
  space = re.search(r'space: (.*)', output)[1].split(', ')
  assert set(space) <= {*synthetic._TOPICS['space'].split()}
  assert (tmp_path / 'lengths.png').exists()
  classify_explore.run(classify_explore.Config(data=str(data), out=str(tmp_path)))
  assert 'mistaken' not in capsys.readouterr().out
  with pytest.raises(InputError, match='one of --data, --workdir'):
    classify_explore.run(classify_explore.Config())


def test_scores_of_classes_by_hand():
  labels, found = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 0])
  matrix = confusion_matrix(labels, found, 3)
  np.testing.assert_array_equal(matrix, [[2, 1, 0], [1, 1, 0], [1, 0, 0]])
  scores = class_scores(matrix, 'abc')
  assert scores['a'] == {'precision': 0.5, 'recall': 2 / 3, 'f1': 4 / 7, 'number': 3}
  assert scores['c'] == {'precision': 0, 'recall': 0, 'f1': 0, 'number': 1}
  with pytest.raises(ValueError, match='classes must be in'):
    confusion_matrix(labels, found, 2)


@pytest.mark.slow
def test_vectors_and_every_layer_are_taken(tmp_path):
  data = _table(tmp_path / 'own.csv', 90)
  vectors = tmp_path / 'vectors.txt'
  words = ('star', 'bread', 'team')
  vectors.write_text(''.join(f'{w} {i} 0.5 -1\n' for i, w in enumerate(words)))
  common = {'data': str(data), 'num_epochs': 1, 'features': 3, 'log_every': 1}
  common |= {'save_every': 1, 'class_weight': 'balanced', 'test_split': 0.2}
  result = classify.run(
    classify.Config(
      **common, embed_size=3, vectors=str(vectors), freeze_vectors=True, layer='gru',
      pooling='last', num_layers=2, workdir=str(tmp_path / 'a'),
    )
  )  # fmt: skip
  assert result['epochs'] == 1
  result = classify.run(
    classify.Config(
      **common, tokens='characters', bidirectional=False, layer='simple_rnn',
      pooling='mean', workdir=str(tmp_path / 'b'),
    )
  )  # fmt: skip
  assert result['epochs'] == 1
  with pytest.raises(InputError, match='`embed_size` must be 3'):
    classify.run(classify.Config(**common, vectors=str(vectors), workdir='x'))


def _commands(kind):
  """The two commands of the docs for a kind of data."""
  text = (_ROOT / 'docs' / 'own_data.md').read_text()
  block = re.search(rf'## {kind}.*?```sh\n(.*?)```', text, re.S)[1]
  lines = block.replace('\\\n', ' ').strip().splitlines()
  assert len(lines) == 2
  return [line.replace('.venv/bin/python', sys.executable) for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['A table', 'A folder'])
def test_two_commands_lead_to_a_prediction(tmp_path, kind):
  splits = synthetic.topics(2, 400)
  if kind == 'A table':
    _table(tmp_path / 'letters.csv', 400)
  for part in splits if kind == 'A folder' else ():
    for text, label, place in zip(*part, strict=True):
      (tmp_path / 'letters' / label).mkdir(parents=True, exist_ok=True)
      name = place.split()[-1]
      (tmp_path / 'letters' / label / f'{name}.txt').write_text(text)
  for command in _commands(kind):
    done = subprocess.run(
      ['sh', '-c', command], cwd=tmp_path, capture_output=True, text=True,
      env={**os.environ, 'PYTHONPATH': str(_ROOT), 'XLA_FLAGS': ''},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
  assert re.match(r'0\.\d+  (food|garden|music|space|sport)  \d+ words', done.stdout)


def test_bad_input_ends_with_2(tmp_path):
  path = tmp_path / 'one.csv'
  path.write_text('text,label\nx,a\n,b\n')
  command = [sys.executable, '-m', 'experiments.classify', f'--data={path}']
  done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True)
  assert done.returncode == 2
  assert done.stderr == f"classify: {path}, line 3: 'text' is empty\n"
