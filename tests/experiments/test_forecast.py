"""Forecasts of a CSV of one's own: windows, baselines and errors by plain loops."""

import dataclasses
import functools
import itertools
import json
import math
import pathlib
import re
import shutil

import jax
import matplotlib.image
import numpy as np
import pytest

from experiments import (
  experiment,
  forecast,
  jena_conv1d,
  jena_dense,
  jena_gru,
  predict,
  prediction,
  weather,
)
from experiments.series import data as series_data
from experiments.series import targets
from seqjax import models
from seqjax.data.series import windows
from seqjax.types import InputError

pytestmark = pytest.mark.usefixtures('quick_programs')

_SMALL = {
  'lookback': 6,
  'horizon': '1,3',
  'layer': 'gru',
  'features': 3,
  'num_epochs': 1,
  'steps_per_epoch': 2,
  'batch_size': 16,
}


def _csv(path, rows=160, *, gap=70, hole=None, start='2020-01-01T00'):
  """Hourly rows with one left out, a column of words and two of numbers."""
  rng = np.random.default_rng(0)
  hours = np.datetime64(start, 'h') + np.arange(rows)
  lines = ['time,load (kW),sky,b,note']
  for i, hour in enumerate(hours):
    if i == gap:
      continue
    load = '' if i == hole else f'{10 + 5 * math.sin(i / 4) + rng.normal():.3f}'
    sky = ('rain', 'clear')[i % 3 == 0] if i < 150 else 'fog'
    lines.append(f'{hour}:00,{load},{sky},{rng.normal():.3f},n{i}')
  path.write_text('\n'.join(lines))
  return path


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A run with two targets, two horizons and quantiles; its file, result and data."""
  folder = tmp_path_factory.mktemp('forecast')
  path = _csv(folder / 'mine.csv', hole=40)
  config = forecast.Config(
    **_SMALL,
    data=str(path),
    target='b,load (kW)',
    columns='-note',
    categories='sky',
    missing='previous',
    quantiles='0.1,0.5,0.9',
    dropout=0.3,
    cache_dir=str(folder / 'cache'),
    workdir=str(folder / 'run'),
  )
  return config, forecast.run(config), targets.load(config), path


def _load(tmp_path, **settings):
  settings = {'target': 'b', 'columns': '-note', 'categories': 'sky'} | settings
  settings |= {'cache_dir': str(tmp_path / 'cache')}
  return targets.load(forecast.Config(**_SMALL | settings))


def test_windows_stay_in_their_piece_and_split_and_have_measured_targets(trained):
  _, _, data, _ = trained
  assert data.names == ['b', 'load (kW)']
  assert data.scaling.columns == ('load (kW)', 'sky=clear', 'sky=rain', 'b')  # no fog
  N, first, second = 159, int(0.6 * 159), int(0.8 * 159)
  hole = 40  # of row 70 on, the row of an hour is one less
  expected = [
    row
    for row in range(N)
    if any(
      start + 5 <= row and row + 3 < stop
      for start, stop in ((0, 70), (70, first), (first, second), (second, N))
    )
    and hole not in (row + 1, row + 3)
  ]
  found = np.concatenate([data.train.rows, data.validation.rows, data.test.rows])
  np.testing.assert_array_equal(found, expected)
  assert data.season == 24
  words = data.series.values[:, 1:3]
  assert set(np.unique(words)) == {0, 1}
  np.testing.assert_array_equal(words[150:], 0)
  own = data.series.values[:, 0] * data.scaling.std[0] + data.scaling.mean[0]
  assert own[40] == pytest.approx(own[39])  # filled


def test_errors_of_baselines_are_those_of_a_plain_loop(trained):
  _, result, data, _ = trained
  values, b, load = data.series.values, 3, 0
  piece = np.arange(159) >= 70
  naive, season = [], []
  for row in data.test.rows:
    for h in (1, 3):
      for c in (b, load):
        y = values[row + h, c]
        naive.append(abs(y - values[row, c]))
        then = row + h - 24
        fits = then >= 0 and piece[then] == piece[row]
        season.append(abs(y - (values[then, c] if fits else values[row, c])))
  assert result['naive_test_mae'] == pytest.approx(np.mean(naive), rel=1e-5)
  assert result['season_test_mae'] == pytest.approx(np.mean(season), rel=1e-5)
  by = np.reshape(naive, (-1, 2, 2)).mean(0)
  kilowatts = result['errors']['load (kW)']['3']['naive']
  assert kilowatts == pytest.approx(by[1, 1] * data.scaling.std[load], rel=1e-5)


def test_a_season_further_ahead_than_itself_is_what_is_known(trained):
  data = trained[2]
  data = data._replace(targets=data.targets._replace(horizons=(1, 4, 5, 9)), season=4)
  rows = np.array([20, 73, 100])
  found = targets.season_values(data, rows)
  for i, row in enumerate(rows):
    for k, then in enumerate((row - 3, row, row - 3, row - 3)):
      if row == 73 and then == 70 - 1:
        then = row
      np.testing.assert_array_equal(found[i, k], data.series.values[then, [3, 0]])
  early = targets.season_values(data, np.array([2]))
  np.testing.assert_array_equal(early[0, 0], data.series.values[2, [3, 0]])


def test_a_run_reports_what_its_best_parameters_forecast(trained, capsys):
  config, result, data, path = trained
  folder = pathlib.Path(config.workdir)
  assert json.loads((folder / 'result.json').read_text()) == result
  names = {file.name for file in folder.iterdir()}
  assert {'curves.png', 'forecasts.png', 'fan.png', 'scaling.json'} <= names
  assert result['best'].keys() >= {'val_mae', 'val_mae_b', 'val_mae_load_kw'}
  capsys.readouterr()
  predict.run(predict.Config(workdir=str(folder), file=str(path), json=True))
  shown = capsys.readouterr()
  answers = [json.loads(line) for line in shown.out.splitlines()]
  assert 'not known to the run: sky=fog' in shown.err
  assert len(answers) == (159 - 2 * 5) * 2 * 2
  by_key = {(a['made'], a['target'], a['ahead']): a for a in answers}
  errors, below = {}, []
  for row in data.test.rows:
    for target in data.names:
      for h in (1, 3):
        made = str(data.series.times[row]).replace('T', ' ')
        answer = by_key[made, target, h]
        assert answer['for'] == str(data.series.times[row + h]).replace('T', ' ')
        assert answer['0.1'] <= answer['0.5'] <= answer['0.9']
        error = abs(answer['0.5'] - answer['measured'])
        errors.setdefault((target, h), []).append(error)
        below.append(answer['measured'] <= answer['0.9'])
  for (target, h), found in errors.items():
    expected = result['errors'][target][str(h)]['model']
    assert np.mean(found) == pytest.approx(expected, abs=2e-4)
  assert np.mean(below) == pytest.approx(result['coverage']['test']['0.9'], abs=0.01)
  for target, metric in (('b', 'mae_b'), ('load (kW)', 'mae_load_kw')):
    tested = np.mean([result['errors'][target][h]['model'] for h in ('1', '3')])
    assert result[f'test_{metric}'] == pytest.approx(tested, rel=1e-4)
  # What was missing in the file is no measurement, and what is not there is none.
  filled = by_key['2020-01-02 15:00:00', 'load (kW)', 1]
  assert (filled['for'], filled['measured']) == ('2020-01-02 16:00:00', None)
  assert by_key['2020-01-02 15:00:00', 'b', 1]['measured'] is not None
  assert answers[-1]['measured'] is None


@pytest.mark.slow
def test_a_run_is_tested_in_what_it_computes_in(trained, tmp_path):
  settings = {'compute_dtype': 'bfloat16', 'workdir': str(tmp_path)}
  result = forecast.run(dataclasses.replace(trained[0], **settings))
  tested = [result['errors']['b'][h]['model'] for h in ('1', '3')]
  assert result['test_mae_b'] == pytest.approx(np.mean(tested), rel=3e-6)


def test_samples_are_told_by_their_mean_and_spread(trained, capsys):
  config, _, data, path = trained
  capsys.readouterr()
  predict.run(
    predict.Config(workdir=config.workdir, file=str(path), json=True, samples=4)
  )
  answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
  rows = windows.anchors(data.segments, 0, 159, windows.Shape(data.shape.offsets, 0))
  params = experiment.best_params(
    experiment.open_run(config.workdir), np.zeros((1, 6, 4), np.float32)
  )
  x = data.series.values[rows[:1, None] + np.array(data.shape.offsets)]
  model = forecast.make_model(config)
  alone = model.apply({'params': params}, x, train=False)[0]
  for answer, target, h in zip(answers, (3, 3, 0, 0), (0, 1, 0, 1), strict=False):
    assert answer['spread'] > 0
    own = np.sort(alone[h, (3, 0).index(target)]) * data.scaling.std[target]
    own += data.scaling.mean[target]
    near = [answer[q] for q in ('0.1', '0.5', '0.9')]
    assert np.abs(near - own).max() < 6 * answer['spread'] + 0.3
  with pytest.raises(InputError, match='--held_out: one answer has no interval'):
    predict.run(predict.Config(workdir=config.workdir, file=str(path), held_out=5))


def test_the_data_of_a_run_may_lie_elsewhere_by_now(trained, tmp_path):
  config, _, data, path = trained
  asked = predict.Config(workdir=config.workdir, data_dir=str(tmp_path))
  members = prediction.Members(asked)
  with pytest.raises(InputError, match=f'`data={tmp_path}/mine.csv`: expected a CSV'):
    members.load()
  shutil.copy(path, tmp_path)
  np.testing.assert_array_equal(members.load().test.rows, data.test.rows)


@pytest.mark.slow
def test_intervals_hold_what_is_measured_at_each_horizon(tmp_path, capsys):
  folder, picture = tmp_path / 'run', tmp_path / 'band.png'
  path = _csv(tmp_path / 'long.csv', rows=3000)
  config = forecast.Config(
    data=str(path), target='b,load (kW)', columns='-note', categories='sky',
    lookback=12, horizon='1,8', layer='gru', features=8, dropout=0.3,
    learning_rate=0.02, num_epochs=2, steps_per_epoch=40, batch_size=32,
    cache_dir=str(tmp_path / 'cache'), workdir=str(folder),
  )  # fmt: skip
  forecast.run(config)
  asked = {'workdir': str(folder), 'file': str(path)}
  capsys.readouterr()
  predict.run(
    predict.Config(**asked, json=True, samples=10, held_out=300, picture=str(picture))
  )
  out, err = capsys.readouterr()
  told = re.search(
    r'300 test windows: .*holds ([\d.]+)% \(by target and horizon ([\d.]+)% to '
    r'([\d.]+)%\), .*alone ([\d.]+)%',
    err,
  )
  overall, least, most, alone = map(float, told.groups())
  assert overall == pytest.approx(90, abs=5)
  assert 84 < least < overall < most < 96
  assert alone < overall - 10
  answers = [json.loads(line) for line in out.splitlines()][-4 * 580 :]  # of the test
  for target, h in itertools.product(('b', 'load (kW)'), (1, 8)):
    ours = [a for a in answers if (a['target'], a['ahead']) == (target, h)]
    ours = [a for a in ours if a['measured'] is not None]
    assert len(ours) > 560
    held = np.mean([a['low'] <= a['measured'] <= a['high'] for a in ours])
    assert held == pytest.approx(0.9, abs=0.06)
    assert all(a['low'] < a['forecast'] < a['high'] for a in ours)
    width = np.mean([a['high'] - a['low'] for a in ours])
    assert 3 < width < 6  # of noise alone 3.3
  assert matplotlib.image.imread(picture)[..., :3].std() > 0.05
  # From a file of few rows, of one run: no band.
  lines = path.read_text().splitlines()
  (tmp_path / 'short.csv').write_text('\n'.join([lines[0], *lines[-12:]]))
  asked['file'] = str(tmp_path / 'short.csv')
  predict.run(predict.Config(**asked, picture=str(tmp_path / 'plain.png')))
  assert (tmp_path / 'plain.png').exists()


def test_a_table_of_forecasts(trained, tmp_path, capsys):
  config, _, _, path = trained
  short = tmp_path / 'short.csv'
  lines = path.read_text().splitlines()
  short.write_text('\n'.join([lines[0], *lines[-7:]]))
  capsys.readouterr()
  predict.run(predict.Config(workdir=config.workdir, file=str(short)))
  header, *rows = capsys.readouterr().out.splitlines()
  titles = ['made', 'for', 'target', '0.1', '0.5', '0.9', 'now', 'measured']
  assert header.split() == titles
  assert len(rows) == 2 * 2 * 2
  assert rows[0].startswith('2020-01-07 14:00:00  2020-01-07 15:00:00  b')
  # A column that is not read need not be there.
  short.write_text(
    '\n'.join(line.rpartition(',')[0] for line in [lines[0], *lines[-7:]])
  )
  predict.run(predict.Config(workdir=config.workdir, file=str(short)))
  assert capsys.readouterr().out.splitlines() == [header, *rows]
  for change, message in (
    (lambda text: text.replace('b,', 'bb,', 1), 'expected the columns that the run'),
    (lambda text: '\n'.join(text.splitlines()[:4]), 'no row has the 5 rows before it'),
    (lambda text: text.replace('sky', 'heaven'), "and no 'sky'"),
  ):
    short.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=message):
      predict.run(predict.Config(workdir=config.workdir, file=str(short)))
  with pytest.raises(InputError, match='--text: a run of forecast takes --file'):
    predict.run(predict.Config(workdir=config.workdir, text='warm'))


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'target': ''}, r'`target` must name a column .* has load \(kW\), b$'),
    ({'target': 'sky'}, r'--target=sky: .* has load \(kW\), b$'),
    ({'target': 'b,b'}, 'names a column twice'),
    (
      {'categories': ''},
      "line 2, column 'sky': .* `categories` names columns of words",
    ),
    ({'hole': 40}, "line 42, column 'load .kW.': .* `missing` says"),
    ({'train_fraction': 0.95}, 'must add up below 1'),
    ({'lookback': 40}, 'the validation split, 32 rows, has no window: one needs 43'),
    ({'data': ''}, '`data=`: expected a CSV file, there is none'),
    ({'data': 'no.csv'}, '`data=no.csv`: expected a CSV file, there is none'),
    ({'date_format': 'epoch'}, "line 2, column 'time': expected whole seconds"),
  ],
)
def test_what_cannot_be_is_said(tmp_path, settings, message):
  settings = dict(settings)
  path = _csv(tmp_path / 'mine.csv', hole=settings.pop('hole', None))
  with pytest.raises(InputError, match=message):
    _load(tmp_path, **({'data': str(path)} | settings))


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'horizon': '0'}, '`horizon=0` must be rows ahead from 1, as 1,6,24 or 1-24'),
    ({'horizon': ''}, 'must be rows ahead'),
    ({'horizon': 'a'}, 'must be rows ahead'),
    ({'horizon': '1,24-6'}, '`horizon=1,24-6` must be rows ahead'),
    ({'horizon': '1,3--1'}, '`horizon=1,3--1` must be rows ahead'),
    ({'horizon': '6,1'}, 'must increase'),
    ({'horizon': '1-3,3'}, 'must increase'),
    ({'quantiles': '0.1,0.9'}, 'must increase, and hold 0.5'),
    ({'quantiles': '0.5,0.1'}, 'must increase, and hold 0.5'),
    ({'quantiles': '0.5,1'}, 'must be numbers between 0 and 1'),
    ({'quantiles': 'half'}, 'must be numbers between 0 and 1'),
    (
      {'layer': 'conv1d', 'bidirectional': True},
      '`bidirectional` does not go with `layer=conv1d`',
    ),
    ({'layer': 'dense', 'dropout': 0.1}, '`dropout` does not go with `layer=dense`'),
    (
      {'layer': 'min_gru', 'recurrent_dropout': 0.1},
      '`recurrent_dropout` does not go with `layer=min_gru`',
    ),
    ({'layer': 'conv1d'}, '`layer=conv1d` has no last state: `pooling` must be max or'),
    (
      {'layer': 'dense', 'pooling': 'max'},
      '`pooling=max` does not go with `layer=dense`',
    ),
    (
      {'layer': 'conv1d', 'pooling': 'max', 'num_layers': 2, 'lookback': 18},
      '`lookback` must be at least 19 times `step`, got 18 times',
    ),
  ],
)
def test_flags_that_cannot_be(settings, message):
  with pytest.raises(InputError, match=message):
    forecast.Config(**settings)


def test_horizons_of_a_range():
  assert forecast.Config(horizon='1-4, 8').horizons == (1, 2, 3, 4, 8)


def test_rows_without_a_time(tmp_path):
  path = tmp_path / 'rows.csv'
  path.write_text('a\n' + '\n'.join(str(i % 7) for i in range(120)))
  settings = {'data': str(path), 'date_format': 'rows', 'target': 'a', 'columns': ''}
  data = _load(tmp_path, **settings, categories='')
  assert data.season is None
  assert data.report.lines('refuse')['period'] == 'rows 1 to 120'
  assert len(data.train.rows) == 72 - 5 - 3
  weekly = _load(tmp_path, **settings, categories='', season=7)
  rows = weekly.test.rows
  found = targets.season_values(weekly, rows)
  np.testing.assert_array_equal(found, targets.measured(weekly, rows))


def _business_days(path, rows=120):
  """Mondays to Fridays, of values that come again after a week."""
  days = np.busday_offset('2020-01-06', np.arange(rows))
  lines = (f'{day},{i % 5 + 10_234_567.3}' for i, day in enumerate(days))
  path.write_text('\n'.join(['time,a', *lines]))
  return days


_ACROSS = {'target': 'a', 'columns': '', 'categories': '', 'across_gaps': True}


def test_a_season_is_so_many_rows_before_where_windows_cross_gaps(tmp_path):
  _business_days(tmp_path / 'a.csv')
  settings = {'data': str(tmp_path / 'a.csv'), **_ACROSS}
  data = _load(tmp_path, **settings, season=5)
  rows = data.test.rows
  found = targets.season_values(data, rows)
  np.testing.assert_array_equal(found, targets.measured(data, rows))
  assert targets.season_name(data) == '5 rows before'
  # Seven rows of daily ones are a week where no day is left out.
  assert targets.season_name(_load(tmp_path, **settings)) == '7 rows before'
  days = np.datetime64('2020-01-06') + np.arange(120)
  lines = (f'{day},{i % 5}' for i, day in enumerate(days))
  (tmp_path / 'a.csv').write_text('\n'.join(['time,a', *lines]))
  assert targets.season_name(_load(tmp_path, **settings)) == 'a week before'


def test_a_forecast_across_gaps_is_for_the_row_it_was_trained_for(tmp_path, capsys):
  days = [str(day) for day in _business_days(tmp_path / 'a.csv')]
  config = forecast.Config(
    **_SMALL,
    **_ACROSS,
    data=str(tmp_path / 'a.csv'),
    cache_dir=str(tmp_path / 'cache'),
    workdir=str(tmp_path / 'run'),
  )
  forecast.run(config)
  capsys.readouterr()
  ask = predict.Config(workdir=config.workdir, file=config.data, json=True)
  predict.run(ask)
  answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
  assert len(answers) == 2 * (120 - 5)
  for i, answer in enumerate(answers):
    row, h = 5 + i // 2, (1, 3)[i % 2]
    assert (answer['made'][:10], answer['ahead']) == (days[row], h)
    if row + h < 120:
      assert answer['for'][:10] == days[row + h]
      assert answer['measured'] == (row + h) % 5 + 10_234_567.3
    else:  # steps on from the last row there is
      beyond = np.datetime64(days[-1]) + np.timedelta64(row + h - 119, 'D')
      assert (answer['for'][:10], answer['measured']) == (str(beyond), None)


def test_months_have_gaps_and_ways_on(tmp_path):
  """No step is every month's: of 31 days there are three rows together at most."""
  months = np.datetime64('1949-01') + np.arange(144)
  lines = (f'{month},{i}' for i, month in enumerate(months))
  (tmp_path / 'a.csv').write_text('\n'.join(['Month,a', *lines]))
  settings = {'data': str(tmp_path / 'a.csv'), 'target': 'a', 'categories': ''}
  monthly = {'date_format': '%Y-%m', 'columns': ''}
  message = (
    'the training split, 86 rows, has no window: one needs 9 rows without a gap, and '
    'there are 3 together at most: cross gaps by `across_gaps`, or count rows by '
    '`date_format=rows` and `columns=-NAME`, of the time; or lower'
  )
  with pytest.raises(InputError, match=message):
    _load(tmp_path, **settings, **monthly)
  for way in (
    {**monthly, 'across_gaps': True},
    {'date_format': 'rows', 'columns': '-Month'},
  ):
    assert len(_load(tmp_path, **settings, **way).train.rows) == 86 - 8


