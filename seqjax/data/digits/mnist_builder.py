"""MNIST as a tensorflow-datasets builder that needs no TensorFlow."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from seqjax.data import builders
from seqjax.data.digits import idx


def prepare(folder: pathlib.Path, url: str, download_dir: pathlib.Path) -> None:
  """Downloads the files, which checksums.tsv knows, and writes them to the folder.

  Raises:
    InputError: A download failed, or is not the published file.
    OSError: A folder cannot be written, or its disk is full.
  """
  builders.prepare(Mnist(folder, source=url), folder, download_dir)


def load(folder: pathlib.Path) -> tuple[idx.Images, idx.Images]:
  """Reads what `prepare` wrote: training and test images."""
  source = Mnist(folder).as_data_source()
  parts = []
  for part in ('train', 'test'):
    whole = source[part][0]
    parts.append(idx.Images(whole['images'], whole['labels'].astype(np.int32)))
  return parts[0], parts[1]


class Mnist(builders.Builder):
  """All images of a part as one example: it is read at once or not at all."""

  description = 'Handwritten digits.'
  homepage = 'http://yann.lecun.com/exdb/mnist/'
  features: ClassVar = {
    'images': tfds.features.Tensor(shape=(None, 784), dtype=np.uint8),
    'labels': tfds.features.Tensor(shape=(None,), dtype=np.uint8),
  }

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
    paths = {
      part: builders.download(dl_manager, f'{self._source}{name}')
      for part, name in idx.FILES.items()
    }
    return {part: self._generate_examples(part, paths) for part in ('train', 'test')}

  def _generate_examples(
    self, part: str, paths: dict[str, pathlib.Path]
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    images = idx.images_of(paths[f'{part}_images'], paths[f'{part}_labels'])
    yield 0, {'images': images.x, 'labels': images.y.astype(np.uint8)}
