"""The format of the weather station's files."""

import csv
import datetime
import itertools
import re

import numpy as np
import pytest

from seqjax.data.series import synthetic as synthetic_weather
from seqjax.data.series.series import COLUMNS, Series, write_csv


def read_csv(path) -> Series:
  """With Python's csv and datetime alone."""
  with open(path, newline='') as file:
    header, *rows = csv.reader(file)
  assert header[0] == 'Date Time'
  times = [datetime.datetime.strptime(row[0], '%d.%m.%Y %H:%M:%S') for row in rows]
  values = [[float(cell) for cell in row[1:]] for row in rows]
  return Series(
    np.array(times, 'datetime64[s]'), np.array(values, np.float32), tuple(header[1:])
  )


@pytest.mark.parametrize('quoted', [False, True])
def test_csv_gives_the_same_series_back(tmp_path, quoted):
  wrote = synthetic_weather.weather(6, 400, faults=True, start='2020-12-30 23:50:00')
  write_csv(wrote, tmp_path / 'w.csv', quoted=quoted)
  read = read_csv(tmp_path / 'w.csv')
  np.testing.assert_array_equal(read.times, wrote.times)
  np.testing.assert_array_equal(read.values, wrote.values)
  assert read.columns == wrote.columns
  lines = (tmp_path / 'w.csv').read_text().split('\n')
  assert lines[0].startswith('"Date Time","p (mbar)"' if quoted else 'Date Time,p (mba')
  assert lines[1].startswith('30.12.2020 23:50:00,')
  assert sum(',-9999.0,0.0,0.0' in line for line in lines) == 1
  # Two decimals at most, as the station writes them.
  cells = itertools.chain.from_iterable(line.split(',')[1:] for line in lines[1:-1])
  assert all(re.fullmatch(r'-?\d+\.\d{1,2}', cell) for cell in cells)


def test_csv_refuses_what_does_not_fit(tmp_path):
  s = synthetic_weather.weather(0, 5)
  with pytest.raises(ValueError, match=r'\[4, 14\].*got \[5, 14\]'):
    write_csv(s._replace(times=s.times[1:]), tmp_path / 'w.csv')
  assert not (tmp_path / 'w.csv').exists()


@pytest.mark.real_data
def test_the_stations_own_file_comes_out_byte_by_byte(tmp_path, real_data):
  path = real_data / 'jena_climate_2020.csv'
  real = read_csv(path)
  assert real.columns == COLUMNS
  write_csv(real, tmp_path / 'again.csv')
  assert (tmp_path / 'again.csv').read_bytes() == path.read_bytes()
