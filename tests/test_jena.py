"""Finding the file, and reading it through the cache."""

import time
import zipfile

import numpy as np
import pytest

from seqjax.data import jena, quality, synthetic
from seqjax.data.series import write_csv
from seqjax.types import InputError


@pytest.fixture
def folder(tmp_path):
  data = tmp_path / 'data'
  data.mkdir()
  return data


def _load(folder, tmp_path, csv='', **more):
  return jena.load(jena.find(str(folder), csv), cache_dir=str(tmp_path / 'c'), **more)


@pytest.mark.parametrize('packed', [False, True])
def test_the_file_is_read_once_and_then_cached(folder, tmp_path, packed, monkeypatch):
  series = synthetic.weather(1, 60, faults=True)
  path = folder / 'jena_climate_2020.csv'
  write_csv(series, path)
  if packed:
    with zipfile.ZipFile(folder / f'{path.name}.zip', 'w') as archive:
      archive.write(path, path.name)
      archive.writestr('__MACOSX/._jena_climate_2020.csv', b'\0\1')
    path.unlink()
  for _ in range(2):
    found = _load(folder, tmp_path)
    np.testing.assert_array_equal(found.times, series.times)
    np.testing.assert_array_equal(found.values, series.values)
    assert found.columns == series.columns
    monkeypatch.setattr(jena.series_csv, 'read_csv', None)  # the second time unused


def test_a_changed_file_is_read_again(folder, tmp_path):
  for rows in (50, 51):
    write_csv(synthetic.weather(1, rows), folder / 'jena_climate_2020.csv')
    assert len(_load(folder, tmp_path).times) == rows


def test_which_file_is_meant(folder):
  with pytest.raises(InputError, match=f'--data_dir={folder}: expected the folder of'):
    jena.find(str(folder))
  for name in ('other.csv', 'jena_climate_2020.csv'):
    (folder / name).write_text('')
  assert jena.find(str(folder)).path == folder / 'jena_climate_2020.csv'
  assert jena.find(str(folder), 'other.csv').path == folder / 'other.csv'
  (folder / 'jena_climate_2021.csv').write_text('')
  with pytest.raises(InputError, match=r'2020.csv, jena_climate_2021.csv: say which'):
    jena.find(str(folder))
  for name in (f'{jena.PUBLISHED}.zip', jena.PUBLISHED):
    (folder / name).write_text('')
    assert jena.find(str(folder)) == jena.Source(folder / name)
    assert jena.find(str(folder)).is_published
  with pytest.raises(InputError, match=r'--csv=no.csv: there is no file'):
    jena.find(str(folder), 'no.csv')
  with pytest.raises(InputError, match=r'--data_dir=.*: No such file'):
    jena.find(str(folder / 'no'))


def test_a_zip_of_two_files_and_a_broken_one(folder, tmp_path):
  with zipfile.ZipFile(folder / 'a.zip', 'w') as archive:
    archive.writestr('a.csv', 'x')
    archive.writestr('b.csv', 'x')
  with pytest.raises(InputError, match=r'a.zip: expected one CSV file in it, found 2'):
    _load(folder, tmp_path, 'a.zip')
  (folder / 'b.zip').write_bytes(b'PK\3\4 no zip')
  with pytest.raises(InputError, match=r'b.zip: damaged'):
    _load(folder, tmp_path, 'b.zip')


def test_a_fault_names_the_file_in_the_zip(folder, tmp_path):
  with zipfile.ZipFile(folder / 'a.zip', 'w') as archive:
    archive.writestr('x/a.csv', 'Date Time,v\n01.01.2020 00:00:00,?\n')
  with pytest.raises(InputError, match=r"a.zip: x/a.csv: line 2, column 'v'.*'\?'"):
    _load(folder, tmp_path, 'a.zip')


@pytest.mark.slow
def test_the_long_file_is_read_in_five_seconds(folder, tmp_path):
  series = synthetic.weather(0, 420_551, faults=True)
  write_csv(series, folder / jena.PUBLISHED, quoted=True)
  start = time.process_time()
  found = _load(folder, tmp_path)
  quality.clean(found, 'f')
  assert time.process_time() - start < 5
  np.testing.assert_array_equal(found.values, series.values)


@pytest.mark.real_data
def test_the_faults_of_2020(real_data, tmp_path):
  report = quality.clean(_load(real_data, tmp_path), 'f').report
  assert (report.rows, report.kept, report.step_seconds) == (52_696, 52_695, 600)
  assert (report.first, report.last) == ('2020-01-01T00:10:00', '2021-01-01T00:00:00')
  assert (report.repeated, report.sentinels, report.repaired) == (1, 1, 1)
  assert (report.gaps, report.missing) == (1, 9)
  assert (report.out_of_order, report.dropped) == (0, 0)
