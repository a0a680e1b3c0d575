"""Finding the file, and reading it through the cache."""

import base64
import hashlib
import http.server
import io
import pathlib
import shutil
import tempfile
import threading
import time
import zipfile

import numpy as np
import pytest

from seqjax.data.series import jena, quality
from seqjax.data.series import synthetic as synthetic_weather
from seqjax.data.series.series import write_csv
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
  series = synthetic_weather.weather(1, 60, faults=True)
  path = folder / 'jena_climate_2020.csv'
  write_csv(series, path)
  if packed:
    with zipfile.ZipFile(folder / f'{path.name}.zip', 'w') as archive:
      archive.write(path, path.name)
      archive.writestr('__MACOSX/._jena_climate_2020.csv', b'\0\1')
      archive.writestr('._jena_climate_2020.csv', b'\0\1')
    path.unlink()
  for _ in range(2):
    found = _load(folder, tmp_path)
    np.testing.assert_array_equal(found.times, series.times)
    np.testing.assert_array_equal(found.values, series.values)
    assert found.columns == series.columns
    monkeypatch.setattr(jena.csv_files, 'read_csv', None)  # the second time unused


def test_that_times_had_offsets_is_cached_too(folder, tmp_path):
  (folder / 'a.csv').write_text('t,v\n2020-01-01T00:00+02:00,1\n')
  for _ in range(2):
    found = _load(folder, tmp_path, 'a.csv', time_column='t', date_format='iso')
    assert found.utc
    assert found.times[0] == np.datetime64('2019-12-31T22:00:00')


def test_a_changed_file_is_read_again(folder, tmp_path):
  for rows in (50, 51):
    write_csv(synthetic_weather.weather(1, rows), folder / 'jena_climate_2020.csv')
    assert len(_load(folder, tmp_path).times) == rows


def test_which_file_is_meant(folder):
  assert jena.find(str(folder)).path is None  # the network
  assert jena.find('').path is None
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
  with pytest.raises(InputError, match=r'`csv=no.csv`: there is no file'):
    jena.find(str(folder), 'no.csv')
  with pytest.raises(InputError, match=r'`data_dir=.*: No such file'):
    jena.find(str(folder / 'no'))


@pytest.mark.parametrize('packed', [False, True])
def test_the_published_file_goes_through_its_builder_and_is_cached_once(
  folder, tmp_path, packed, monkeypatch
):
  series = synthetic_weather.weather(1, 9000, faults=True)  # of more than one record
  write_csv(series, folder / jena.PUBLISHED, quoted=True)
  if packed:
    with zipfile.ZipFile(folder / f'{jena.PUBLISHED}.zip', 'w') as archive:
      archive.write(folder / jena.PUBLISHED, jena.PUBLISHED)
    (folder / jena.PUBLISHED).unlink()
  found = _load(folder, tmp_path)
  np.testing.assert_array_equal(found.times, series.times)
  np.testing.assert_array_equal(found.values, series.values)
  (records,) = (tmp_path / 'c').glob('jena-rows-*')
  assert list(records.glob('**/*.array_record*'))
  assert [path.name for path in (tmp_path / 'c').glob('*-*')] == [records.name]
  monkeypatch.setattr(jena.csv_files, 'read_csv', None)  # the second time unused
  np.testing.assert_array_equal(_load(folder, tmp_path).values, series.values)


def test_the_download_is_read_in_no_other_way(tmp_path):
  with pytest.raises(InputError, match=r'`data_dir` is not given: only a file there'):
    jena.load(jena.find(''), cache_dir=str(tmp_path), decimal=',')


def test_another_station_s_file_of_the_published_name_is_refused(folder, tmp_path):
  (folder / jena.PUBLISHED).write_text('Date Time,v\n01.01.2020 00:00:00,1\n')
  with pytest.raises(InputError, match=r'expected the columns p \(mbar\).*got v'):
    _load(folder, tmp_path)


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


# The published zip, from a server of our own.


