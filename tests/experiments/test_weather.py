"""The experiments on weather: sizes, splits, numbers, faults in what they are told."""

import dataclasses
import functools
import importlib
import json
import pathlib

import jax
import numpy as np
import pytest

from experiments import jena_explore, jena_gru, jena_naive, weather
from experiments.series import data as series_data
from seqjax import config as config_lib
from seqjax import models
from seqjax.data.series import quality, windows
from seqjax.data.series import synthetic as synthetic_weather
from seqjax.data.series.series import write_csv
from seqjax.training import optim
from seqjax.training.state import init_state
from seqjax.types import InputError
from seqjax.workdir.checkpoint import Checkpoints

pytestmark = pytest.mark.usefixtures('quick_programs')

_FLAGS = pathlib.Path(__file__).parents[2] / 'experiments' / 'flags'
_SMALL = {
  'dataset': 'synthetic',
  'synthetic_rows': 900,
  'lookback': 48,
  'step': 2,
  'delay': 24,
  'steps_per_epoch': 4,
  'num_epochs': 2,
  'batch_size': 16,
}


# Published; where there is none by hand: GRU 3 * (32 * 14 + 32 * 32 + 2 * 32) and a
# head of 33; LSTM 4 * (32 * 14 + 32 * 32 + 32); convolutions 5 * 14 * 32 + 32 and
# 5 * 32 * 32 + 32; a GRU on 32 filters 3 * (32 * 32 + 32 * 32 + 2 * 32).
_TOTALS = {
  'jena_dense': 107_585,
  'jena_gru': 4_608 + 33,
  'jena_gru_dropout': 4_608 + 33,
  'jena_stacked_gru': 23_489,
  'jena_bidirectional': 2 * 4_608 + 65,
  'jena_reversed': 4_608 + 33,
  'jena_lstm': 6_016 + 33,
  'jena_conv1d': 2_272 + 2 * 5_152 + 33,
  'jena_conv_gru': 2_272 + 5_152 + 6_336 + 33,
}


@pytest.mark.parametrize(('name', 'total'), _TOTALS.items())
def test_models_have_the_published_number_of_parameters(name, total):
  module = importlib.import_module(f'experiments.{name}')
  rows = models.summarize(
    module.make_model(module.Config()), (128, 240, 14), np.float32
  )
  assert sum(row.num_params for row in rows) == total


@pytest.mark.parametrize('name', [*_TOTALS, 'jena_naive', 'jena_explore'])
def test_flagfiles_hold_the_chapter_s_setting(name):
  config_class = importlib.import_module(f'experiments.{name}').Config
  default = config_class()
  assert default.lookback == (720 if name == 'jena_conv_gru' else 1440)
  assert default.lookback // default.step == 240
  long, year = (
    config_lib.parse(config_class, [f'--flagfile={_FLAGS}/{name}{end}.flags'])
    for end in ('', '_2020')
  )
  rows = {'train_rows': 200_000, 'validation_rows': 100_000}
  trained = name in _TOTALS
  steps = {'steps_per_epoch': 500} if trained else {}
  assert long == dataclasses.replace(default, **rows, **steps)
  steps = {'steps_per_epoch': 150, 'num_epochs': 20} if trained else {}
  assert year == dataclasses.replace(default, csv='jena_climate_2020.csv', **steps)


@pytest.fixture(scope='module')
def small(tmp_path_factory):
  """A finished run of jena_gru, its config and its data."""
  folder = tmp_path_factory.mktemp('gru')
  config = jena_gru.Config(**_SMALL, features=5, workdir=str(folder))
  return jena_gru.run(config), config, weather.load(config)


def test_a_run_reports_what_its_best_parameters_forecast(small):
  result, config, data = small
  folder = pathlib.Path(config.workdir)
  assert json.loads((folder / 'result.json').read_text()) == result
  assert {'curves.png', 'forecasts.png'} <= {path.name for path in folder.iterdir()}
  model = jena_gru.make_model(config)
  tx = optim.make_optimizer('rmsprop', 1e-3)
  template = init_state(model, tx, jax.random.key(0), np.zeros((1, 24, 14), 'f4'))
  with Checkpoints(folder / 'checkpoints') as checkpoints:
    params = checkpoints.restore_best(template).state.params
  std = data.std
  for key, chosen in (('val', data.validation), ('test', data.test)):
    x, y = windows.take(data.series.values, data.target, data.shape, chosen.rows)
    error = np.abs(model.apply({'params': params}, x, train=False) - y).mean()
    np.testing.assert_allclose(result[f'{key}_mae'], error, rtol=1e-5)
    np.testing.assert_allclose(result[f'{key}_mae_celsius'], error * std, rtol=1e-5)
    found = weather.forecast(
      config, model, params, data.series.values, data.shape, chosen.rows
    )
    np.testing.assert_allclose(np.abs(found - y).mean(), error, rtol=1e-5)
  assert result['val_mae'] == result['best']['val_loss']
  assert result['tested_epoch'] == result['best']['epoch']
  assert result['data']['gaps'] == 1


