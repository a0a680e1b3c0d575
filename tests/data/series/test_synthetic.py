"""Made-up weather: physical, like the station's, and not to be foreseen by T now."""

import csv
import re

import numpy as np
import pytest

from seqjax.data.series import synthetic as synthetic_weather
from seqjax.data.series.series import COLUMNS, Series
from seqjax.data.series.synthetic import _moist_air
from seqjax.types import InputError


@pytest.fixture(scope='module')
def year() -> Series:
  return synthetic_weather.weather(0, 52_696)


def column(s: Series, name: str) -> np.ndarray:
  return s.values[:, s.columns.index(name)].astype(np.float64)


def test_weather_has_the_form_of_the_station(year):
  header = (
    'p (mbar),T (degC),Tpot (K),Tdew (degC),rh (%),VPmax (mbar),VPact (mbar),'
    'VPdef (mbar),sh (g/kg),H2OC (mmol/mol),rho (g/m**3),wv (m/s),max. wv (m/s),'
    'wd (deg)'
  )
  assert ','.join(year.columns) == header
  assert year.values.shape == (52_696, 14)
  assert year.values.dtype == np.float32
  assert year.times.dtype == np.dtype('datetime64[s]')
  assert year.times[0] == np.datetime64('2009-01-01T00:10:00')
  assert set(np.diff(year.times).astype(int)) == {600}


def test_weather_stays_in_physical_ranges(year):
  for name, low, high in (
    ('p (mbar)', 920, 1040),
    ('T (degC)', -30, 42),
    ('rh (%)', 5, 100),
    ('VPdef (mbar)', 0, 70),
    ('wv (m/s)', 0, 40),
    ('wd (deg)', 0, 360),
  ):
    values = column(year, name)
    assert low <= values.min() < values.max() <= high, name
  assert np.all(column(year, 'max. wv (m/s)') >= column(year, 'wv (m/s)'))
  assert np.all(column(year, 'Tdew (degC)') <= column(year, 'T (degC)'))
  assert 6.5 < column(year, 'T (degC)').std() < 9.5


def test_the_columns_agree_with_each_other(year):
  """Each from others than those it was made of, by another form of the law."""
  p, T, tpot, dew, rh, vp_max, vp_act, vp_def, sh, h2oc, rho = (
    column(year, name) for name in COLUMNS[:11]
  )
  kelvin = T + 273.15
  # Poisson with R_d and c_p themselves: their ratio is 0.28571, theirs 0.2857.
  np.testing.assert_allclose(tpot, kelvin * (p / 1000) ** (-287.05 / 1004.7), atol=0.02)
  # Magnus with the constants of the WMO instead of Tetens's: 0.5 % apart.
  np.testing.assert_allclose(
    vp_max, 6.112 * np.exp(17.62 * T / (243.12 + T)), rtol=0.008
  )
  # The dew point is where the vapour pressure present would be the largest possible.
  order = np.argsort(T)
  saturated = np.interp(dew, T[order], vp_max[order])
  within = dew > T.min()
  np.testing.assert_allclose(saturated[within], vp_act[within], atol=0.02)
  np.testing.assert_allclose(rh, 100 * vp_act / vp_max, atol=0.5)
  np.testing.assert_allclose(vp_def, vp_max - vp_act, atol=0.016)
  # sh = w / (1 + w) with w, grams of vapour on a gram of dry air.
  w = 0.622 * vp_act / (p - vp_act)
  np.testing.assert_allclose(sh, 1000 * w / (1 + w), atol=0.012)
  np.testing.assert_allclose(h2oc, vp_act / p * 1000, atol=0.012)
  # Dry air and vapour, each a gas of its own.
  density = 1e5 * ((p - vp_act) / 287.05 + vp_act / 461.5) / kelvin
  np.testing.assert_allclose(rho, density, atol=0.1)


def test_the_year_and_the_day_can_be_seen(year):
  T = column(year, 'T (degC)')
  month = year.times.astype('datetime64[M]').astype(int) % 12
  monthly = np.array([T[month == m].mean() for m in range(12)])
  assert monthly[5:8].min() - max(monthly[0], monthly[11]) > 12
  hour = (year.times - year.times.astype('datetime64[D]')).astype(int) // 3600
  daily = np.array([T[hour == h].mean() for h in range(24)])
  assert 13 <= daily.argmax() <= 16
  assert daily.argmin() <= 6
  assert 4 < np.ptp(daily) < 12


