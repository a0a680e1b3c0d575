"""Finds and reads a measured series: the weather of Jena, or any CSV of its shape.

Of a folder, the file that --csv names; else the published file of 2009 to 2016, else
the only jena_climate_*.csv; each as it is or in a zip.
"""

from __future__ import annotations

import logging
import os
import pathlib
from typing import NamedTuple

import numpy as np

from seqjax.data import archives, cache, series_csv
from seqjax.data.series import Series
from seqjax.types import InputError

PUBLISHED = 'jena_climate_2009_2016.csv'

_VERSION = 1  # to be raised when the same file would be read otherwise
_MAX_BYTES = 2**31  # of an unpacked CSV

_log = logging.getLogger(__name__)


class Source(NamedTuple):
  """A file that holds a series, as it is or in a zip."""

  path: pathlib.Path

  @property
  def is_published(self) -> bool:
    """Whether it is, by its name, the file of the published numbers."""
    return self.path.name in (PUBLISHED, f'{PUBLISHED}.zip')


def load(
  source: Source,
  *,
  time_column: str = series_csv.TIME_COLUMN,
  date_format: str = series_csv.DATE_FORMAT,
  cache_dir: str = '',
) -> Series:
  """Reads the series as it is in the file; from the second time on, from the cache.

  Args:
    source: From `find`.
    time_column, date_format: As for `series_csv.read_csv`.
    cache_dir: As for `cache.default_root`.

  Raises:
    InputError: The file cannot be read, or something in it is wrong; with line and
      column.
  """
  fields = {
    'source': archives.identity(source.path, _is_csv),
    'time_column': time_column,
    'date_format': date_format,
    'version': _VERSION,
  }

  def build() -> dict[str, np.ndarray]:
    _log.info('reading %s, once', source.path)
    content, name = _content(source.path)
    times, values, columns = series_csv.read_csv(
      content, name, time_column=time_column, date_format=date_format
    )
    return {'times': times, 'values': values, 'columns': np.array(columns)}

  arrays = cache.arrays(cache.default_root(cache_dir), 'series', fields, build)
  return Series(arrays['times'], arrays['values'], tuple(arrays['columns'].tolist()))


def find(data_dir: str, csv: str = '') -> Source:
  """Decides which file is meant.

  Raises:
    InputError: None is, or several are.
  """
  if csv:
    path = pathlib.Path(data_dir, csv)
    if not path.is_file():
      raise InputError(f'--csv={csv}: there is no file {path}')
    return Source(path)
  try:
    names = sorted(os.listdir(data_dir)) if data_dir else []
  except OSError as e:
    raise InputError(
      f'--data_dir={data_dir}: {e.strerror}; expected the folder that holds {PUBLISHED}'
    ) from e
  for name in (PUBLISHED, f'{PUBLISHED}.zip'):
    if name in names:
      return Source(pathlib.Path(data_dir, name))
  others = [name for name in names if name.startswith('jena_climate_')]
  others = [name for name in others if name.endswith(('.csv', '.csv.zip'))]
  if len(others) == 1:
    return Source(pathlib.Path(data_dir, others[0]))
  place = f'--data_dir={data_dir}' if data_dir else '--data_dir is not given'
  if others:
    raise InputError(f'{place} holds {", ".join(others)}: say which with --csv')
  raise InputError(
    f'{place}: expected the folder of {PUBLISHED}, or another with --csv'
  )


def _content(path: pathlib.Path) -> tuple[bytes, str]:
  """Bytes of a CSV and its name: of the file itself, or of the only one in a zip."""
  try:
    with path.open('rb') as file:
      is_zip = file.read(2) == b'PK'
    if not is_zip:
      return path.read_bytes(), str(path)
  except OSError as e:
    raise InputError(f'{path}: cannot be read: {e.strerror}') from e
  found = list(
    archives.read_files(path, _is_csv, max_file=_MAX_BYTES, max_total=_MAX_BYTES)
  )
  if len(found) != 1:
    raise InputError(f'{path}: expected one CSV file in it, found {len(found)}')
  name, content = found[0]
  return content, f'{path}: {name}'


def _is_csv(name: str) -> bool:
  # A Mac puts a second, hidden file of the same ending beside each.
  return name.endswith('.csv') and not name.startswith('__MACOSX/')
