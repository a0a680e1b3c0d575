"""The weather of Jena, 2009 to 2016, as a tensorflow-datasets builder."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from seqjax.data import builders
from seqjax.data.series.series import COLUMNS, Series

_ROWS = 4096  # of a record: 103 of them are read faster than 420,551


def prepare(
  folder: pathlib.Path,
  read: Callable[[pathlib.Path], Series],
  source: pathlib.Path | str,
  download_dir: pathlib.Path,
) -> None:
  """Writes the rows of a source as array records.

  Args:
    folder: Where to.
    read: Turns a CSV file, or a zip that holds it, into a series of the 14 quantities.
    source: The file; or the URL of one, which is downloaded. `read` verifies it.
    download_dir: Where downloads are kept.

  Raises:
    InputError: As `read`, or the download failed.
    OSError: `folder` or `download_dir` cannot be written, or their disk is full.
  """
  builder = JenaClimate(folder, read=lambda path: {'train': read(path)}, source=source)
  builders.prepare(builder, folder, download_dir, checksums=False)


def load(folder: pathlib.Path) -> Series:
  """Reads what `prepare` wrote, in the same order."""
  rows = JenaClimate(folder).as_data_source()['train']
  records = rows.__getitems__(range(len(rows)))
  times = np.concatenate([record['times'] for record in records])
  values = np.concatenate([record['values'] for record in records])
  return Series(times.astype('datetime64[s]'), values, COLUMNS)


class JenaClimate(builders.Builder):
  """Rows of the file in its order, faults included; many of them in a record."""

  description = '14 quantities every 10 minutes, measured in Jena, 2009 to 2016.'
  homepage = 'https://www.bgc-jena.mpg.de/wetter/'
  features: ClassVar = {
    'times': tfds.features.Tensor(
      shape=(None,),
      dtype=np.int64,
      doc="Seconds since 1970 on the station's own clock.",
    ),
    'values': tfds.features.Tensor(
      shape=(None, len(COLUMNS)), dtype=np.float32, doc=', '.join(COLUMNS)
    ),
  }

  def _generate_examples(self, series: Series) -> Iterator[tuple[int, dict[str, Any]]]:
    for start in range(0, len(series.times), _ROWS):
      rows = slice(start, start + _ROWS)
      yield (
        start,
        {
          'times': series.times[rows].astype(np.int64),
          'values': series.values[rows],
        },
      )
