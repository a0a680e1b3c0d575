"""Samples with dropout left on, and ensembles: what they say, and how far it holds."""

import json
import re
import shutil

import matplotlib.image
import numpy as np
import pytest

import seqjax as sj
from experiments import (
  experiment,
  imdb_gru,
  imdb_lstm,
  jena_gru_dropout,
  predict,
  prediction,
)
from seqjax.data.series import synthetic as synthetic_weather
from seqjax.data.series.series import write_csv
from seqjax.types import InputError

pytestmark = pytest.mark.usefixtures('no_pictures', 'quick_programs')

_REVIEWS = {
  'dataset': 'synthetic',
  'synthetic_size': 160,
  'vocab_size': 90,
  'length': 12,
  'batch_size': 32,
  'learning_rate': 0.05,
  'num_epochs': 2,
  'embed_size': 4,
  'features': 4,
}
_TEXTS = ['a clever plot', 'the cast was dull', 'silly']


@pytest.fixture(scope='module')
def reviews(tmp_path_factory):
  """Folders of runs: two seeds of an LSTM with dropout, a GRU without."""
  root = tmp_path_factory.mktemp('reviews')
  settings = {**_REVIEWS, 'dropout': 0.3, 'recurrent_dropout': 0.2, 'num_seeds': 2}
  imdb_lstm.run(imdb_lstm.Config(**settings, workdir=str(root / 'both')))
  imdb_gru.run(imdb_gru.Config(**_REVIEWS, workdir=str(root / 'gru')))
  (root / 'texts.txt').write_text('\n'.join(_TEXTS))
  return root


@pytest.fixture(scope='module')
def weather(tmp_path_factory):
  """The folder of a run with dropout, and its series as a file."""
  folder = tmp_path_factory.mktemp('weather')
  config = jena_gru_dropout.Config(
    dataset='synthetic', synthetic_rows=3000, lookback=36, step=3, delay=12,
    steps_per_epoch=40, num_epochs=2, batch_size=32, features=8, learning_rate=0.02,
    workdir=str(folder / 'run'),
  )  # fmt: skip
  jena_gru_dropout.run(config)
  path = folder / 'series.csv'
  write_csv(synthetic_weather.weather(0, 3000, faults=True), path)
  return folder / 'run', path


def _answers(capsys, **settings):
  """The answers, and what the error stream says of held-out examples."""
  capsys.readouterr()
  predict.run(predict.Config(**settings, json=True))
  out, err = capsys.readouterr()
  return [json.loads(line) for line in out.splitlines()], err


def test_an_ensemble_answers_with_the_mean_of_its_runs(reviews, capsys):
  file = str(reviews / 'texts.txt')
  folders = [str(reviews / 'both' / 'seeds' / str(seed)) for seed in (0, 1)]
  folders.append(str(reviews / 'gru'))  # another model with the same inputs
  alone = [_answers(capsys, workdir=folder, file=file)[0] for folder in folders]
  p = np.array([[answer['probability'] for answer in answers] for answers in alone])
  assert 'spread' not in alone[0][0]
  for names, members in ((folders, p), ([reviews / 'both', folders[2]], p)):
    workdir = ','.join(map(str, names))
    answers, _ = _answers(capsys, workdir=workdir, file=file)
    assert len(answers) == len(_TEXTS)
    for answer, each in zip(answers, members.T, strict=True):
      assert answer['probability'] == pytest.approx(each.mean(), rel=1e-4)
      assert answer['spread'] == pytest.approx(each.std(ddof=1), rel=1e-3)
      assert (answer['label'] == 'positive') == (each.mean() > 0.5)
      low, high = np.quantile(each, [0.05, 0.95])
      assert [answer['low'], answer['high']] == pytest.approx([low, high], rel=1e-4)