def test_the_naive_forecast_is_of_the_very_same_windows(small, tmp_path):
  result, _, data = small
  naive = jena_naive.run(
    jena_naive.Config(**_SMALL, workdir=str(tmp_path), learning_rate=7.0)
  )
  assert (tmp_path / 'forecasts.png').exists()
  for key, column, chosen in (
    ('val_mae', 'naive_mae', data.validation),
    ('test_mae', 'naive_test_mae', data.test),
  ):
    x, y = windows.take(data.series.values, data.target, data.shape, chosen.rows)
    expected = np.abs(x[:, -1, data.target] - y).mean()
    np.testing.assert_allclose(naive[key], expected, rtol=1e-5)
    assert result[column] == naive[key] == naive[column]
    celsius = key.replace('mae', 'mae_celsius')
    np.testing.assert_allclose(naive[celsius], expected * data.std, rtol=1e-5)


def test_explore_says_what_is_in_the_file(tmp_path, capsys):
  result = jena_explore.run(jena_explore.Config(**_SMALL, workdir=str(tmp_path)))
  assert {'series.png', 'first_days.png'} <= {p.name for p in tmp_path.iterdir()}
  clean = quality.clean(synthetic_weather.weather(0, 900, faults=True), 'f')
  values = clean.series.values[:, 1].astype(float)
  found = result['columns']['T (degC)']
  np.testing.assert_allclose(found['mean'], values.mean(), rtol=1e-6)
  assert found['most'] == values.max()
  shown = capsys.readouterr().out
  assert '900 in the file, 899 kept' in shown
  assert 'rho (g/m**3)' in shown


@pytest.mark.slow
@pytest.mark.parametrize('name', _TOTALS)
def test_each_experiment_runs_and_writes_its_result(name, tmp_path):
  module = importlib.import_module(f'experiments.{name}')
  sizes = {'lookback': 61, 'step': 1} if 'conv' in name else {}
  config = module.Config(**(_SMALL | {'num_epochs': 1} | sizes), workdir=str(tmp_path))
  result = module.run(config)
  keys = {'val_mae', 'val_mae_celsius', 'naive_mae', 'test_mae', 'test_mae_celsius'}
  assert keys <= result.keys()
  assert (tmp_path / 'forecasts.png').exists()


def test_values_are_normal_over_the_training_rows_only():
  data = weather.load(weather.Config(**_SMALL))
  first = int(0.6 * len(data.series.times))
  assert data.train.rows.max() + data.shape.ahead == first - 1
  training = data.series.values[:first].astype(float)
  np.testing.assert_allclose(training.mean(axis=0), 0, atol=1e-4)
  np.testing.assert_allclose(training.std(axis=0), 1, rtol=1e-4)
  raw = quality.clean(synthetic_weather.weather(0, 900, faults=True), 'f').series
  np.testing.assert_allclose(
    data.degrees(data.series.values[:, 1]), raw.values[:, 1], atol=1e-4
  )


def test_rows_of_the_file_say_where_the_splits_are():
  config = weather.Config(**_SMALL, train_rows=500, validation_rows=200)
  data = weather.load(config)
  clean = quality.clean(synthetic_weather.weather(0, 900, faults=True), 'f')
  repeated = 900 - len(clean.file_rows)
  assert repeated == 1
  assert clean.file_rows[499] == 500  # the repeated row lies before
  assert data.train.rows.max() + data.shape.ahead == 499 - 1
  assert data.validation.rows.min() + data.shape.offsets[0] == 499
  assert data.test.rows.min() + data.shape.offsets[0] == 699


def test_the_book_s_windows_are_of_the_file_as_it_is():
  config = weather.Config(**_SMALL, windows='book', train_rows=400, validation_rows=300)
  data = weather.load(config)
  raw = synthetic_weather.weather(0, 900, faults=True).values.astype(float)
  assert len(data.series.times) == 900
  np.testing.assert_allclose(data.scaling.mean, raw[:400].mean(axis=0), rtol=1e-5)
  np.testing.assert_array_equal(data.train.rows, range(48, 400))
  assert data.validation.rows.min() == 448
  assert data.validation.rows.max() + data.shape.ahead >= 700  # in the next split
  assert len(data.validation.rows) == (300 - 1 - 48) // 16 * 17
  assert data.test.rows.max() + data.shape.ahead < 900


