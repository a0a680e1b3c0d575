"""Weather measured at equal steps of time, and the format of its files."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

# The quantities of the weather station in Jena, in the order and spelling of its files.
COLUMNS = (
  'p (mbar)',
  'T (degC)',
  'Tpot (K)',
  'Tdew (degC)',
  'rh (%)',
  'VPmax (mbar)',
  'VPact (mbar)',
  'VPdef (mbar)',
  'sh (g/kg)',
  'H2OC (mmol/mol)',
  'rho (g/m**3)',
  'wv (m/s)',
  'max. wv (m/s)',
  'wd (deg)',
)


class Series(NamedTuple):
  """A multivariate series on the host, faults of the station included.

  A row of the file is a row here: timestamps may repeat or leave a gap, and -9999 may
  stand where nothing was measured.
  """

  times: np.ndarray  # [N] datetime64[s], the station's own clock
  values: np.ndarray  # [N, D] float32 or float64, in the units that the columns name
  columns: tuple[str, ...]  # D names
  utc: bool = False  # whether the file told offsets, so that times are of UTC
  lines: np.ndarray | None = None  # [N] rows begin in; None: row i in line i + 2


def write_csv(
  series: Series, path: str | os.PathLike[str], *, quoted: bool = False
) -> None:
  """Writes the series in the format of the Jena files.

  A header of `Date Time` and the columns, then a line for each row: the date as
  dd.mm.yyyy HH:MM:SS and the shortest decimals that give the same float32 again, so
  that nothing is lost on the way back.

  Args:
    series: What to write.
    path: File to create or to replace.
    quoted: Puts the names of the header into quotation marks, as the file of 2009 to
      2016 does; the files of single years do not.

  Raises:
    ValueError: Times, values and columns do not fit each other.
  """
  times, values, columns = series[:3]
  if values.shape != (len(times), len(columns)):
    raise ValueError(
      f'write_csv needs values [N, D] = [{len(times)}, {len(columns)}] for the times '
      f'and columns given, got {list(values.shape)}'
    )
  header = ('Date Time', *columns)
  if quoted:
    header = tuple(f'"{name}"' for name in header)
  iso = np.datetime_as_string(times.astype('datetime64[s]')).tolist()
  dates = (f'{t[8:10]}.{t[5:7]}.{t[:4]} {t[11:]}' for t in iso)
  # NumPy prints a float32 with as many digits as it needs; Python would print the
  # float64 that it is equal to.
  numbers = values.astype(np.float32).astype(np.str_).tolist()
  with open(path, 'w', encoding='utf-8', newline='') as file:
    file.write(','.join(header) + '\n')
    for date, row in zip(dates, numbers, strict=True):
      file.write(f'{date},{",".join(row)}\n')
