"""Rows of CSV, TSV and JSON lines, each with its line."""

import contextlib
import csv
import io
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from seqjax.files import texts
from seqjax.types import InputError

KINDS = {
  '.csv': 'csv',
  '.tsv': 'tsv',
  '.jsonl': 'json',
  '.ndjson': 'json',
  '.json': 'json',
}


class Row(NamedTuple):
  """The columns that were asked for, and where they stand."""

  values: tuple[str, ...]
  location: str  # 'FILE, line 7'


def read_text(path: pathlib.Path) -> str:
  """The text of a UTF-8 file, as `texts.decode` gives it.

  Raises:
    InputError: It cannot be read, or is not UTF-8: names the line.
  """
  try:
    data = path.read_bytes()
  except OSError as error:
    raise InputError(f'{path}: {error.strerror}') from error
  return texts.decode(data, str(path))


def read_lines(path: pathlib.Path) -> list[str]:
  """The lines of a UTF-8 file without their ends, the last even if nothing ends it."""
  return read_text(path).removesuffix('\n').split('\n')


def read_table(
  path: pathlib.Path, columns: Sequence[str], *, header: Sequence[str] | None = None
) -> list[Row]:
  """Reads columns of a table by name.

  CSV is quoted and parted as spreadsheets do it, by comma, semicolon or tab; in TSV a
  quotation mark is a character like any other. A JSON line is an object. Empty lines
  are skipped.

  Args:
    path: The name tells the kind: .csv, .tsv, .jsonl; any other is taken for TSV.
    columns: Names of those to return.
    header: Names of all columns of a table that has no line of names.

  Raises:
    InputError: A column is missing, or a row is broken or has an empty value: names
      file and line.
  """
  kind = KINDS.get(path.suffix.lower(), 'tsv')
  text = read_text(path)
  if kind == 'json':
    rows = list(objects(path, text, columns))
  else:
    rows = list(_fields(path, text, kind, columns, header))
  if not rows:
    raise InputError(f'{path} holds no row')
  return rows


def column_names(path: pathlib.Path) -> set[str]:
  """Names that `read_table` may find: with any sign between them, of any object.

  What is broken has none: `read_table` says it by its line.

  Raises:
    InputError: As `read_text`.
  """
  text, names = read_text(path), set[str]()
  kind = KINDS.get(path.suffix.lower(), 'tsv')
  if kind == 'json':
    for line in text.split('\n'):
      with contextlib.suppress(ValueError):
        record = json.loads(line)
        names |= record.keys() if isinstance(record, dict) else set()
    return names
  if kind == 'tsv':
    return {name.strip() for name in _first_line(text).split('\t')}
  for sign in ',;\t':
    rows = csv.reader(io.StringIO(text), delimiter=sign, skipinitialspace=True)
    with contextlib.suppress(csv.Error):
      names |= {name.strip() for name in next(filter(None, rows), [])}
  return names


def objects(
  path: pathlib.Path | str, text: str, columns: Sequence[str]
) -> Iterator[Row]:
  """The columns of JSON lines; `path` is what messages call the file.

  Raises:
    InputError: As `read_table`.
  """
  for number, line in enumerate(text.split('\n'), 1):
    if not line.strip():
      continue
    location = f'{path}, line {number}'
    try:
      record: Any = json.loads(line)
    except ValueError as error:
      raise InputError(f'{location} is no JSON: {error}') from error
    if not isinstance(record, dict):
      raise InputError(f'{location} must be a JSON object, got {line!r:.40}')
    values = []
    for name in columns:
      if name not in record:
        raise InputError(
          f'{location} has no {name!r}, but {", ".join(record) or "nothing"}'
        )
      value = record[name]
      if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
      if not isinstance(value, str):
        raise InputError(f'{location}: {name!r} must be a string, got {value!r:.40}')
      values.append(value)
    yield _checked(values, columns, location)


def _fields(
  path: pathlib.Path,
  text: str,
  kind: str,
  columns: Sequence[str],
  header: Sequence[str] | None,
) -> Iterator[Row]:
  if kind == 'csv':
    rows = _csv(path, text, _delimiter(text, columns) if header is None else ',')
  else:
    lines = text.split('\n')
    rows = ((n, line.split('\t')) for n, line in enumerate(lines, 1) if line)
  if header is None:
    _, header = next(rows, (0, []))
    header = [name.strip() for name in header]
  for name in columns:
    if name not in header:
      raise InputError(
        f'{path} has no column {name!r}, but {", ".join(map(repr, header)) or "none"}'
      )
  indices = [header.index(name) for name in columns]
  for number, fields in rows:
    location = f'{path}, line {number}'
    if len(fields) != len(header):
      raise InputError(
        f'{location} has {len(fields)} fields where there are {len(header)} columns'
      )
    yield _checked([fields[i] for i in indices], columns, location)


def _first_line(text: str) -> str:
  """The first one that is not blank."""
  return text.lstrip().partition('\n')[0]


def _delimiter(text: str, columns: Sequence[str]) -> str:
  """Of comma, semicolon and tab that between the names of these columns."""
  first = _first_line(text)
  for delimiter in ',;\t':
    header = next(csv.reader([first], delimiter=delimiter, skipinitialspace=True), [])
    if set(columns) <= {name.strip() for name in header}:
      return delimiter
  return ','


def _csv(
  path: pathlib.Path, text: str, delimiter: str
) -> Iterator[tuple[int, list[str]]]:
  """(line a row begins in, its fields), empty lines left out."""
  file = io.StringIO(text)
  reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
  # The limit is the process's: a text may be longer than what it is by default.
  limit = csv.field_size_limit(len(text) + 1)
  try:
    start = 1
    for fields in reader:
      if fields:
        yield start, fields
      start = reader.line_num + 1
  except csv.Error as error:
    raise InputError(f'{path}, line {reader.line_num}: {error}') from error
  finally:
    csv.field_size_limit(limit)


def _checked(values: Sequence[str], columns: Sequence[str], location: str) -> Row:
  for name, value in zip(columns, values, strict=True):
    if not value.strip():
      raise InputError(f'{location}: {name!r} is empty')
  return Row(tuple(values), location)