def test_falling_pressure_announces_the_cold(year):
  """Fronts: before the sharpest falls of T the pressure fell, after them it rises."""
  p, T, wv = (column(year, n) for n in ('p (mbar)', 'T (degC)', 'wv (m/s)'))
  day = 144
  change = T[2 * day :] - T[day:-day]  # of a day: nothing of its own rhythm
  strong = np.argsort(change)[:500] + day  # rows before the fall, a day of past
  assert np.mean(p[strong] - p[strong - day] < 0) > 0.8
  assert np.mean((p[strong + day] - p[strong]) > 0) > 0.5
  assert wv[strong + day // 2].mean() > wv.mean()


def test_tomorrow_is_better_foreseen_than_by_today(year):
  """A linear model of two days of all columns beats `T now` by 10 % or more."""
  v = year.values.astype(np.float64)
  split = int(0.6 * len(v))
  z = (v - v[:split].mean(0)) / v[:split].std(0)
  lags = 6 * np.array([0, 3, 6, 9, 12, 18, 24, 36, 48])

  def windows(low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
    t = np.arange(low + lags.max(), high - 144, 4)
    return z[t[:, None] - lags].reshape(len(t), -1), v[t + 144, 1] - v[t, 1]

  (x, y), (x_test, y_test) = windows(0, split), windows(split, len(v))
  mean = x.mean(0)
  gram = (x - mean).T @ (x - mean) + 1000 * np.eye(x.shape[1])
  w = np.linalg.solve(gram, (x - mean).T @ (y - y.mean()))
  foreseen = (x_test - mean) @ w + y.mean()
  naive = np.abs(y_test).mean()
  assert 2.0 < naive < 3.3  # the station's: 2.7 in 2020
  assert np.abs(foreseen - y_test).mean() < 0.9 * naive


def test_a_short_series_is_the_beginning_of_a_long_one(year):
  short = synthetic_weather.weather(0, 1000)
  np.testing.assert_array_equal(short.times, year.times[:1000])
  np.testing.assert_array_equal(short.values, year.values[:1000])
  other = synthetic_weather.weather(1, 1000)
  assert np.mean(other.values != short.values) > 0.9


def test_a_seed_gives_the_same_weather_everywhere():
  """Up to two units in the last place of T, should exp and log round otherwise."""
  rows = synthetic_weather.weather(5, 5000).values[[0, 1234, 4999]]
  pinned = [
    [992.88, -1.04, 272.67, -4.15],
    [986.98, 4.67, 278.86, 1.24],
    [985.22, 3.34, 277.67, 1.27],
  ]
  np.testing.assert_allclose(rows[:, :4], pinned, atol=0.021)


def test_other_steps_and_starts():
  hourly = synthetic_weather.weather(
    3, 9000, step_minutes=60, start='2019-07-01 00:00:00'
  )
  assert hourly.times[-1] - hourly.times[0] == np.timedelta64(8999, 'h')
  T = column(hourly, 'T (degC)')
  assert T[: 24 * 30].mean() > 12 > T[24 * 180 : 24 * 210].mean()
  assert 6.5 < T.std() < 9.5
  assert synthetic_weather.weather(0, 1).values.shape == (1, 14)


def test_faults_are_planted_like_the_stations():
  N = 5000
  clean, faulty = (
    synthetic_weather.weather(2, N + 8),
    synthetic_weather.weather(2, N, faults=True),
  )
  assert faulty.values.shape == (N, 14)
  steps = np.diff(faulty.times).astype(int) // 60
  (repeated,), (gap,) = np.nonzero(steps == 0)[0], np.nonzero(steps == 100)[0]
  assert np.sum(steps == 10) == N - 3
  np.testing.assert_array_equal(faulty.values[repeated], faulty.values[repeated + 1])
  (missing,) = np.nonzero(faulty.values[:, 11] == -9999)[0]
  assert np.sum(faulty.values == -9999) == 1
  assert faulty.values[missing, 12:].tolist() == [0, 0]
  assert len({int(missing), int(repeated), int(gap)}) == 3

  # Every other value is what it was.
  rows = np.searchsorted(clean.times, faulty.times)
  same = faulty.values == clean.values[rows]
  assert np.argwhere(~same).tolist() == [[missing, c] for c in (11, 12, 13)]
  again = synthetic_weather.weather(2, N, faults=True)
  np.testing.assert_array_equal(again.values, faulty.values)
  np.testing.assert_array_equal(again.times, faulty.times)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'seed': -1, 'num_rows': 5}, 'seed: expected an integer >= 0, got -1'),
    ({'seed': 0, 'num_rows': 0}, 'num_rows: expected an integer >= 1, got 0'),
    (
      {'seed': 0, 'num_rows': 49, 'faults': True},
      'num_rows: expected an integer >= 50, got 49',
    ),
    (
      {'seed': 0, 'num_rows': 5, 'step_minutes': 0},
      'step_minutes: expected an integer >= 1, got 0',
    ),
    (
      {'seed': 0, 'num_rows': 5, 'start': 'noon'},
      "start: expected YYYY-MM-DD HH:MM:SS, got 'noon'",
    ),
    (
      {'seed': 0, 'num_rows': 5, 'start': ''},
      "start: expected YYYY-MM-DD HH:MM:SS, got ''",
    ),
  ],
)
def test_bad_arguments_of_weather_are_named(arguments, message):
  with pytest.raises(InputError, match=f'^{re.escape(message)}$'):
    synthetic_weather.weather(**arguments)


@pytest.mark.real_data
def test_the_formulas_are_the_stations(real_data):
  with open(real_data / 'jena_climate_2020.csv', newline='') as file:
    header, *rows = csv.reader(file)
  real = np.array([row[1:] for row in rows], np.float64)
  assert tuple(header[1:]) == COLUMNS
  p, T, dew = real[:, 0], real[:, 1], real[:, 3]
  bounds = (0.01, 0.0, 0.1, 0.03, 0.03, 0.03, 0.01, 0.02, 0.1)
  for i, (computed, bound) in enumerate(
    zip(_moist_air(p, T, dew), bounds, strict=True), start=2
  ):
    assert np.abs(computed - real[:, i]).mean() <= bound, COLUMNS[i]
