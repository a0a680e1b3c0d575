"""Series with a label each: a file of a class's folder, or rows that a table names."""

from __future__ import annotations

import datetime
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from seqjax.data.series import times as date_times
from seqjax.data.series.series import Series
from seqjax.data.texts.labelled import NAMES
from seqjax.data.texts.tables import Row, column_names, read_table
from seqjax.files.litter import inside
from seqjax.types import InputError

_KIND = '.csv'
_FIRST, _LAST = 'from', 'to'


class Labelled(NamedTuple):
  """N series, each with the name of its class and where it was read."""

  series: list[Series]
  labels: list[str]
  locations: list[str]
  parts: list[str]  # 'train', 'validation' or 'test'; '' where none is named


def load(
  data: str,
  labels: str,
  read: Callable[[pathlib.Path], Series],
  *,
  date_format: str = date_times.ISO,
) -> Labelled:
  """Finds the series of a user's own.

  Args:
    data: A folder that holds a folder for each class, and in it a series in each .csv
      file. With `labels` a file, or a folder of files.
    labels: A table with a column `label`, and of these those that are needed: `file`, a
      name in the folder; `from` and `to`, the first and the last time of a series in
      the file (a day without a time of day as `to` is all of it), or the numbers of its
      rows; `part`, of a split: train, validation, test.
    read: Reads a file, its rows in time order.
    date_format: How `from` and `to` are written, as for `csv_files.read_csv`; with an
      offset from UTC where the file's times have one, and only there.

  Raises:
    InputError: A file or folder is not there, or holds no series; a row of the table
      is broken (names file and line).
  """
  path = pathlib.Path(data)
  if not data or not path.exists():
    raise InputError(f'`data={data}`: there is no such file or folder')
  if labels:
    return _by_table(path, pathlib.Path(labels), read, date_format)
  if not path.is_dir():
    raise InputError(f'`data={data}` is a file: `labels` must say which rows are what')
  labelled = Labelled([], [], [], [])
  folders = [folder for folder in inside(path) if folder.is_dir()]
  if not folders:
    raise InputError(
      f'`data={data}` holds no folder of a class; `labels` may name the files'
    )
  for folder in folders:
    files = [file for file in inside(folder) if file.suffix.lower() == _KIND]
    if not files:
      raise InputError(
        f'the class {folder.name!r} is empty: {folder} holds no {_KIND} file'
      )
    for file in files:
      _add(labelled, read(file), folder.name, str(file), '')
  return labelled


def _by_table(
  path: pathlib.Path,
  table: pathlib.Path,
  read: Callable[[pathlib.Path], Series],
  date_format: str,
) -> Labelled:
  if not table.is_file():
    raise InputError(f'`labels={table}` is no file')
  given = column_names(table)
  ranged = _FIRST in given or _LAST in given
  columns = [
    'label',
    *(['file'] if path.is_dir() or 'file' in given else []),
    *([_FIRST, _LAST] if ranged or not path.is_dir() else []),
    *(['part'] if 'part' in given else []),
  ]
  known: dict[pathlib.Path, Series] = {}
  labelled = Labelled([], [], [], [])
  for row in read_table(table, columns):
    cells = dict(zip(columns, (value.strip() for value in row.values), strict=True))
    file = path
    if 'file' in cells:
      file = (path if path.is_dir() else path.parent) / cells['file']
      if not file.is_file():
        raise InputError(f'{row.location}: there is no file {file}')
    if file not in known:
      known[file] = read(file)
    series, name = known[file], str(file)
    if _FIRST in cells:
      series = _between(series, cells[_FIRST], cells[_LAST], date_format, row, file)
      name = f'{file}, {cells[_FIRST]} to {cells[_LAST]}'
    _add(labelled, series, cells['label'], name, _part(cells.get('part', ''), row))
  return labelled


def _between(
  series: Series,
  first: str,
  last: str,
  date_format: str,
  row: Row,
  file: pathlib.Path,
) -> Series:
  """The rows from the first time to the last, both included."""
  read_time = date_times.reader(date_format, aware=series.utc)
  ends: list[Any] = []
  for name, text in ((_FIRST, first), (_LAST, last)):
    try:
      if date_format == date_times.ROWS:
        if not text.isdecimal():
          raise ValueError('the number of a row')
        ends.append(np.int64(text))
      else:
        ends.append(np.datetime64(read_time(text), 's'))
    except ValueError as error:
      raise InputError(
        f'{row.location}, column {name!r}: expected {error}, got {text!r}; '
        'see `date_format`'
      ) from error
  if date_format == date_times.ISO and _is_day(last):
    ends[1] += np.timedelta64(86_399, 's')  # its last second
  inside_it = (series.times >= ends[0]) & (series.times <= ends[1])
  if not inside_it.any():
    raise InputError(f'{row.location}: {file} has no row from {first} to {last}')
  return series._replace(times=series.times[inside_it], values=series.values[inside_it])


def _is_day(text: str) -> bool:
  """Whether it is a date of ISO 8601 without a time of day."""
  try:
    datetime.date.fromisoformat(text)
  except ValueError:
    return False
  return True


def _part(text: str, row: Row) -> str:
  if not text:
    return ''
  for part, names in NAMES.items():
    if text.lower() in names:
      return part
  raise InputError(
    f"{row.location}, column 'part': expected one of {', '.join(NAMES)}, got {text!r}"
  )


def _add(
  labelled: Labelled, series: Series, label: str, location: str, part: str
) -> None:
  columns: tuple[Any, ...] = labelled
  for column, value in zip(columns, (series, label, location, part), strict=True):
    column.append(value)
