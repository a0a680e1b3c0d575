"""Known collections of texts, from a folder of the user's: each its own layout."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from seqjax.data.texts.labelled import Splits, of_rows, split
from seqjax.data.texts.tables import Row, read_lines, read_table
from seqjax.files import packed, strangers, texts
from seqjax.files.litter import inside
from seqjax.types import InputError

_MAX_BYTES = 2**30  # of an unpacked file


class Tagged(NamedTuple):
  """N sentences: their words, a tag for each, and maybe a class of the whole."""

  words: list[list[str]]
  tags: list[list[str]]
  classes: list[str] | None = None


class Pairs(NamedTuple):
  """N pairs of texts, and how like they are: from 1, not at all, to 5."""

  pairs: list[tuple[str, str]]
  scores: list[float]


class Parallel(NamedTuple):
  """N texts and what becomes of each."""

  sources: list[str]
  targets: list[str]


def r8(data_dir: str, validation_split: float, seed: int = 0) -> Splits:
  """Reuters' newswire, the eight most frequent topics: r8/train.txt and test.txt.

  A line is `label TAB text`. Validation is drawn from the training texts.
  """
  folder = _folder(data_dir, 'r8', ('train.txt', 'test.txt'))
  parts = {}
  for name in ('train', 'test'):
    header = ('label', 'text')
    rows = read_table(folder / f'{name}.txt', ('text', 'label'), header=header)
    parts[name] = of_rows(rows)
  return split(parts, validation_split, 0.0, seed)


def names(
  data_dir: str, validation_split: float, test_split: float, seed: int = 0
) -> Splits:
  """Surnames of 18 languages: names/LANGUAGE.txt, a name a line; a drawn split."""
  folder = _folder(data_dir, 'names', ())
  rows = []
  for path in inside(folder):
    if path.suffix != '.txt':
      continue
    for number, name in enumerate(read_lines(path), 1):
      if name.strip():
        location = f'{path}, line {number}'
        rows.append(Row((name.strip(), path.stem), location))
  if not rows:
    raise InputError(f'{folder} holds no name: expected LANGUAGE.txt, a name a line')
  return split({'train': of_rows(rows)}, validation_split, test_split, seed)


def ud_partut(data_dir: str) -> dict[str, Tagged]:
  """English ParTUT of Universal Dependencies: words and their universal tags.

  Files ud_partut/en_partut-ud-{train,dev,test}.conllu.
  """
  files = {'train': 'train', 'validation': 'dev', 'test': 'test'}
  paths = {k: f'en_partut-ud-{v}.conllu' for k, v in files.items()}
  folder = _folder(data_dir, 'ud_partut', tuple(paths.values()))
  return {name: read_conllu(folder / path) for name, path in paths.items()}


def read_conllu(path: pathlib.Path) -> Tagged:
  """Words (column 2) and universal parts of speech (column 4) of a CoNLL-U file.

  Words with a range or a decimal as number, such as '8-9' for a contraction, are the
  text's and not the tree's: they are left out.

  Raises:
    InputError: A line has not ten columns or no number: names file and line.
  """
  words: list[list[str]] = [[]]
  tags: list[list[str]] = [[]]
  for number, line in enumerate(read_lines(path), 1):
    if not line.strip():
      words.append([])
      tags.append([])
    elif not line.startswith('#'):
      fields = line.split('\t')
      if len(fields) != 10 or not fields[0][:1].isdigit():
        raise InputError(
          f'{path}, line {number}: expected ten columns of CoNLL-U, got {line!r:.60}'
        )
      if fields[0].isdigit():
        words[-1].append(fields[1])
        tags[-1].append(fields[3])
  sentences = [(w, t) for w, t in zip(words, tags, strict=True) if w]
  if not sentences:
    raise InputError(f'{path} holds no sentence')
  return Tagged(*map(list, zip(*sentences, strict=True)))


def snips(data_dir: str) -> dict[str, Tagged]:
  """Spoken commands, their slots and intents.

  snips/{train,dev,test}/{seq.in,seq.out,label}, a command a line in each.
  """
  parts = {'train': 'train', 'validation': 'dev', 'test': 'test'}
  files = [f'{p}/{f}' for p in parts.values() for f in ('seq.in', 'seq.out', 'label')]
  folder = _folder(data_dir, 'snips', files)
  return {name: _commands(folder / part) for name, part in parts.items()}


def _commands(folder: pathlib.Path) -> Tagged:
  words, tags, classes = (
    [line.split() for line in read_lines(folder / name)]
    for name in ('seq.in', 'seq.out', 'label')
  )
  if not len(words) == len(tags) == len(classes):
    raise InputError(
      f'{folder}: seq.in, seq.out and label must have as many lines, got {len(words)}, '
      f'{len(tags)} and {len(classes)}'
    )
  for number, row in enumerate(zip(words, tags, classes, strict=True), 1):
    if len(row[0]) != len(row[1]) or not row[0] or len(row[2]) != 1:
      raise InputError(
        f'{folder}/seq.in, line {number} has {len(row[0])} words, seq.out '
        f'{len(row[1])} slots and label {len(row[2])} intents: expected as many slots '
        'as words, and one intent'
      )
  return Tagged(words, tags, [row[0] for row in classes])


def sick(data_dir: str) -> dict[str, Pairs]:
  """Pairs of sentences with their relatedness, 1 to 5: tables sick/SICK_*.txt."""
  files = {
    'train': 'SICK_train.txt',
    'validation': 'SICK_trial.txt',
    'test': 'SICK_test_annotated.txt',
  }
  folder = _folder(data_dir, 'sick', tuple(files.values()))
  return {name: _pairs(folder / file) for name, file in files.items()}


def _pairs(path: pathlib.Path) -> Pairs:
  columns = 'sentence_A', 'sentence_B', 'relatedness_score'
  pairs, scores = [], []
  for (a, b, score), location in read_table(path, columns):
    try:
      value = float(score)
    except ValueError:
      value = 0.0
    if not 1 <= value <= 5:
      raise InputError(f'{location}: relatedness_score must be 1 to 5, got {score!r}')
    pairs.append((a, b))
    scores.append(value)
  return Pairs(pairs, scores)


def multi30k(
  data_dir: str, source: str = 'de', target: str = 'en'
) -> dict[str, Parallel]:
  """Captions of pictures in two languages: multi30k/{train,val,test_2016_flickr}.LL.gz.

  A caption a line, raw. Source: Elliott et al. 2016, arXiv:1605.00459.

  Raises:
    InputError: A file is missing or damaged, a line is empty, or two files have not as
      many lines.
  """
  parts = {'train': 'train', 'validation': 'val', 'test': 'test_2016_flickr'}
  names = {
    part: tuple(f'{name}.{language}.gz' for language in (source, target))
    for part, name in parts.items()
  }
  files = [name for pair in names.values() for name in pair]
  folder = _folder(data_dir, 'multi30k', files)
  return {part: _aligned(folder, *pair) for part, pair in names.items()}


def _aligned(folder: pathlib.Path, source: str, target: str) -> Parallel:
  both = Parallel(_lines(folder / source), _lines(folder / target))
  if len(both.sources) != len(both.targets):
    raise InputError(
      f'{folder}: {source} and {target} must have as many lines, got '
      f'{len(both.sources)} and {len(both.targets)}'
    )
  return both


def _lines(path: pathlib.Path) -> list[str]:
  if not (start := strangers.head(path)).startswith(b'\x1f\x8b'):
    raise InputError(f'{path}: no gzip file{strangers.looks_like(start)}')
  raw = packed.read(path, _MAX_BYTES)
  lines = texts.decode(raw, str(path)).removesuffix('\n').split('\n')
  for number, line in enumerate(lines, 1):
    if not line.strip():
      raise InputError(f'{path}, line {number} is empty: expected a caption')
  return [line.strip() for line in lines]


def _folder(data_dir: str, name: str, files: Sequence[str]) -> pathlib.Path:
  """DATA_DIR/NAME, or DATA_DIR where that holds the files itself."""
  if not data_dir:
    raise InputError(
      f'`data_dir` must name the folder that holds {name or " and ".join(files)}'
    )
  for folder in (pathlib.Path(data_dir, name), pathlib.Path(data_dir)):
    if folder.is_dir() and all((folder / file).is_file() for file in files):
      return folder
  expected = ', '.join(files) or f'a folder {name}'
  raise InputError(f'`data_dir={data_dir}`: expected {expected} in {name or "it"}')
