"""The IMDB reviews as a tensorflow-datasets builder that needs no TensorFlow.

tensorflow-datasets takes a second to import: imdb.py imports this file only when there
is something to prepare.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

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
  builder = ImdbReviews(folder, read=read, source=source)
  builders.prepare(builder, folder, download_dir)


def load(folder: pathlib.Path) -> dict[str, list[Review]]:
  """Reads what `prepare` wrote, in the same order."""
  sources = ImdbReviews(folder).as_data_source()
  return {
    split: [
      Review(row['name'].decode(), row['text'].decode(), int(row['label']))
      for row in source.__getitems__(range(len(source)))
    ]
    for split, source in sources.items()
  }


class ImdbReviews(builders.Builder):
  """Reviews with names and labels; reviews.shuffle shuffles, and states its seed."""

  description = '50,000 film reviews, positive or negative (Maas et al. 2011).'
  homepage = 'https://ai.stanford.edu/~amaas/data/sentiment/'
  features: ClassVar = {
    'name': tfds.features.Text(),
    'text': tfds.features.Text(),
    'label': tfds.features.ClassLabel(names=['neg', 'pos']),
  }

  def _generate_examples(
    self, reviews: Sequence[Review]
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    for key, review in enumerate(reviews):
      yield key, review._asdict()
