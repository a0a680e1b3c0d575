"""Finds and reads a measured series: the weather of Jena, or any CSV of its shape.

Of a folder, the file that `csv` names; else the published file of 2009 to 2016, else
the only jena_climate_*.csv; each as it is or in a zip. A folder without any of them, or
none, means the published zip from the network.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import logging
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

from seqjax.data import archives, cache, network
from seqjax.data.series import csv_files
from seqjax.data.series.series import COLUMNS, Series
from seqjax.types import InputError

PUBLISHED = 'jena_climate_2009_2016.csv'
URL = (
  'https://storage.googleapis.com/tensorflow/tf-keras-datasets/'
  'jena_climate_2009_2016.csv.zip'
)

_SIZE = 13_568_290  # bytes of the published zip, as Keras's download shows
_ROWS = 420_551  # of the published file
# To be raised when the same file would be read otherwise.
_VERSION = 4
_PUBLISHED_VERSION = 2  # of the published file, as records
_MAX_BYTES = 2**31  # of an unpacked CSV

_log = logging.getLogger(__name__)


class _Layout(NamedTuple):
  """What `csv_files.read_csv` has to be told of a file."""

  time_column: str | None = csv_files.TIME_COLUMN
  date_format: str = csv_files.DATE_FORMAT
  delimiter: csv_files.Delimiter = ','
  decimal: csv_files.Decimal = '.'
  columns: str = ''
  categories: str = ''
  missing: bool = False
  dtype: csv_files.DType = 'float32'


class Source(NamedTuple):
  """A file that holds a series, as it is or in a zip."""

  path: pathlib.Path | None  # None: the published one, from the network
  why: str = ''  # why the network, for messages

  @property
  def name(self) -> str:
    """For messages."""
    return URL if self.path is None else str(self.path)

  @property
  def is_published(self) -> bool:
    """Whether it is, by its name, the file of the published numbers."""
    return self.path is None or self.path.name in (PUBLISHED, f'{PUBLISHED}.zip')


def load(
  source: Source,
  *,
  cache_dir: str = '',
  **layout: Any,
) -> Series:
  """Reads the series as it is in the file; from the second time on, from the cache.

  Args:
    source: From `find`.
    cache_dir: As for `cache.default_root`.
    **layout: As for `csv_files.read_csv`.

  Raises:
    InputError: The file cannot be read, or something in it is wrong, with line and
      column; or there is no network.

  Example:
    >>> from seqjax.data.series import jena, series, synthetic
    >>> folder = tempfile.mkdtemp()
    >>> series.write_csv(synthetic.weather(0, 1000), folder + '/jena_climate_2020.csv')
    >>> jena.load(jena.find(folder), cache_dir=folder).values.shape
    (1000, 14)
  """
  root = cache.default_root(cache_dir)
  identity = URL if source.path is None else archives.identity(source.path, _is_csv)
  file_layout = _Layout(**layout)
  fields = {'source': identity, **file_layout._asdict(), 'version': _VERSION}

  if source.is_published and file_layout == _Layout():
    del fields['dtype']  # which what is cached does not name
    return _published(source, root, fields | {'version': _PUBLISHED_VERSION})
  path = source.path
  if path is None:
    raise InputError(f'{source.why}: only a file there can be read in another way')

  def build() -> dict[str, np.ndarray]:
    read = _read(path, file_layout)._asdict()
    return {k: np.asarray(value) for k, value in read.items() if value is not None}

  arrays = cache.arrays(root, 'series', fields, build)
  columns, utc = arrays['columns'].tolist(), bool(arrays['utc'])
  return Series(
    arrays['times'], arrays['values'], tuple(columns), utc, arrays.get('lines')
  )


def find(data_dir: str, csv: str = '') -> Source:
  """Decides which file is meant.

  Raises:
    InputError: A file or folder that is named is not there, or several could be meant.

  Example:
    >>> from seqjax.data.series import jena, series, synthetic
    >>> folder = tempfile.mkdtemp()
    >>> series.write_csv(synthetic.weather(0, 1000), folder + '/jena_climate_2020.csv')
    >>> jena.find(folder).path.name
    'jena_climate_2020.csv'
  """
  if csv:
    path = pathlib.Path(data_dir, csv)
    if not path.is_file():
      raise InputError(f'`csv={csv}`: there is no file {path}')
    return Source(path)
  try:
    names = sorted(os.listdir(data_dir)) if data_dir else []
  except OSError as e:
    raise InputError(
      f'`data_dir={data_dir}`: {e.strerror}; expected the folder that holds {PUBLISHED}'
    ) from e
  for name in (PUBLISHED, f'{PUBLISHED}.zip'):
    if name in names:
      return Source(pathlib.Path(data_dir, name))
  others = [name for name in names if name.startswith('jena_climate_')]
  others = [name for name in others if name.endswith(('.csv', '.csv.zip'))]
  if len(others) == 1:
    return Source(pathlib.Path(data_dir, others[0]))
  if others:
    raise InputError(
      f'`data_dir={data_dir}` holds {", ".join(others)}: say which with `csv`'
    )
  why = '`data_dir` is not given'
  if data_dir:
    why = f'`data_dir={data_dir}` holds no {PUBLISHED}, and `csv` names no other'
  return Source(None, why)


def _published(source: Source, root: pathlib.Path, fields: dict[str, object]) -> Series:
  """Prepares the published file with tensorflow-datasets, once, and reads that."""
  from seqjax.data.series import jena_builder  # a second, for this file alone

  def build(folder: pathlib.Path) -> None:
    md5 = ''
    if source.path is None:
      headers = network.check_reachable(URL, size=_SIZE, why=source.why)
      md5 = _stated_md5(headers.get_all('x-goog-hash', []))
    _log.info('preparing %s, once, in %s', source.name, root)
    read = functools.partial(_read_published, md5=md5)
    jena_builder.prepare(folder, read, source.path or URL, root / 'downloads')

  folder = cache.folder(root, 'jena-rows', fields, build)
  return jena_builder.load(folder)


def _stated_md5(headers: list[str]) -> str:
  """The checksum that the server keeps of the file, in hexadecimal."""
  values = [value.strip() for header in headers for value in header.split(',')]
  for value in values:
    if value.startswith('md5='):
      return base64.b64decode(value.removeprefix('md5=')).hex()
  raise InputError(f'{URL}: its server states no checksum to verify a download by')


def _read_published(path: pathlib.Path, *, md5: str) -> Series:
  """Reads the published file; a download, which has an `md5`, is verified before."""
  if md5:
    with path.open('rb') as file:
      digest = hashlib.file_digest(file, 'md5').hexdigest()
    size = path.stat().st_size
    if (size, digest) != (_SIZE, md5):
      path.unlink()
      raise InputError(
        f'{URL}: what was downloaded has {size:,} bytes of MD5 {digest} instead of '
        f'{_SIZE:,} of MD5 {md5}; it is removed, start again'
      )
  series = _read(path, _Layout())
  if series.columns != COLUMNS:
    raise InputError(
      f'{path}: expected the columns {", ".join(COLUMNS)}, got '
      f'{", ".join(series.columns)}; give a file of another station another name'
    )
  if md5 and len(series.times) != _ROWS:
    raise InputError(f'{URL}: has {len(series.times):,} rows instead of {_ROWS:,}')
  return series


def _read(path: pathlib.Path, layout: _Layout) -> Series:
  _log.info('reading %s, once', path)
  content, name = _content(path)
  return csv_files.read_csv(content, name, **layout._asdict())


def _content(path: pathlib.Path) -> tuple[bytes, str]:
  """Bytes of a CSV and its name: of the file itself, or of the only one in a zip."""
  try:
    with path.open('rb') as file:
      is_zip = file.read(2) == b'PK'
    if not is_zip:
      return path.read_bytes(), str(path)
  except OSError as e:
    raise InputError(f'{path}: cannot be read: {e.strerror}') from e
  files = list(
    archives.read_files(path, _is_csv, max_file=_MAX_BYTES, max_total=_MAX_BYTES)
  )
  if len(files) != 1:
    raise InputError(f'{path}: expected one CSV file in it, found {len(files)}')
  name, content = files[0]
  return content, f'{path}: {name}'


def _is_csv(name: str) -> bool:
  return name.endswith('.csv')
