"""From texts to ids: what a run leaves of it, and what is said of unknown words."""

import itertools
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from seqjax.files import whole
from seqjax.text import Tokenizer, embedding_matrix, load_vectors, split_words
from seqjax.types import InputError

# Files in a workdir.
VOCABULARY_FILE, LABELS_FILE = FILES = 'vocabulary.json', 'labels.json'
OOV = '\N{REPLACEMENT CHARACTER}'  # no text holds it but one that was damaged
_SHOWN = 5  # unknown words


def fit(
  texts: Iterable[Any], vocab_size: int | None = None, *, by: str, min_count: int = 1
) -> Tokenizer:
  """A tokenizer of `by` 'words' or 'characters': 0 is padding, 1 is what it drops.

  Args:
    texts: Strings, or lists of words that are split already.
    vocab_size: Ids are below it; None: as many as there are words.
    by: 'words', lower-cased and without punctuation; or 'characters', as they are.
    min_count: Rarer words are dropped: so the id of unknown words is trained too.
  """
  char_level = by == 'characters'
  tokenizer = Tokenizer(vocab_size, OOV, char_level=char_level, lower=not char_level)
  drop_rare(tokenizer.fit(texts), min_count)
  return tokenizer


def drop_rare(tokenizer: Tokenizer, min_count: int) -> None:
  """Keeps no word that occurs less often."""
  frequent = sum(count >= min_count for count in tokenizer.word_counts.values())
  tokenizer.num_words = min(tokenizer.num_ids, frequent + 2)


def spelled(tokenizer: Tokenizer, ids: Iterable[int]) -> str:
  """The tokens of ids, one after the other with nothing between them."""
  words = list(itertools.islice(tokenizer.word_index, tokenizer.num_ids - 1))
  return ''.join(words[i - 1] if 0 < i <= len(words) else OOV for i in ids)


def encode(tokenizer: Tokenizer, texts: Iterable[Any]) -> list[np.ndarray]:
  """Ids of each text, int32 [T_i]; one without a word is one unknown word."""
  return [np.array(ids or [1], np.int32) for ids in tokenizer.encode(texts)]


def words_of(tokenizer: Tokenizer, text: str) -> list[str]:
  """The words, or characters, that `encode` makes ids of."""
  if tokenizer.char_level:
    return list(text)
  return split_words(text, filters=tokenizer.filters, lower=tokenizer.lower)


def files(tokenizer: Tokenizer, labels: Any = None) -> dict[str, Callable]:
  """What a run leaves in its workdir, for `train.run`."""
  writers: dict[str, Callable] = {VOCABULARY_FILE: tokenizer.save}
  if labels is not None:
    content = json.dumps(labels, ensure_ascii=False, indent=0).encode() + b'\n'
    writers[LABELS_FILE] = lambda path: whole.write(path, content)
  return writers


def read(folder: pathlib.Path) -> tuple[Tokenizer, Any]:
  """What `files` wrote: the tokenizer, and the labels where there are any.

  Raises:
    InputError: The files are missing or damaged.
  """
  tokenizer = Tokenizer.load(folder / VOCABULARY_FILE)
  path = folder / LABELS_FILE
  if not path.exists():
    return tokenizer, None
  try:
    return tokenizer, json.loads(path.read_text(encoding='utf-8'))
  except (OSError, ValueError) as error:
    raise InputError(f'{path}: expected a JSON file of labels: {error}') from error


def num_ids(folder: pathlib.Path) -> tuple[int]:
  """The ids of a run, as the `sizes` of a task."""
  return (read(folder)[0].num_ids,)


def vectors(
  path: str, tokenizer: Tokenizer, embed_size: int
) -> tuple[np.ndarray | None, dict[str, str]]:
  """An embedding [V, E] to start from, of a file of word vectors, and how much it has.

  Without a path there is none. Words that the file lacks start from draws as wide as
  the vectors are; padding is 0.

  Raises:
    InputError: The file is missing, damaged, or of another width.
  """
  if not path:
    return None, {}
  if not pathlib.Path(path).is_file():
    raise InputError(f'`vectors={path}` is no file')
  loaded = load_vectors(pathlib.Path(path), words=tokenizer.word_index)
  if loaded.matrix.shape[1] != embed_size:
    raise InputError(
      f'`embed_size` must be {loaded.matrix.shape[1]}, the width of the vectors in '
      f'{path}, got {embed_size}'
    )
  V = tokenizer.num_ids
  matrix, coverage = embedding_matrix(
    loaded, tokenizer.word_index, V, counts=tokenizer.word_counts
  )
  lacking = np.flatnonzero(~matrix.any(1))[1:]  # but for row 0, of padding
  spread = float(loaded.matrix.std()) if loaded.matrix.size else 0.1
  draws = np.random.RandomState(0).normal(0, spread, (len(lacking), embed_size))
  matrix[lacking] = draws
  return matrix, {'vectors': f'{pathlib.Path(path).name}: {coverage}'}


def known_words(tokenizer: Tokenizer) -> set[str]:
  """Those that have an id of their own."""
  return set(itertools.islice(tokenizer.word_index, tokenizer.num_ids - 1))


def word_facts(words: Sequence[str], known: set[str], unread: int) -> dict[str, Any]:
  """What an answer says of the words of a text."""
  unknown = [word for word in words if word not in known]
  return {
    'words': len(words),
    'unknown': list(dict.fromkeys(unknown)),
    'unread': max(unread, 0),
  }


def words_line(answer: Mapping[str, Any], kind: str = 'words') -> str:
  """The same for a reader."""
  unknown = answer['unknown']
  suffix = ', ...' if len(unknown) > _SHOWN else ''
  names = f' ({", ".join(unknown[:_SHOWN])}{suffix})' if unknown else ''
  line = f'{answer["words"]} {kind}, {len(unknown)} unknown{names}'
  return line + (f', first {answer["unread"]} not read' if answer['unread'] else '')
