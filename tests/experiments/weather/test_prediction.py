"""Forecasts for a CSV: those of the run, for the right times, in the target's unit."""

import dataclasses
import io
import json
import types

import numpy as np
import pytest

from experiments import jena_gru, predict, weather
from experiments.weather import prediction
from seqjax.data.series import quality, windows
from seqjax.data.series import synthetic as synthetic_weather
from seqjax.data.series.series import write_csv
from seqjax.types import InputError

pytestmark = pytest.mark.usefixtures('no_pictures')

_SETTINGS = {
  'dataset': 'synthetic',
  'synthetic_rows': 700,
  'lookback': 36,
  'step': 3,
  'delay': 12,
  'steps_per_epoch': 3,
  'num_epochs': 1,
  'batch_size': 16,
  'features': 4,
}


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """The folder, the config and the result of a short run, and its series as a file."""
  folder = tmp_path_factory.mktemp('run')
  config = jena_gru.Config(**_SETTINGS, workdir=str(folder))
  result = jena_gru.run(config)
  path = folder / 'series.csv'
  write_csv(synthetic_weather.weather(0, 700, faults=True), path)
  return folder, config, result, path


def _answers(capsys, **settings):
  capsys.readouterr()
  predict.run(predict.Config(**settings, json=True))
  return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_forecasts_of_the_test_rows_have_the_error_of_the_run(trained, capsys):
  folder, config, result, path = trained
  answers = _answers(capsys, workdir=str(folder), file=str(path))
  by_time = {answer['made']: answer for answer in answers}
  data = weather.load(config)
  errors, naive = [], []
  for row in data.test.rows:
    answer = by_time[str(data.series.times[row]).replace('T', ' ')]
    due = str(data.series.times[row + 12]).replace('T', ' ')
    assert answer['for'] == due
    errors.append(abs(answer['forecast'] - answer['measured']))
    naive.append(abs(answer['now'] - answer['measured']))
  assert np.mean(errors) == pytest.approx(result['test_mae_celsius'], abs=0.005)
  assert np.mean(naive) == pytest.approx(result['naive_test_mae_celsius'], abs=0.005)


def test_every_row_with_enough_rows_before_it_gets_a_forecast(trained, capsys):
  folder, _, _, path = trained
  answers = _answers(capsys, workdir=str(folder), file=str(path))
  clean = quality.clean(synthetic_weather.weather(0, 700, faults=True), 'f')
  alone = windows.Shape(windows.sampled(36, 3, 12).offsets, 0)
  rows = windows.anchors(clean.segments, 0, 699, alone)
  assert len(rows) == 699 - 2 * 33  # two pieces
  expected = [str(t).replace('T', ' ') for t in clean.series.times[rows]]
  assert [answer['made'] for answer in answers] == expected
  # The last twelve are of the future; others have no measurement where the gap is.
  assert [a['measured'] is None for a in answers[-13:]] == [False] + 12 * [True]
  inside = [a['measured'] is None for a in answers[:-12]]
  assert sum(inside) == 9


def test_a_table_from_standard_input(trained, capsys, monkeypatch):
  folder, _, _, path = trained
  lines = path.read_bytes().splitlines(keepends=True)
  content = b''.join([lines[0], *lines[-40:]])
  monkeypatch.setattr('sys.stdin', types.SimpleNamespace(buffer=io.BytesIO(content)))
  answers = _answers(capsys, workdir=str(folder), file=None)
  monkeypatch.setattr('sys.stdin', types.SimpleNamespace(buffer=io.BytesIO(content)))
  predict.run(predict.Config(workdir=str(folder)))
  header, *rows = capsys.readouterr().out.splitlines()
  assert header.split() == ['made', 'for', 'T', '(degC)', 'now', 'measured']
  assert len(rows) == len(answers) == 40 - 33
  for row, answer in zip(rows, answers, strict=True):
    assert row.startswith(f'{answer["made"]}  {answer["for"]}')
    assert float(row.split()[4]) == pytest.approx(answer['forecast'], abs=0.006)


def test_a_forecast_across_gaps_is_for_the_row_it_was_trained_for(
  trained, tmp_path, capsys
):
  _, config, _, path = trained
  across = dataclasses.replace(config, across_gaps=True, workdir=str(tmp_path))
  jena_gru.run(across)
  capsys.readouterr()
  predict.run(predict.Config(workdir=str(tmp_path), file=str(path), json=True))
  shown = capsys.readouterr()
  answers = [json.loads(line) for line in shown.out.splitlines()]
  assert '; gaps: 1 (9 steps missing); windows cross them\n' in shown.err
  series = quality.clean(synthetic_weather.weather(0, 700, faults=True), 'f').series
  times = [str(time).replace('T', ' ') for time in series.times]
  assert [answer['made'] for answer in answers] == times[33:]
  beyond = series.times[-1] + np.timedelta64(600, 's') * np.arange(1, 13)
  due = [*times[33 + 12 :], *(str(time).replace('T', ' ') for time in beyond)]
  assert [answer['for'] for answer in answers] == due
  came = [answer['measured'] for answer in answers]
  assert came[-12:] == [None] * 12
  np.testing.assert_allclose(came[:-12], series.values[33 + 12 :, 1], rtol=1e-6)


@pytest.mark.parametrize(
  ('std', 'shown'), [(6.0, '3.14'), (0.9, '3.142'), (0.004, '3.14159')]
)
def test_a_line_shows_a_hundredth_of_the_target_s_spread(capsys, std, shown):
  now = np.array(['2020-01-01T00:00:00'], 'datetime64[s]')
  answers = {'made': now, 'for': now, 'forecast': np.array([np.pi])}
  prediction._print(answers, 'p', std, as_json=False)
  assert capsys.readouterr().out.split()[-1] == shown


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda text: text.replace('T (degC)', 'T'), 'expected the columns that the run'),
    (lambda text: '\n'.join(text.splitlines()[:30]), 'no row has the 33 rows before'),
    (lambda text: text.replace(':20:00', ':21:00'), 'no row has the 33 rows before it'),
    (lambda text: text.replace(',', ';'), "line 1: expected a time column 'Date Time'"),
  ],
)
def test_a_file_that_does_not_do(trained, tmp_path, change, message):
  folder, _, _, path = trained
  other = tmp_path / 'other.csv'
  other.write_text(change(path.read_text()))
  with pytest.raises(InputError, match=f'^--file={other}: {message}'):
    predict.run(predict.Config(workdir=str(folder), file=str(other)))


def test_what_is_missing_is_said(trained, tmp_path):
  folder, _, _, path = trained
  with pytest.raises(InputError, match='--text: a run of jena_gru takes --file'):
    predict.run(predict.Config(workdir=str(folder), text='warm'))
  with pytest.raises(InputError, match='--text_column: a run of jena_gru takes --f'):
    predict.run(predict.Config(workdir=str(folder), file=str(path), text_column='a'))
  with pytest.raises(InputError, match='--held_out: one answer has no interval'):
    predict.run(predict.Config(workdir=str(folder), file=str(path), held_out=9))
  with pytest.raises(InputError, match=r'--file=.*no.csv: No such file'):
    predict.run(predict.Config(workdir=str(folder), file=str(tmp_path / 'no.csv')))
  scaling = folder / weather.SCALING_FILE
  content = scaling.read_bytes()
  try:
    for damage in (b'{}', b'[', b'[1]'):
      scaling.write_bytes(damage)
      with pytest.raises(InputError, match=r'scaling.json: expected the scaling'):
        predict.run(predict.Config(workdir=str(folder), file=str(path)))
  finally:
    scaling.write_bytes(content)
