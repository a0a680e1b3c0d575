"""Shakespeare's plays as a tensorflow-datasets builder that needs no TensorFlow."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from seqjax.data import builders
from seqjax.data.texts.tables import read_text


def prepare(folder: pathlib.Path, url: str, download_dir: pathlib.Path) -> None:
  """Downloads the file, which checksums.tsv knows, and writes it to the folder.

  Raises:
    InputError: The download failed, or is not the published file.
    OSError: A folder cannot be written, or its disk is full.
  """
  builders.prepare(_builder(folder, url=url), folder, download_dir)


def load(folder: pathlib.Path) -> str:
  """Reads what `prepare` wrote."""
  return _builder(folder).as_data_source()['train'][0]['text'].decode()


class TinyShakespeare(
  tfds.core.GeneratorBasedBuilder,
  skip_registration=True,  # type: ignore[call-arg]  # to mypy the base is unknown
):
  """One text."""

  VERSION = tfds.core.Version('1.0.0')

  def __init__(self, *, url: str = '', **kwargs: Any):
    self._url = url
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    return builders.Info(
      builder=self,
      description="Shakespeare's plays, in one text.",
      homepage='https://github.com/karpathy/char-rnn',
      features=tfds.features.FeaturesDict({'text': tfds.features.Text()}),
      disable_shuffling=True,
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
    path = builders.download(dl_manager, self._url)
    return {'train': self._generate_examples(path)}

  def _generate_examples(
    self, path: pathlib.Path
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    yield 0, {'text': read_text(path)}


def _builder(folder: pathlib.Path, **kwargs: Any) -> TinyShakespeare:
  return TinyShakespeare(data_dir=folder, file_format='array_record', **kwargs)