def test_seeds_answer_in_their_order_without_those_that_diverged(
  reviews, tmp_path, capsys
):
  first = reviews / 'both' / 'seeds' / '0'
  for name in ('0', '2', '2.old', '10', '11'):
    shutil.copytree(first, tmp_path / 'seeds' / name)
  shutil.rmtree(tmp_path / 'seeds' / '11' / 'checkpoints')
  (tmp_path / 'seeds' / '11' / 'result.json').unlink()
  # Seed 2 has ended since, by itself.
  result = {'diverged': dict.fromkeys(['2', '11'], 'step 3: loss is nan')}
  (tmp_path / 'result.json').write_text(json.dumps(result))
  members = prediction.Members(predict.Config(workdir=str(tmp_path)))
  assert [run.folder.name for run in members.runs] == ['0', '2', '10']
  assert capsys.readouterr().err.count('diverged, and is left out') == 1
  for name in ('0', '2', '2.old', '10'):
    shutil.rmtree(tmp_path / 'seeds' / name)
  with pytest.raises(InputError, match='all of its seeds diverged'):
    prediction.Members(predict.Config(workdir=str(tmp_path)))


def test_samples_are_those_of_the_loaded_model(reviews, capsys):
  folder = reviews / 'both' / 'seeds' / '0'
  settings = {'workdir': str(folder), 'file': str(reviews / 'texts.txt')}
  answers, err = _answers(capsys, **settings, samples=7, seed=3, held_out=20)
  run = experiment.open_run(str(folder))
  vocabulary = run.task.prediction.Vocabulary.load(folder / 'vocabulary.json')
  ids = sj.text.pad_sequences(vocabulary.encode(_TEXTS), 12)
  logits = sj.load(folder).predict(ids, samples=7, seed=3)  # [7, 3]
  p = 1 / (1 + np.exp(-logits))
  assert p.std(0).min() > 1e-4
  for answer, each in zip(answers, p.T, strict=True):
    assert answer['probability'] == pytest.approx(each.mean(), rel=1e-4)
    assert answer['spread'] == pytest.approx(each.std(ddof=1), rel=1e-3)
  assert 'held out, 20 test reviews' in err
  again, _ = _answers(capsys, **settings, samples=7, seed=4)
  assert again[0]['probability'] != answers[0]['probability']
  for opened in (experiment.open_run, sj.load):
    with pytest.raises(InputError, match=r'many seeds: name one of them, such as .*/0'):
      opened(str(reviews / 'both'))
  # Each run of an ensemble has masks of its own.
  settings['workdir'] = str(reviews / 'both')
  both, _ = _answers(capsys, **settings, samples=7, seed=3)
  other = sj.load(reviews / 'both' / 'seeds' / '1').predict(ids, samples=7, seed=4)
  p = np.concatenate([p, 1 / (1 + np.exp(-other))])
  for answer, each in zip(both, p.T, strict=True):
    assert answer['probability'] == pytest.approx(each.mean(), rel=1e-4)


def test_a_run_answers_in_what_it_computes_in(tmp_path, capsys):
  settings = {**_REVIEWS, 'num_epochs': 1, 'compute_dtype': 'bfloat16'}
  imdb_gru.run(imdb_gru.Config(**settings, workdir=str(tmp_path)))
  vocabulary = experiment.open_run(str(tmp_path)).task.prediction.Vocabulary
  ids = vocabulary.load(tmp_path / 'vocabulary.json').encode(_TEXTS)
  logits = sj.load(tmp_path).predict(sj.text.pad_sequences(ids, 12))
  assert logits.dtype == np.float32
  (tmp_path / 'texts.txt').write_text('\n'.join(_TEXTS))
  answers, _ = _answers(capsys, workdir=str(tmp_path), file=str(tmp_path / 'texts.txt'))
  p = [answer['probability'] for answer in answers]
  np.testing.assert_allclose(p, 1 / (1 + np.exp(-logits)), rtol=1e-6)
  config = tmp_path / 'config.json'  # the same parameters elsewise
  config.write_text(config.read_text().replace('bfloat16', 'float32'))
  again, _ = _answers(capsys, workdir=str(tmp_path), text=_TEXTS[0])
  assert again[0]['probability'] != pytest.approx(p[0], rel=1e-6)


@pytest.mark.slow
def test_what_cannot_answer_together_is_refused_by_name(reviews, weather, tmp_path):
  first = str(reviews / 'both' / 'seeds' / '0')

  def refused(message, **settings):
    with pytest.raises(InputError, match=message):
      predict.run(predict.Config(text='a plot', **settings))

  refused('model has no dropout', workdir=str(reviews / 'gru'), samples=5)
  refused('runs of imdb_lstm and jena_gru_dropout', workdir=f'{first},{weather[0]}')
  refused('names a run twice', workdir=f'{first},{reviews / "both"}')
  refused('--picture', workdir=first, picture=str(tmp_path / 'a.png'))
  shorter = shutil.copytree(first, tmp_path / 'shorter')
  record = json.loads((shorter / 'config.json').read_text())
  record['config']['length'] = 9
  (shorter / 'config.json').write_text(json.dumps(record))
  refused(r'length differs \(12 and 9\)', workdir=f'{first},{shorter}')


