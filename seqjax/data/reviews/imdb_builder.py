"""The IMDB reviews as a tensorflow-datasets builder that needs no TensorFlow.

tensorflow-datasets takes a second to import: imdb.py imports this file only when there
is something to prepare.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow_datasets as tfds

from seqjax.data import builders


class Review(NamedTuple):
  """One file of the archive."""

  name: str  # 'aclImdb/train/neg/0_3.txt'
  text: str
  label: int  # 1 for pos


Splits = Mapping[str, Sequence[Review]]


def prepare(
  folder: pathlib.Path,
  read: Callable[[pathlib.Path], Splits],
  source: pathlib.Path | str,
  download_dir: pathlib.Path,
) -> None:
  """Writes the reviews of a source as array records.

  Args:
    folder: Where to.
    read: Turns an archive or a folder into the reviews of each split, in the order
      they are to have.
    source: The archive or folder; or the URL of an archive, which is downloaded and
      verified against the size and SHA-256 in checksums.tsv.
    download_dir: Where downloads are kept.

  Raises:
    InputError: As `read`, or the download failed.
    OSError: `folder` or `download_dir` cannot be written, or their disk is full.
  """
  builder = _builder(folder, read=read, source=source)
  builders.prepare(builder, folder, download_dir)


def load(folder: pathlib.Path) -> dict[str, list[Review]]:
  """Reads what `prepare` wrote, in the same order."""
  sources = _builder(folder).as_data_source()
  return {
    split: [
      Review(row['name'].decode(), row['text'].decode(), int(row['label']))
      for row in source.__getitems__(range(len(source)))
    ]
    for split, source in sources.items()
  }


# Not registered: the name belongs to tensorflow-datasets' own builder.
class ImdbReviews(
  tfds.core.GeneratorBasedBuilder,
  skip_registration=True,  # type: ignore[call-arg]  # to mypy the base is unknown
):
  """Reviews with names and labels, in the order they were read in."""

  VERSION = tfds.core.Version('1.0.0')

  def __init__(
    self,
    *,
    read: Callable[[pathlib.Path], Splits] | None = None,
    source: pathlib.Path | str = '',
    **kwargs: Any,
  ):
    self._read = read
    self._source = source
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    return builders.Info(
      builder=self,
      description='50,000 film reviews, positive or negative (Maas et al. 2011).',
      homepage='https://ai.stanford.edu/~amaas/data/sentiment/',
      features=tfds.features.FeaturesDict(
        {
          'name': tfds.features.Text(),
          'text': tfds.features.Text(),
          'label': tfds.features.ClassLabel(names=['neg', 'pos']),
        }
      ),
      disable_shuffling=True,  # reviews.shuffle does it, and states its seed
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
    path = self._source
    if isinstance(path, str):
      path = builders.download(dl_manager, path)
    assert self._read is not None  # for mypy: only `prepare` comes here
    splits = self._read(path)
    return {name: self._generate_examples(rows) for name, rows in splits.items()}

  def _generate_examples(
    self, reviews: Sequence[Review]
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    for key, review in enumerate(reviews):
      yield key, review._asdict()


def _builder(folder: pathlib.Path, **kwargs: Any) -> ImdbReviews:
  return ImdbReviews(data_dir=folder, file_format='array_record', **kwargs)
