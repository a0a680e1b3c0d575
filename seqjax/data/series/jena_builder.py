"""The weather of Jena, 2009 to 2016, as a tensorflow-datasets builder."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

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
  builder = _builder(folder, read=read, source=source)
  builders.prepare(builder, folder, download_dir, checksums=False)


def load(folder: pathlib.Path) -> Series:
  """Reads what `prepare` wrote, in the same order."""
  rows = _builder(folder).as_data_source()['train']
  records = rows.__getitems__(range(len(rows)))
  times = np.concatenate([record['times'] for record in records])
  values = np.concatenate([record['values'] for record in records])
  return Series(times.astype('datetime64[s]'), values, COLUMNS)


class JenaClimate(
  tfds.core.GeneratorBasedBuilder,
  skip_registration=True,  # type: ignore[call-arg]  # to mypy the base is unknown
):
  """Rows of the file in its order, faults included; many of them in a record."""

  VERSION = tfds.core.Version('1.0.0')

  def __init__(
    self,
    *,
    read: Callable[[pathlib.Path], Series] | None = None,
    source: pathlib.Path | str = '',
    **kwargs: Any,
  ):
    self._read = read
    self._source = source
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    return builders.Info(
      builder=self,
      description='14 quantities every 10 minutes, measured in Jena, 2009 to 2016.',
      homepage='https://www.bgc-jena.mpg.de/wetter/',
      features=tfds.features.FeaturesDict(
        {
          'times': tfds.features.Tensor(
            shape=(None,),
            dtype=np.int64,
            doc="Seconds since 1970 on the station's own clock.",
          ),
          'values': tfds.features.Tensor(
            shape=(None, len(COLUMNS)), dtype=np.float32, doc=', '.join(COLUMNS)
          ),
        }
      ),
      disable_shuffling=True,
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
    path = self._source
    if isinstance(path, str):
      path = builders.download(dl_manager, path)
    assert self._read is not None  # for mypy: only `prepare` comes here
    return {'train': self._generate_examples(self._read(path))}

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


def _builder(folder: pathlib.Path, **kwargs: Any) -> JenaClimate:
  return JenaClimate(data_dir=folder, file_format='array_record', **kwargs)
