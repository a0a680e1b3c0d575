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
from collections.abc import Iterator

import tensorflow_datasets as tfds

from seqjax.types import InputError


class Info(tfds.core.DatasetInfo):
  """Does not ask Google's servers for the data set's numbers: they do not know it."""

  def initialize_from_bucket(self) -> None:
    """Does nothing; the original leaves an empty folder in /tmp each time."""


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