def test_small_steps_of_large_numbers_stay(tmp_path):
  """A meter that has counted to ten millions, where a float32 takes steps of 1."""
  steps = np.random.default_rng(0).uniform(0.1, 0.5, 120)
  meter = (10_234_567 + np.cumsum(steps)).round(2)
  lines = [f'{n:.2f},0.1' for n in meter]
  (tmp_path / 'a.csv').write_text('\n'.join(['meter,same', *lines]))
  settings = {'data': str(tmp_path / 'a.csv'), 'date_format': 'rows', 'columns': ''}
  data = _load(tmp_path, **settings, categories='', target='meter')
  assert data.series.values.dtype == np.float32
  own = data.series.values[:, 0] * data.scaling.std[0] + data.scaling.mean[0]
  np.testing.assert_allclose(own, meter, rtol=0, atol=1e-4)
  data.scaling.save(tmp_path / 'scaling.json')
  again = series_data.Scaling.load(tmp_path / 'scaling.json')
  np.testing.assert_array_equal(again.mean, data.scaling.mean)
  with pytest.raises(InputError, match="'same' is constant over the training rows"):
    _load(tmp_path, **settings, categories='', target='same')


@pytest.mark.parametrize(
  ('flags', 'total'),
  [
    # By hand: 4 (2 * 3 + 3 * 3 + 3) of an LSTM of 3 units on 2 inputs, twice for both
    # directions; on top of 6 numbers 4 (6 * 3 + 3 * 3 + 3), twice; a head of 6 or 3
    # numbers to K C = 4.
    ({'bidirectional': True, 'num_layers': 2}, 2 * 72 + 2 * 120 + 4 * 7),
    ({'layer': 'simple_rnn'}, 2 * 3 + 3 * 3 + 3 + 4 * 4),
    # Two gates of 2 inputs; of both ways' 6.
    (
      {'layer': 'min_gru', 'bidirectional': True, 'num_layers': 2},
      2 * (12 + 6) + 2 * (36 + 6) + 4 * 7,
    ),
    # Filters of 2 rows of 2 numbers, then of 3; 7 rows of 2 numbers, then 3 units.
    (
      {'layer': 'conv1d', 'pooling': 'mean', 'kernel_size': 2, 'num_layers': 2},
      (12 + 3) + (18 + 3) + 4 * 4,
    ),
    ({'layer': 'dense', 'num_layers': 2}, (42 + 3) + (9 + 3) + 4 * 4),
  ],
)
def test_layers_are_those_of_the_flags(flags, total):
  config = forecast.Config(target='a,b', horizon='1,2', features=3, **flags)
  rows = models.summarize(forecast.make_model(config), (5, 7, 2), np.float32)
  assert sum(row.num_params for row in rows) == total
  assert rows[-1].output_shape[0] == 5


