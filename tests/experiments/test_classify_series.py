"""Classes of series of one's own: learned, reported, and told of a new file."""

import contextlib
import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest

from experiments import classify_series, predict
from experiments.series import classification
from seqjax.data.series import synthetic
from seqjax.types import InputError

pytestmark = pytest.mark.usefixtures('no_pictures', 'quick_programs')

_SMALL = {'features': 4, 'num_epochs': 1, 'batch_size': 8, 'length': 30}


def _folder(path):
  """A file for each of 24 generated series, in folders of their classes."""
  made = synthetic.shapes(1, 24)
  for i, (series, label) in enumerate(zip(made.series, made.labels, strict=True)):
    columns = dict(zip(series.columns, series.values.T, strict=True))
    columns['kind'] = np.array(['p', 'q'])[np.arange(len(series.times)) % 2]
    file = path / label / f'{i:02}.csv'
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(synthetic.as_csv(series.times, columns))
  return path


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  folder = tmp_path_factory.mktemp('classify_series')
  data = _folder(folder / 'waves')
  config = classify_series.Config(
    **_SMALL, data=str(data), categories='kind', workdir=str(folder / 'run')
  )
  return config, classify_series.run(config), data


def test_a_run_and_what_it_tells_of_each_test_file(trained, capsys):
  config, result, _ = trained
  folder = pathlib.Path(config.workdir)
  assert json.loads((folder / 'result.json').read_text()) == result
  assert (folder / 'confusion.png').exists()
  assert result['naive_test_accuracy'] == pytest.approx(1 / 3)
  loaded = classification.load(config)
  assert loaded.scaling.columns == ('x', 'y', 'kind=p', 'kind=q')
  assert loaded.classes == ['saw', 'sine', 'square']
  rows = np.concatenate([loaded.parts[0].take(np.array([i])).x[0] for i in range(12)])
  assert np.abs(rows[:, 2:]).max() == 1
  tested = sorted(_test_files(config))
  assert len(tested) == 6
  right = []
  for file in tested:
    capsys.readouterr()
    predict.run(predict.Config(workdir=str(folder), file=file, json=True))
    answer = json.loads(capsys.readouterr().out)
    lines = len(pathlib.Path(file).read_text().splitlines()) - 1
    assert (answer['rows'], answer['unread']) == (lines, lines - 30)
    assert sum(answer['probabilities'].values()) == pytest.approx(1, abs=1e-5)
    right.append(answer['label'] == pathlib.Path(file).parent.name)
  share = np.mean(right)
  assert result['test_accuracy'] == pytest.approx(share)
  predict.run(predict.Config(workdir=str(folder), file=str(file), held_out=6))
  assert f'held out, 6 test series: {share:.4f} right' in capsys.readouterr().err


def _test_files(config):
  """The files of the test set, by the values of their last rows."""
  loaded = classification.load(config)
  found = classification._read_all(config)
  chosen = set()
  for i in range(len(loaded.parts[2])):
    row = loaded.parts[2].take(np.array([i]))
    last = row.x[0][row.mask[0]][-1]
    for series, place in zip(found.series, found.locations, strict=True):
      if np.allclose(loaded.scaling.normal(series.values)[-1], last, atol=1e-5):
        chosen.add(place)
  return chosen


@pytest.mark.parametrize('layer', ['lstm', 'min_gru', 'conv1d'])
def test_padding_changes_nothing(trained, layer):
  config = dataclasses.replace(trained[0], layer=layer, num_layers=2)
  model = classify_series.make_model(config, 3)
  x = np.random.default_rng(0).normal(size=(1, 9, 4)).astype(np.float32)
  variables = model.init(jax.random.key(0), x, train=False)
  padded = np.pad(x, [(0, 0), (0, 5), (0, 0)], constant_values=7)
  mask = (np.arange(14) < 9)[None]
  np.testing.assert_allclose(
    model.apply(variables, padded, train=False, mask=mask),
    model.apply(variables, x, train=False),
    atol=1e-6,
  )


_SHORT = r'short.csv: convolutions of `kernel_size=5`, .* need 9 rows, got 2'


@pytest.mark.slow
@pytest.mark.parametrize(
  ('layer', 'asked'),
  [
    ('min_gru', contextlib.nullcontext()),
    ('conv1d', pytest.raises(InputError, match=_SHORT)),
  ],
)
def test_each_layer_tells_generated_waves(tmp_path, layer, asked):
  config = classify_series.Config(
    dataset='synthetic', layer=layer, features=16, num_epochs=4, learning_rate=0.02,
    num_layers=2, workdir=str(tmp_path),
  )  # fmt: skip
  result = classify_series.run(config)
  assert result['test_accuracy'] > 0.6 > result['naive_test_accuracy']
  file = tmp_path / 'short.csv'
  file.write_text('time,x,y\n2020-01-01,1,2\n2020-01-02,1,2\n')
  with asked:
    predict.run(predict.Config(workdir=str(tmp_path), file=str(file)))