def test_another_csv_by_flags(tmp_path):
  series = synthetic_weather.weather(0, 900, step_minutes=15)
  renamed = series._replace(columns=('load', *series.columns[1:]))
  write_csv(renamed, tmp_path / 'a.csv')
  text = (tmp_path / 'a.csv').read_text().replace('Date Time', 'when')
  (tmp_path / 'a.csv').write_text(text)
  sizes = {k: v for k, v in _SMALL.items() if k not in ('dataset', 'synthetic_rows')}
  flags = {'data_dir': str(tmp_path), 'csv': 'a.csv', 'time_column': 'when'}
  flags |= {'cache_dir': str(tmp_path / 'c'), 'target': 'load'}
  data = weather.load(weather.Config(**sizes, **flags))
  assert (data.target, data.unit, data.report.step_seconds) == (0, 'units', 900)
  assert not data.is_published
  (tmp_path / 'b.csv').write_text(text.replace(',', ';').replace('.', ','))
  as_in_france = {'delimiter': ';', 'decimal': ',', 'date_format': '%d,%m,%Y %H:%M:%S'}
  as_in_france |= {'csv': 'b.csv'}
  same = weather.load(weather.Config(**sizes, **(flags | as_in_france)))
  np.testing.assert_array_equal(same.series.values, data.series.values)
  np.testing.assert_array_equal(same.series.times, data.series.times)
  with pytest.raises(InputError, match=r'--target=T: .*a.csv has load, T \(degC\)'):
    weather.load(weather.Config(**sizes, **(flags | {'target': 'T'})))


@pytest.mark.parametrize(
  ('column', 'unit'),
  [
    ('T (degC)', 'celsius'),
    ('rh (%)', 'percent'),
    ('rho (g/m**3)', 'g_m_3'),
    ('load', 'units'),
    ('a ()', 'units'),
  ],
)
def test_the_unit_of_a_column(column, unit):
  assert series_data.unit(column) == unit


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    ({'target': 'nothing'}, r'--target=nothing: the generated series has p \(mbar\)'),
    ({'lookback': 180}, 'the validation split, 180 rows, has no window: one needs 203'),
    ({'train_rows': 100}, 'give --train_rows and --validation_rows, or none'),
    ({'train_rows': 800, 'validation_rows': 100}, 'has 900 rows, 900 of them .* none'),
    ({'train_fraction': 0.8}, 'must add up below 1'),
    ({'lookback': 4, 'step': 5}, '`lookback=4` must be at least `step=5`'),
    ({'step_minutes': 60.0}, 'say what the step is with `step_minutes`'),
  ],
)
def test_settings_that_cannot_be_are_said(changed, message):
  with pytest.raises(InputError, match=message):
    weather.load(weather.Config(**(_SMALL | changed)))


@pytest.mark.parametrize(
  ('name', 'fewest'), [('jena_conv1d', 61), ('jena_conv_gru', 19)]
)
def test_windows_too_short_for_convolutions_are_refused(name, fewest):
  module = importlib.import_module(f'experiments.{name}')
  config = module.Config(lookback=2 * fewest + 1, step=2)
  x = jax.ShapeDtypeStruct((3, fewest, 14), np.float32)
  init = functools.partial(module.make_model(config).init, train=False)
  jax.eval_shape(init, jax.random.key(0), x)
  with pytest.raises(InputError, match=f'at least {fewest} times `step`'):
    module.Config(lookback=2 * fewest - 1, step=2)


def test_a_constant_target_is_refused_and_a_constant_input_is_zero(tmp_path):
  series = synthetic_weather.weather(0, 900)
  values = series.values.copy()
  values[:, 2] = 5
  write_csv(series._replace(values=values), tmp_path / 'a.csv')
  sizes = {k: v for k, v in _SMALL.items() if k not in ('dataset', 'synthetic_rows')}
  flags = {'data_dir': str(tmp_path), 'csv': 'a.csv', 'cache_dir': str(tmp_path / 'c')}
  data = weather.load(weather.Config(**sizes, **flags))
  assert not data.series.values[:, 2].any()
  with pytest.raises(InputError, match=r"'Tpot \(K\)' is constant"):
    weather.load(weather.Config(**sizes, **flags, target='Tpot (K)'))