@pytest.mark.parametrize(
  ('of_weather', 'flags'),
  [
    (jena_dense, {'layer': 'dense'}),
    (jena_conv1d, {'layer': 'conv1d', 'num_layers': 3, 'pooling': 'max'}),
  ],
)
def test_layers_of_the_weather_are_the_same_here(of_weather, flags):
  x = np.random.default_rng(0).normal(size=(2, 61, 3)).astype(np.float32)
  ours, theirs = (
    jax.jit(functools.partial(model.init_with_output, train=False))(
      jax.random.key(0), x
    )[0]
    for model in (
      forecast.make_model(forecast.Config(target='a', features=4, **flags)),
      of_weather.make_model(of_weather.Config(features=4)),
    )
  )
  np.testing.assert_allclose(ours[:, 0, 0], theirs, rtol=1e-6)


@pytest.mark.parametrize(
  'flags',
  [
    pytest.param({'layer': 'min_gru'}, marks=pytest.mark.slow),
    pytest.param(
      {'layer': 'conv1d', 'num_layers': 2, 'pooling': 'max', 'kernel_size': 3},
      marks=pytest.mark.slow,
    ),
    {'layer': 'dense'},
  ],
)
def test_each_layer_learns_the_generated_series(tmp_path, capsys, flags):
  config = forecast.Config(
    dataset='synthetic', synthetic_rows=1_500, lookback=24, horizon='12', features=16,
    learning_rate=0.01, num_epochs=2, steps_per_epoch=60, batch_size=32,
    workdir=str(tmp_path), **flags,
  )  # fmt: skip
  result = forecast.run(config)
  assert result['test_mae'] < 0.8 * result['naive_test_mae']
  capsys.readouterr()
  file = str(tmp_path / 'series.csv')
  predict.run(predict.Config(workdir=str(tmp_path), file=file, json=True))
  answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
  tested = answers[-len(targets.load(config).test.rows) - 12 : -12]
  error = np.mean([abs(a['forecast'] - a['measured']) for a in tested])
  wanted = result['errors']['T (degC)']['12']['model']
  assert error == pytest.approx(wanted, rel=1e-4)


def test_real_weather(real_data, tmp_path):
  """The station's own file, through the flags of a user, has the weather's windows."""
  data = _load(
    tmp_path,
    data=str(real_data / 'jena_climate_2020.csv'),
    date_format='%d.%m.%Y %H:%M:%S',
    target='T (degC)',
    columns='',
    categories='',
    sentinel=-9999,
    missing='previous',
    lookback=36,
    step=3,
    horizon='12',
  )
  same = weather.load(
    jena_gru.Config(
      data_dir=str(real_data),
      csv='jena_climate_2020.csv',
      lookback=36,
      step=3,
      delay=12,
      cache_dir=str(tmp_path / 'cache'),
    )
  )
  # These are of float64, and the weather's of float32.
  np.testing.assert_allclose(data.series.values, same.series.values, rtol=0, atol=2e-5)
  np.testing.assert_array_equal(data.test.rows, same.test.rows)
  naive = np.abs(
    targets.last_values(data, data.test.rows) - targets.measured(data, data.test.rows)
  ).mean()
  assert naive == pytest.approx(weather.naive_error(same, same.test), rel=1e-4)