def test_what_convolutions_are_too_long_for_is_refused_by_name(trained):
  settings = {'layer': 'conv1d', 'categories': 'kind', 'data': trained[0].data}
  with pytest.raises(InputError, match=r'saw/\d+.csv: convolutions of .* need 41 rows'):
    classification.load(classify_series.Config(**settings, kernel_size=41, length=40))
  with pytest.raises(InputError, match=r'`layer` must be one of .* conv1d, got .dense'):
    classify_series.Config(layer='dense')


def test_a_file_that_does_not_do(trained, tmp_path):
  config, _, data = trained
  text = (data / 'saw' / '00.csv').read_text()
  for change, message in (
    (text.replace(',y,', ',z,'), 'expected the columns that the run was trained on, x'),
    (text.replace(',p\n', ',\n', 1), "line 2, column 'kind': expected a word, got ''"),
    (text.replace('2020-01-01T00', '1 o clock'), "line 2, column 'time'"),
  ):
    (tmp_path / 'a.csv').write_text(change)
    with pytest.raises(InputError, match=message):
      predict.run(predict.Config(workdir=config.workdir, file=str(tmp_path / 'a.csv')))
  with pytest.raises(InputError, match='--text: a run of classify_series takes --file'):
    predict.run(predict.Config(workdir=config.workdir, text='a'))


def test_a_file_of_other_columns_is_the_one_named(tmp_path):
  """Compared with the first to train on, which is not the first of all."""
  lines = ['file,label,part']
  for i in range(8):
    part = ('test', 'val', 'train', 'train')[i // 2]
    lines.append(f'{i}.csv,{"ab"[i % 2]},{part}')
    content = 'x,z\n1,2\n3,4\n' if i == 6 else f'x\n{i}\n{i + 1}\n'
    (tmp_path / f'{i}.csv').write_text(content)
  (tmp_path / 'labels.csv').write_text('\n'.join(lines))
  config = classify_series.Config(
    **_SMALL,
    data=str(tmp_path),
    labels=str(tmp_path / 'labels.csv'),
    date_format='rows',
  )
  with pytest.raises(
    InputError, match=r'/6.csv: expected the columns of .*/4.csv, x; got x, z$'
  ):
    classification.load(config)


def test_labels_of_rows_with_parts(tmp_path):
  rng = np.random.default_rng(0)
  values = rng.normal(size=60)
  (tmp_path / 'one.csv').write_text('x\n' + '\n'.join(f'{v:.4f}' for v in values))
  lines = ['from,to,label,part']
  parts = ['train'] * 4 + ['val', 'test']
  for i in range(6):
    lines.append(f'{10 * i + 1},{10 * i + 5},a,{parts[i]}')
    lines.append(f'{10 * i + 6},{10 * i + 10},b,{parts[i]}')
  (tmp_path / 'labels.csv').write_text('\n'.join(lines))
  settings = {
    **_SMALL,
    'data': str(tmp_path / 'one.csv'),
    'labels': str(tmp_path / 'labels.csv'),
    'date_format': 'rows',
  }
  data = classification.load(classify_series.Config(**settings))
  assert [len(part) for part in data.parts] == [8, 2, 2]
  np.testing.assert_array_equal(data.labels[2], [0, 1])
  training = values[:40].round(4)
  np.testing.assert_allclose(data.scaling.mean, training.mean(), rtol=1e-4)
  expected = (values[50:55].round(4) - training.mean()) / training.std()
  found = data.parts[2].take(np.array([0])).x[0, :, 0]
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
  (tmp_path / 'labels.csv').write_text('\n'.join([*lines, '1,2,c,test']))
  with pytest.raises(InputError, match="1 to 2: the label 'c' of the test set is not"):
    classification.load(classify_series.Config(**settings))
  (tmp_path / 'labels.csv').write_text('from,to,label\n1,5,a\n6,9,a\n')
  with pytest.raises(InputError, match="there is only the class 'a'"):
    classification.load(classify_series.Config(**settings))
  (tmp_path / 'labels.csv').write_text('from,to,label\n1,5,a\n6,9,b\n')
  with pytest.raises(InputError, match=r'`test_split=0.2` of 2 series leaves none'):
    classification.load(classify_series.Config(**settings))
