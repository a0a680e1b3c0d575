"""What the builders for tensorflow-datasets share: no TensorFlow, no chat, one line.

tensorflow-datasets takes a second to import: this file is imported only when there is
something to prepare.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from seqjax.types import InputError


class Info(tfds.core.DatasetInfo):
  """Does not ask Google's servers for the data set's numbers: they do not know it."""

  def initialize_from_bucket(self) -> None:
    """Does nothing; the original leaves an empty folder in /tmp each time."""


class Builder(
  tfds.core.GeneratorBasedBuilder,
  skip_registration=True,  # type: ignore[call-arg]  # to mypy the base is unknown
):
  """Examples in the order that they are read in.

  A kind of data adds what it is, and `_generate_examples` of what `read` finds. It is
  not registered: some names belong to tensorflow-datasets' own builders.
  """

  VERSION = tfds.core.Version('1.0.0')
  description: ClassVar[str]
  homepage: ClassVar[str]
  features: ClassVar[Mapping[str, tfds.features.FeatureConnector]]

  def __init_subclass__(cls) -> None:
    super().__init_subclass__(skip_registration=True)

  def __init__(
    self,
    folder: pathlib.Path,
    *,
    read: Callable[[pathlib.Path], Mapping[str, Any]] | None = None,
    source: pathlib.Path | str = '',
  ):
    """Takes where array records are, or, to write them, what reads a source's splits.

    Args:
      folder: Of the records.
      read: File or folder -> split -> what there is to make examples of.
      source: File or folder; or a URL, which is downloaded.
    """
    self._read, self._source = read, source
    super().__init__(data_dir=folder, file_format='array_record')

  def _info(self) -> tfds.core.DatasetInfo:
    return Info(
      builder=self,
      description=self.description,
      homepage=self.homepage,
      features=tfds.features.FeaturesDict(self.features),
      disable_shuffling=True,
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
    path = self._source
    if isinstance(path, str):
      path = download(dl_manager, path)
    assert self._read is not None  # for mypy: only `prepare` comes here
    splits = self._read(path)
    return {name: self._generate_examples(rows) for name, rows in splits.items()}


def prepare(
  builder: tfds.core.DatasetBuilder,
  folder: pathlib.Path,
  download_dir: pathlib.Path,
  *,
  checksums: bool = True,
) -> None:
  """Downloads what the builder asks for, and writes its examples to the folder.

  Args:
    builder: Of the folder.
    folder: Where to.
    download_dir: Where downloads are kept.
    checksums: Refuse a download that checksums.tsv does not know.

  Raises:
    InputError: As the builder, or the download failed.
    OSError: A folder cannot be written, or its disk is full.
  """
  config = tfds.download.DownloadConfig(force_checksums_validation=checksums)
  try:
    with _quiet():
      builder.download_and_prepare(download_dir=download_dir, download_config=config)
  except (OSError, RuntimeError) as e:  # array_record raises RuntimeError
    for code in (errno.ENOSPC, errno.EDQUOT):
      if os.strerror(code) in str(e):
        raise OSError(code, os.strerror(code), str(folder)) from e
    raise


def download(dl_manager: tfds.download.DownloadManager, url: str) -> pathlib.Path:
  """Downloads a file; size and checksum are verified where checksums.tsv has them."""
  if sys.stderr.isatty():
    tfds.display_progress_bar(True)
  try:
    return pathlib.Path(dl_manager.download(url))
  except tfds.download.DownloadError as e:
    raise InputError(f'{url}: cannot be downloaded: {_line(e)}') from e
  except tfds.core.download.download_manager.NonMatchingChecksumError as e:
    raise InputError(
      f'{url}: what was downloaded is not the published archive: {_line(e)}'
    ) from e
  except OSError as e:  # those of the network among them
    if e.errno in (errno.ENOSPC, errno.EDQUOT):
      raise
    raise InputError(f'{url}: cannot be downloaded: {_line(e)}') from e
  finally:
    tfds.display_progress_bar(False)


def _line(error: Exception) -> str:
  return ' '.join(str(error).split())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Without tensorflow-datasets' bars for steps of a second, and its prints."""
  tfds.display_progress_bar(False)
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      yield
  finally:
    tfds.display_progress_bar(True)
