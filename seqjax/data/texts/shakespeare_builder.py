"""Shakespeare's plays as a tensorflow-datasets builder that needs no TensorFlow."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from seqjax.data import builders
from seqjax.data.texts.tables import read_text


def prepare(folder: pathlib.Path, url: str, download_dir: pathlib.Path) -> None:
  """Downloads the file, which checksums.tsv knows, and writes it to the folder.

  Raises:
    InputError: The download failed, or is not the published file.
    OSError: A folder cannot be written, or its disk is full.
  """
  builder = TinyShakespeare(
    folder, read=lambda path: {'train': read_text(path)}, source=url
  )
  builders.prepare(builder, folder, download_dir)


def load(folder: pathlib.Path) -> str:
  """Reads what `prepare` wrote."""
  return TinyShakespeare(folder).as_data_source()['train'][0]['text'].decode()


class TinyShakespeare(builders.Builder):
  """One text."""

  description = "Shakespeare's plays, in one text."
  homepage = 'https://github.com/karpathy/char-rnn'
  features: ClassVar = {'text': tfds.features.Text()}

  def _generate_examples(self, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    yield 0, {'text': text}
