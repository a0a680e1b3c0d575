"""Texts with a label each: from a table, files of a split, or a folder per class."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from seqjax.data.texts.tables import KINDS, Row, read_table, read_text
from seqjax.files.litter import inside
from seqjax.types import InputError

# What the parts of a split are called, in files and folders.
NAMES = {
  'train': ('train', 'training'),
  'validation': ('validation', 'valid', 'val', 'dev'),
  'test': ('test',),
}


class Labelled(NamedTuple):
  """N texts, each with the name of its class and where it was read."""

  texts: list[str]
  labels: list[str]
  locations: list[str]

  def rows(self, chosen: Sequence[int]) -> Labelled:
    """Those of these numbers."""
    return Labelled(*([column[i] for i in chosen] for column in self))


class Splits(NamedTuple):
  """What is trained, chosen and tested on."""

  train: Labelled
  validation: Labelled
  test: Labelled


def load(
  data: str,
  *,
  text_column: str = 'text',
  label_column: str = 'label',
  validation_split: float = 0.1,
  test_split: float = 0.1,
  seed: int = 0,
) -> Splits:
  """Reads texts of a user's own.

  Args:
    data: A table (.csv, .tsv, .jsonl); or a folder that holds tables train.csv and
      maybe validation.csv and test.csv, or folders of these names, or a folder for each
      class. A class's folder holds a text in each .txt file.
    text_column: Column of a table that holds the texts.
    label_column: That of the labels.
    validation_split: Share of each class that is held out where there is no such part.
    test_split: Likewise.
    seed: Of that draw.

  Raises:
    InputError: A row or file is broken (names file and line), a class is empty, there
      is one class only, or a label is not in the training part.
  """
  path = pathlib.Path(data)
  if not data or not path.exists():
    raise InputError(f'`data={data}`: there is no such file or folder')
  columns = text_column, label_column
  if not path.is_dir():
    if path.suffix.lower() not in KINDS:
      raise InputError(
        f'`data={data}`: expected one of {", ".join(KINDS)}, or a folder'
      )
    parts = {'train': of_rows(read_table(path, columns))}
  else:
    parts = _parts(path, columns) or {'train': _classes(path)}
  check_several(parts['train'])
  splits = split(parts, validation_split, test_split, seed)
  check_known(splits)
  return splits


def split(
  parts: Mapping[str, Labelled],
  validation_split: float,
  test_split: float,
  seed: int,
  *,
  what: str = 'texts',
) -> Splits:
  """What is missing of validation and test is drawn from 'train', class by class.

  Of each class its share, rounded, but never the last text: a class of one text is
  trained on alone. `what` they are is for messages.

  Raises:
    InputError: Nothing would be held out.
  """
  where = 'file' if what == 'texts' else 'part'
  shares = {'test': test_split, 'validation': validation_split}
  shares = {name: share for name, share in shares.items() if name not in parts}
  splits, train = dict(parts), parts['train']
  taken: dict[str, list[int]] = {name: [] for name in shares}
  kept: list[int] = []
  # NumPy promises RandomState's stream for all times; Generator's may change.
  rng = np.random.RandomState(seed)
  labels = np.array(train.labels)
  for name in classes_of(train):
    rows = rng.permutation(np.flatnonzero(labels == name)).tolist()
    n = len(rows)
    for part, share in shares.items():
      count = min(round(n * share), len(rows) - 1)
      taken[part] += rows[:count]
      rows = rows[count:]
    kept += rows
  for part, rows in taken.items():
    if not rows:
      raise InputError(
        f'`{part}_split={shares[part]}` of {len(labels)} {what} leaves none for '
        f'{part}: give a larger share, more {what}, or a {part} {where}'
      )
    splits[part] = train.rows(sorted(rows))
  splits['train'] = train.rows(sorted(kept))
  return Splits(**splits)


def classes_of(part: Labelled) -> list[str]:
  """The names of its classes, in order of the alphabet."""
  return sorted(set(part.labels))


def check_several(train: Labelled) -> None:
  """Raises InputError where there is one class only."""
  classes = classes_of(train)
  if len(classes) < 2:
    raise InputError(
      f'there is only the class {classes[0]!r}: at least two are needed '
      f'({train.locations[0]} and {len(train.texts) - 1} others)'
    )


def check_known(splits: Splits) -> None:
  """Raises InputError for a label that is not trained on."""
  classes = classes_of(splits.train)
  known = set(classes)
  for name in ('validation', 'test'):
    part = getattr(splits, name)
    for label, location in zip(part.labels, part.locations, strict=True):
      if label not in known:
        raise InputError(
          f'{location}: the label {label!r} of the {name} set is not in the training '
          f'set, which has {", ".join(classes[:20])}'
        )


def of_rows(rows: Sequence[Row]) -> Labelled:
  """Rows of two columns: the text, and its label."""
  texts, labels = zip(*(row.values for row in rows), strict=True)
  locations = [row.location for row in rows]
  return Labelled(list(texts), [label.strip() for label in labels], locations)


def _parts(folder: pathlib.Path, columns: tuple[str, str]) -> dict[str, Labelled]:
  """The parts of a folder that has them as tables or folders; {} if it has not."""
  parts: dict[str, Labelled] = {}
  held = inside(folder)
  for part, names in NAMES.items():
    here = [
      path
      for path in held
      if (path.name if path.is_dir() else path.stem).lower() in names
      and (path.is_dir() or path.suffix.lower() in KINDS)
    ]
    if len(here) > 1:
      raise InputError(f'{folder} has {" and ".join(p.name for p in here)} for {part}')
    for path in here:
      is_table = not path.is_dir()
      parts[part] = of_rows(read_table(path, columns)) if is_table else _classes(path)
  if parts and 'train' not in parts:
    # A class may be called 'test': then there are others beside it.
    if len(held) > 2 and all(path.is_dir() for path in held):
      return {}
    raise InputError(f'{folder} has {", ".join(parts)} and nothing called train')
  return parts


def _classes(folder: pathlib.Path) -> Labelled:
  """A folder for each class, in it a text in each .txt file."""
  texts, labels, locations = [], [], []
  folders = [path for path in inside(folder) if path.is_dir()]
  if not folders:
    raise InputError(
      f'{folder} holds no folder of a class, and no train{", train".join(KINDS)}'
    )
  for path in folders:
    files = [file for file in inside(path) if file.suffix.lower() == '.txt']
    if not files:
      raise InputError(f'the class {path.name!r} is empty: {path} holds no .txt file')
    for file in files:
      text = read_text(file)
      if not text.strip():
        raise InputError(f'{file} is empty')
      texts.append(text)
      labels.append(path.name)
      locations.append(str(file))
  return Labelled(texts, labels, locations)
