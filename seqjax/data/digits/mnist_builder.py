"""MNIST as a tensorflow-datasets builder that needs no TensorFlow."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from seqjax.data import builders
from seqjax.data.digits import pixels


def prepare(folder: pathlib.Path, url: str, download_dir: pathlib.Path) -> None:
  """Downloads the files, which checksums.tsv knows, and writes them to the folder.

  Raises:
    InputError: A download failed, or is not the published file.
    OSError: A folder cannot be written, or its disk is full.
  """
  builders.prepare(_builder(folder, url=url), folder, download_dir)


def load(folder: pathlib.Path) -> tuple[pixels.Images, pixels.Images]:
  """Reads what `prepare` wrote: training and test images."""
  source = _builder(folder).as_data_source()
  found = []
  for part in ('train', 'test'):
    whole = source[part][0]
    found.append(pixels.Images(whole['images'], whole['labels'].astype(np.int32)))
  return found[0], found[1]


class Mnist(
  tfds.core.GeneratorBasedBuilder,
  skip_registration=True,  # type: ignore[call-arg]  # to mypy the base is unknown
):
  """All images of a part as one example: it is read at once or not at all."""

  VERSION = tfds.core.Version('1.0.0')

  def __init__(self, *, url: str = '', **kwargs: Any):
    self._url = url
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    return builders.Info(
      builder=self,
      description='Handwritten digits.',
      homepage='http://yann.lecun.com/exdb/mnist/',
      features=tfds.features.FeaturesDict(
        {
          'images': tfds.features.Tensor(shape=(None, 784), dtype=np.uint8),
          'labels': tfds.features.Tensor(shape=(None,), dtype=np.uint8),
        }
      ),
      disable_shuffling=True,
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
    paths = {
      part: builders.download(dl_manager, self._url + name)
      for part, name in pixels.FILES.items()
    }
    return {part: self._generate_examples(part, paths) for part in ('train', 'test')}

  def _generate_examples(
    self, part: str, paths: dict[str, pathlib.Path]
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    found = pixels.images_of(paths[f'{part}_images'], paths[f'{part}_labels'])
    yield 0, {'images': found.x, 'labels': found.y.astype(np.uint8)}


def _builder(folder: pathlib.Path, **kwargs: Any) -> Mnist:
  return Mnist(data_dir=folder, file_format='array_record', **kwargs)
