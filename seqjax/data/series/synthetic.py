"""Made-up weather: the year, the day, fronts and chance, tied together by physics.

Four things move the temperature: the year, the day (strong under a clear sky, weak
under clouds), the fronts, and regimes of a few days that nobody can foresee. Every few
days a cold front goes through. For a day or two the pressure falls towards it, the
further the stronger the front; southerly air gets warmer; clouds come up. When the
front passes, the temperature drops within hours, the pressure recovers, the wind
freshens and veers to the north-west, the air is drier. So tomorrow's temperature can
partly be read from today's pressure, wind and clouds: `T now` is not the best forecast.

Pressure, temperature and dew point are drawn; humidity, vapour pressures, potential
temperature and density follow from them by the formulas of `_moist_air`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from seqjax.data.series.labelled import Labelled
from seqjax.data.series.series import COLUMNS, Series
from seqjax.types import InputError

# Of `table`: what to forecast, and the column of words.
TARGET, WORDS = 'T (degC)', 'sky'

_GAP_ROWS = 9  # rows that the planted gap swallows, as many as the station's of 2020


def weather(
  seed: int,
  num_rows: int,
  *,
  step_minutes: int = 10,
  start: str = '2009-01-01 00:10:00',
  faults: bool = False,
) -> Series:
  """Simulates the 14 quantities of the Jena weather station.

  A shorter series of the same seed, step and start is the beginning of a longer one.
  Values have two decimals, as the station's. The last of them may differ between
  machines whose libraries round exp and log differently; on one machine nothing does.

  Args:
    seed: Any integer >= 0.
    num_rows: N, at least 1; with faults at least 50.
    step_minutes: Minutes from a row to the next.
    start: Time of the first row, ISO 8601, on the station's clock.
    faults: Plants what real files contain, at fixed places: one -9999 in the wind
      speed (the other two wind columns being 0), one row that occurs twice with its
      timestamp, one gap of nine rows. There are `num_rows` rows all the same.

  Returns:
    Series of N rows and the 14 columns of `series.COLUMNS`.

  Raises:
    InputError: A number is out of range or `start` is no time.

  Example:
    >>> from seqjax.data.series import synthetic
    >>> measured = synthetic.weather(seed=0, num_rows=1000)
    >>> measured.values.shape, measured.columns[1]
    ((1000, 14), 'T (degC)')
  """
  for name, value, least in (
    ('seed', seed, 0),
    ('num_rows', num_rows, 50 if faults else 1),
    ('step_minutes', step_minutes, 1),
  ):
    if value < least:
      raise InputError(f'{name}: expected an integer >= {least}, got {value}')
  try:
    first = np.datetime64(start, 's')
  except ValueError:
    raise InputError(f'start: expected YYYY-MM-DD HH:MM:SS, got {start!r}') from None
  if np.isnat(first):
    raise InputError(f'start: expected YYYY-MM-DD HH:MM:SS, got {start!r}')

  num_steps = num_rows + (_GAP_ROWS - 1 if faults else 0)
  step = np.timedelta64(60 * step_minutes, 's')
  times = first + step * np.arange(num_steps)
  values = _simulate(seed, times, step_minutes / 60)
  if faults:
    times, values = _plant_faults(times, values)
  return Series(times, values.astype(np.float32), COLUMNS)


def table(seed: int, num_rows: int) -> bytes:
  """A CSV as a user may have one: hourly, times of ISO 8601, numbers and words.

  Four columns of `weather`, and the sky in a word, by the humidity.
  """
  made = weather(seed, num_rows, step_minutes=60)
  names = (TARGET, 'p (mbar)', 'rh (%)', 'wv (m/s)')
  numbers = [made.values[:, made.columns.index(name)] for name in names]
  skies = np.array(['clear', 'cloudy', 'overcast', 'fog'])
  words = skies[np.digitize(numbers[2], (55, 80, 97))]
  return as_csv(made.times, dict(zip(names, numbers, strict=True)) | {WORDS: words})


def as_csv(times: np.ndarray, columns: Mapping[str, np.ndarray]) -> bytes:
  """Times of ISO 8601 [N], and columns [N] of numbers or words by their names."""
  cells = [
    np.datetime_as_string(times, 'm'),
    *(c.astype(np.str_) for c in columns.values()),
  ]
  lines = [','.join(['time', *columns]), *map(','.join, zip(*cells, strict=True))]
  return '\n'.join(lines).encode() + b'\n'


def shapes(seed: int, num_series: int) -> Labelled:
  """Waves of three shapes, to be told apart: 40 to 80 rows of x, and of y, x before.

  Each has a period, a phase and a size of its own, and noise.
  """
  rng = np.random.RandomState(seed)  # whose stream NumPy promises for all times
  labelled = Labelled([], [], [], [])
  waves = {
    'saw': lambda at: 2 * (at % 1) - 1,
    'sine': lambda at: np.sin(2 * np.pi * at),
    'square': lambda at: np.sign(np.sin(2 * np.pi * at)),
  }
  for i in range(num_series):
    label = sorted(waves)[i % len(waves)]
    T, period = rng.randint(40, 81), rng.uniform(8, 20)
    at = rng.uniform() + np.arange(T) / period
    size = rng.uniform(0.5, 2)
    clean = np.stack([waves[label](at), waves[label](at - 0.25)], 1)  # [T, 2]
    values = size * (clean + 0.2 * rng.standard_normal((T, 2)))
    times = np.datetime64('2020-01-01T00', 's') + 3600 * np.arange(T)
    labelled.series.append(Series(times, values.astype(np.float32), ('x', 'y')))
    labelled.labels.append(label)
    labelled.locations.append(f'generated series {i}')
    labelled.parts.append('')
  return labelled


def _simulate(seed: int, times: np.ndarray, step_hours: float) -> np.ndarray:
  """All quantities at the times [N], float64 [N, 14], two decimals."""
  N = len(times)
  sources = np.random.SeedSequence(seed).spawn(13)

  def noise(source: int, hours: float, smooth_hours: float = 0.0) -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64(sources[source]))
    return _noise(rng, N, hours / step_hours, smooth_hours / step_hours)

  front_rng = np.random.Generator(np.random.PCG64(sources[0]))
  hours = step_hours * np.arange(N)
  since, until, behind, ahead = _fronts(front_rng, hours)
  phase = since / (since + until)  # 0 behind the last front, 1 before the next one
  summer, hour = _calendar(times)

  sky = 2.2 * np.exp(-until / 10) + 1.2 * np.exp(-since / 6) - 0.6
  cover = 1 / (1 + np.exp(-sky - 1.2 * noise(1, 10, 0.5)))  # 0 clear, 1 overcast

  # The air mass, without the day: a sawtooth of slow warming and sudden cooling.
  sawtooth = 3.6 * (ahead * phase - behind * (1 - phase))
  regime = 2.0 * noise(2, 100, 2)
  air = 9.5 + 10.0 * summer + regime + _follow(sawtooth, 1.0 / step_hours)
  day = np.cos(2 * np.pi * (hour - 15) / 24) + 0.2 * np.cos(np.pi * (hour - 14.5) / 6)
  swing = (4.0 + 2.4 * summer) * (1 - 0.7 * cover)
  temperature = air + swing * day + 0.35 * noise(3, 1.5) + 0.05 * noise(4, 0.05)

  deficit = 1.2 + (6.0 + 3.0 * summer) * (1 - cover) + 1.6 * noise(5, 20, 0.5)
  # Never above the temperature, and seldom quite at it.
  dew_point = temperature - 0.7 * np.logaddexp(0, (temperature - air + deficit) / 0.7)

  pressure = (
    996.0
    + 6.0 * noise(6, 120, 12)
    - 13.0 * ahead * np.exp(-until / 24)
    - 13.0 * behind * np.exp(-since / 8)
    + 0.3 * np.cos(np.pi * (hour - 10) / 6)  # the half-daily tide of the air
    + 0.03 * noise(7, 0.05)
  )

  gale = 1 + 0.6 * ahead * np.exp(-until / 5)
  gale += 0.6 * behind * np.exp(-since / 9)
  mixing = 1 + 0.35 * day * (1 - 0.5 * cover)
  wind = 1.8 * gale * mixing * np.exp(0.4 * noise(8, 4) + 0.25 * noise(9, 0.2))
  gust = wind * (1.3 + 0.25 * np.abs(noise(10, 0.1))) + 0.15
  turbulence = 25 / (0.5 + wind) * noise(11, 0.1)
  direction = 295 - 130 * phase + 30 * noise(12, 15, 1) + turbulence

  p, T, dew = (np.round(x, 2) for x in (pressure, temperature, dew_point))
  moist = _moist_air(p, T, dew)
  wv, max_wv = np.round(wind, 2), np.round(gust, 2)
  wd = np.round(direction % 360, 2) % 360
  return np.stack([p, T, *moist, wv, max_wv, wd], axis=1)


def _moist_air(p: np.ndarray, T: np.ndarray, dew: np.ndarray) -> list[np.ndarray]:
  """The nine columns Tpot ... rho from pressure, temperature and dew point, all [N].

  With p and the vapour pressures in mbar, T in degC and K = T + 273.15:

    Tpot = K (1000 / p)^0.2857                       Poisson, R_d / c_p = 2/7
    VPmax = 6.1078 exp(17.269388 T / (T + 237.3))    Magnus, constants of Tetens
    VPact = VPmax at the dew point,  VPdef = VPmax - VPact,  rh = 100 VPact / VPmax
    sh = 622 VPact / (p - 0.378 VPact)               g of vapour per kg of moist air
    H2OC = 1000 VPact / p                            partial pressure = share of moles
    rho = 10^5 (p - 0.378 VPact) / (287.05 K)        gas law at the virtual temperature

  The measurements of 2020 agree with these to 0.01 K (Tpot), 0.02 mbar, 0.01 g/kg and
  0.1 g/m**3 in the mean.

  Sources: Murray 1967, J. Appl. Meteorol. 6, 203 (VPmax); Wallace & Hobbs, Atmospheric
  Science, 2nd ed., sections 3.1, 3.4 and 3.5 (the others).
  """
  kelvin = T + 273.15
  vp_max, vp_act = (6.1078 * np.exp(17.269388 * t / (t + 237.3)) for t in (T, dew))
  columns = [
    kelvin * (1000 / p) ** 0.2857,
    dew,
    100 * vp_act / vp_max,
    vp_max,
    vp_act,
    vp_max - vp_act,
    622 * vp_act / (p - 0.378 * vp_act),
    1000 * vp_act / p,
    1e5 * (p - 0.378 * vp_act) / (287.05 * kelvin),
  ]
  return [np.round(column, 2) for column in columns]


def _fronts(
  rng: np.random.Generator, hours: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Cold fronts 54 hours apart or more, four days in the mean.

  Returns:
    Of each row, [N]: hours since the front behind it and until that ahead, and the
    strengths of the two, about 1.
  """
  num_fronts = int(hours[-1] / 54) + 12  # enough, were they all as close as can be
  draws = rng.standard_exponential((num_fronts, 2))
  passages = np.cumsum(54 + 42 * draws[:, 0]) - 360
  strengths = np.minimum(0.4 + 0.6 * draws[:, 1], 2.5)
  ahead = np.searchsorted(passages, hours, side='right')
  since, until = hours - passages[ahead - 1], passages[ahead] - hours
  return since, until, strengths[ahead - 1], strengths[ahead]