@pytest.mark.slow
def test_the_interval_of_a_forecast_holds_what_is_measured(weather, tmp_path, capsys):
  folder, path = weather
  picture = tmp_path / 'band.png'
  settings = {'workdir': str(folder), 'file': str(path)}
  plain, quiet = _answers(capsys, **settings)
  assert 'held out' not in quiet
  answers, err = _answers(
    capsys, **settings, samples=20, held_out=300, picture=str(picture)
  )
  told = re.search(r'300 test windows: .*of 90% holds ([\d.]+)%.*alone ([\d.]+)%', err)
  calibrated, alone = float(told[1]), float(told[2])
  assert abs(calibrated - 90) < 6
  assert alone < calibrated - 10  # what dropout alone would have promised
  # The same of the answers themselves: the last fifth of the file is the test part.
  tested = [a for a in answers[-590:] if a['measured'] is not None]
  held = [a['low'] <= a['measured'] <= a['high'] for a in tested]
  assert np.mean(held) == pytest.approx(calibrated / 100, abs=0.05)
  means = [np.array([a['forecast'] for a in part]) for part in (answers, plain)]
  assert 0 < np.abs(means[0] - means[1]).mean() < 1.0
  assert all(a['spread'] > 0 for a in answers)
  drawn = matplotlib.image.imread(picture)
  assert drawn[..., :3].std() > 0.05


def test_a_calibrated_interval_holds_nine_tenths_of_new_examples():
  rng = np.random.default_rng(0)
  truth, own = rng.normal(size=6000), rng.uniform(0.1, 0.6, 6000)
  mean = truth + own * rng.normal(size=6000)
  members = mean + own * rng.normal(size=(40, 6000))
  y = truth + 0.5 * rng.standard_t(5, size=6000)  # of variance 0.25 * 5 / 3
  calibration = prediction.Calibration.of(members[:, :2000], y[:2000])
  assert calibration.noise == pytest.approx(0.25 * 5 / 3, abs=0.08)
  rest, of_rest = members[:, 2000:], y[2000:]
  found = calibration.interval(rest)
  assert prediction.coverage(found, of_rest) == pytest.approx(0.9, abs=0.015)
  assert prediction.coverage(prediction.interval(rest), of_rest) < 0.75
  # Where members are far apart the interval is wider.
  widths = found[1] - found[0]
  assert widths[own[2000:] > 0.5].mean() > 1.15 * widths[own[2000:] < 0.2].mean()


def test_numbers_side_by_side_have_intervals_of_their_own():
  rng = np.random.default_rng(1)
  scatter = np.array([[0.2, 1.0], [2.0, 0.5], [0.1, 4.0]])  # [K, C]
  truth = rng.normal(size=(900, 3, 2))
  members = truth + 0.1 * rng.normal(size=(8, 900, 3, 2))
  y = truth + scatter * rng.normal(size=truth.shape)
  together = prediction.Calibration.of(members[:, :500], y[:500])
  found = together.interval(members[:, 500:])
  shares = prediction.coverage(found, y[500:])
  assert shares.shape == scatter.shape
  np.testing.assert_allclose(shares, 0.9, atol=0.06)
  for k, c in np.ndindex(*scatter.shape):
    alone = prediction.Calibration.of(members[:, :500, k, c], y[:500, k, c])
    of_one = alone.interval(members[:, 500:, k, c])
    np.testing.assert_allclose(found[..., k, c], of_one, rtol=1e-6)


def test_confidence_by_hand():
  p = np.array([[0.95, 0.05], [0.9, 0.1], [0.3, 0.7], [0.35, 0.65]])
  found = prediction.Confidence.of(p, np.array([0, 1, 1, 0]))
  assert found.right == 0.5
  assert found.confidence == pytest.approx(0.8)
  # Bins: 0.9 to 1 holds two with one right; 0.7 one, right; 0.6 one, wrong.
  assert found.error == pytest.approx((abs(1 - 1.85) + abs(1 - 0.7) + 0.65) / 4)