@pytest.fixture
def serve(monkeypatch):
  """Serves a zip as the published one; gives the list of requests."""
  servers = []

  def start(rows, *, stated=None, size=None, num_rows=None):
    content = io.BytesIO()
    series = synthetic_weather.weather(1, rows)
    with zipfile.ZipFile(content, 'w') as archive, archive.open('a.csv', 'w') as file:
      file.write(_csv(series))
    body, requests = content.getvalue(), []
    digest = hashlib.md5(body).digest() if stated is None else stated

    class Handler(http.server.BaseHTTPRequestHandler):
      def do_HEAD(self):
        requests.append(self.command)
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.send_header('x-goog-hash', 'crc32c=AAAAAA==')
        if digest:
          self.send_header('x-goog-hash', f'md5={base64.b64encode(digest).decode()}')
        self.end_headers()

      def do_GET(self):
        self.do_HEAD()
        self.wfile.write(body)

      def log_message(self, *args):
        pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    servers.append(server)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f'http://127.0.0.1:{server.server_port}/{jena.PUBLISHED}.zip'
    monkeypatch.setattr(jena, 'URL', url)
    monkeypatch.setattr(jena, '_SIZE', len(body) if size is None else size)
    monkeypatch.setattr(jena, '_ROWS', rows if num_rows is None else num_rows)
    return series, requests

  yield start
  for server in servers:
    server.shutdown()
    server.server_close()


def _csv(series):
  path = pathlib.Path(tempfile.mkdtemp()) / 'a.csv'
  write_csv(series, path, quoted=True)
  content = path.read_bytes()
  shutil.rmtree(path.parent)
  return content


def test_the_published_zip_is_downloaded_once(tmp_path, serve):
  series, requests = serve(60)
  for _ in range(2):
    found = jena.load(jena.find(''), cache_dir=str(tmp_path))
    np.testing.assert_array_equal(found.values, series.values)
  assert requests == ['HEAD', 'GET']


@pytest.mark.parametrize(
  ('wrong', 'message', 'requested'),
  [
    ({'stated': b'0' * 16}, 'what was downloaded has .* instead of', ['HEAD', 'GET']),
    ({'size': 7}, r'cannot be had \(it has [0-9]+ bytes instead of 7\)', ['HEAD']),
    ({'stated': b''}, 'its server states no checksum', ['HEAD']),
    ({'num_rows': 61}, 'has 60 rows instead of 61', ['HEAD', 'GET']),
  ],
)
def test_a_download_that_is_not_the_published_one(
  tmp_path, serve, wrong, message, requested
):
  _, requests = serve(60, **wrong)
  with pytest.raises(InputError, match=message) as caught:
    jena.load(jena.find(''), cache_dir=str(tmp_path))
  assert '\n' not in str(caught.value)
  assert requests == requested
  assert not list(tmp_path.glob('series-*'))


@pytest.mark.parametrize('given', [True, False])
def test_without_data_and_network_the_error_says_what_to_put_where(
  folder, tmp_path, monkeypatch, given
):
  monkeypatch.setattr(jena, 'URL', f'http://127.0.0.1:9/{jena.PUBLISHED}.zip')
  start = time.monotonic()
  source = jena.find(str(folder) if given else '')
  with pytest.raises(InputError) as caught:
    jena.load(source, cache_dir=str(tmp_path))
  assert time.monotonic() - start < 10
  message = str(caught.value)
  assert 'get that file and give its folder with `data_dir`' in message
  assert jena.URL in message
  assert ('holds no jena_climate' if given else 'is not given') in message


@pytest.mark.slow
def test_the_long_file_is_read_and_kept_in_five_times_numpy_s_time(folder, tmp_path):
  series = synthetic_weather.weather(0, 420_551, faults=True)
  write_csv(series, folder / jena.PUBLISHED, quoted=True)

  def seconds(read):
    start = time.process_time()
    return read(), time.process_time() - start

  def by_numpy():
    file = folder / jena.PUBLISHED
    return np.loadtxt(file, delimiter=',', skiprows=1, usecols=range(1, 15))

  _, numpy_s = seconds(by_numpy)
  loaded, ours = seconds(lambda: _load(folder, tmp_path))
  _, cleaned = seconds(lambda: quality.clean(loaded, 'f'))
  # 3 s on a fast machine, 5.5 on a slow one.
  assert ours + cleaned < 5 * numpy_s
  np.testing.assert_array_equal(loaded.values, series.values)


@pytest.mark.real_data
def test_the_faults_of_2020(real_data, tmp_path):
  report = quality.clean(_load(real_data, tmp_path), 'f').report
  assert (report.rows, report.kept, report.step_seconds) == (52_696, 52_695, 600)
  assert (report.first, report.last) == ('2020-01-01T00:10:00', '2021-01-01T00:00:00')
  assert (report.repeated, report.sentinels, report.repaired) == (1, 1, 1)
  assert (report.gaps, report.missing) == (1, 9)
  assert (report.out_of_order, report.dropped) == (0, 0)