def _calendar(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(-1 in mid-January to 1 in mid-July, hour of the day), both [N]."""
  days = (times - np.datetime64('2000-01-20', 's')) / np.timedelta64(1, 'D')
  return -np.cos(2 * np.pi * days / 365.2425), 24 * (days % 1)


def _noise(
  rng: np.random.Generator, num: int, steps: float, smooth_steps: float
) -> np.ndarray:
  """Stationary noise [num] of variance 1 and a memory of `steps`, smoothed if asked."""
  keep = np.exp(-1 / steps)
  shocks = np.sqrt(1 - keep**2) * rng.standard_normal(num)
  shocks[0] /= np.sqrt(1 - keep**2)  # starts stationary
  memory = _accumulate(keep, shocks)
  if not smooth_steps:
    return memory
  inertia = np.exp(-1 / smooth_steps)
  passed = (1 - inertia) / (1 + inertia) * (1 + inertia * keep) / (1 - inertia * keep)
  return _follow(memory, smooth_steps) / np.sqrt(passed)


def _follow(target: np.ndarray, steps: float) -> np.ndarray:
  """Goes after the target [N] with an inertia of `steps`."""
  keep = np.exp(-1 / steps)
  pull = (1 - keep) * target
  pull[0] = target[0]
  return _accumulate(keep, pull)


def _accumulate(keep: float, inputs: np.ndarray) -> np.ndarray:
  """y[t] = keep * y[t - 1] + inputs[t]. Plain floats: 5 ms for 50,000 steps."""
  return np.array(
    list(itertools.accumulate(inputs.tolist(), lambda y, u: keep * y + u))
  )


def _plant_faults(
  times: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Makes the faults of the docstring of `weather`; shortens N by the gap less one."""
  N = len(times)
  missing, repeated, gap = (round(share * N) for share in (0.14, 0.36, 0.41))
  values = values.copy()
  values[missing, -3:] = (-9999, 0, 0)
  rows = np.r_[: repeated + 1, repeated:gap, gap + _GAP_ROWS : N]
  return times[rows], values[rows]
