"""Words and characters as ids: the tokenizer of the chapter, equal to Keras's.

A text is lower-cased, every filter character becomes a space, and the text is split
on spaces (and on nothing else: a carriage return or a no-break space stays inside its
word, as it does in Keras). Words get ids from 1 by falling frequency, ties by first
appearance; 0 is padding. Checked against keras.src.legacy.preprocessing.text.
"""

from __future__ import annotations

import collections
import functools
import itertools
import json
import operator
import os
import pathlib
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from seqjax.files import strangers, texts, whole
from seqjax.text.documents import Mode, document_matrix
from seqjax.types import InputError

FILTERS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'

# A text, or its words when somebody else has split it already.
Text: TypeAlias = str | Sequence[str]

_FORMAT, _VERSION = 'seqjax.text.Tokenizer', 1


def split_words(text: str, *, filters: str = FILTERS, lower: bool = True) -> list[str]:
  """Splits a text into words: 'The cat sat.' -> ['the', 'cat', 'sat'].

  Args:
    text: Any string.
    filters: Characters that separate words, beside the space.
    lower: Lower-cases first.

  Returns:
    The words in order, never an empty one.

  Example:
    >>> text.split_words("Don't stop. Never!")
    ["don't", 'stop', 'never']
  """
  if lower:
    text = text.lower()
  if filters.isascii():
    # On bytes this is six times as fast as str.translate, and no byte of a longer
    # UTF-8 character is below 128. Lone surrogates have to survive the way.
    raw = text.encode('utf-8', 'surrogatepass').translate(_byte_table(filters))
    text = raw.decode('utf-8', 'surrogatepass')
  else:
    text = text.translate({ord(character): ' ' for character in filters})
  return list(filter(None, text.split(' ')))


class Tokenizer:
  """Turns texts into lists of ids, and back.

  Example:
    >>> tokenizer = text.Tokenizer(num_words=4).fit(['the cat sat', 'the cat ran'])
    >>> dict(tokenizer.word_index)
    {'the': 1, 'cat': 2, 'sat': 3, 'ran': 4}
    >>> tokenizer.encode(['the cat ran'])  # the 3 most frequent words alone
    [[1, 2]]
  """

  def __init__(
    self,
    num_words: int | None = None,
    oov_token: str | None = None,
    *,
    filters: str = FILTERS,
    lower: bool = True,
    char_level: bool = False,
  ):
    """Makes a tokenizer that knows no word yet.

    Args:
      num_words: Keeps the ids below this number: with 10,000 the 9,999 most frequent
        words, or 9,998 and the out-of-vocabulary token. None keeps all.
      oov_token: Takes id 1 and stands for every word that is not kept; a word of the
        texts that is spelled like it is that token. None: such words are dropped.
      filters: Characters that separate words. Not used with `char_level`.
      lower: Lower-cases every text.
      char_level: Tokens are characters, spaces and filter characters included.
    """
    self._oov_token = oov_token
    self.filters = filters
    self.lower = lower
    self.char_level = char_level
    self._word_counts: dict[str, int] = {}
    self._word_docs: dict[str, int] = {}
    self._word_index: dict[str, int] = {}
    self._document_count = 0
    self._kept: dict[str, int] = {}
    self._words: list[str] = []  # word of id i at [i - 1]
    self.num_words = num_words

  @property
  def num_words(self) -> int | None:
    """Ids are below this number; assigned, it counts for all that follows."""
    return self._num_words

  @num_words.setter
  def num_words(self, num_words: int | None) -> None:
    smallest = 1 if self.oov_token is None else 2
    if num_words is not None and operator.index(num_words) < smallest:
      raise ValueError(f'num_words must be None or >= {smallest}, got {num_words}')
    self._num_words = None if num_words is None else operator.index(num_words)
    self._rank()

  @property
  def oov_token(self) -> str | None:
    """Stands for every word that is not kept; None: such words are dropped."""
    return self._oov_token

  @property
  def document_count(self) -> int:
    """How many texts were fitted."""
    return self._document_count

  @property
  def word_counts(self) -> Mapping[str, int]:
    """How often each word occurred, in order of first appearance; read-only."""
    return types.MappingProxyType(self._word_counts)

  @property
  def word_docs(self) -> Mapping[str, int]:
    """In how many texts each word occurred; read-only."""
    return types.MappingProxyType(self._word_docs)

  @property
  def word_index(self) -> Mapping[str, int]:
    """Word -> id for all words seen, in the order of their ids; read-only.

    The out-of-vocabulary token comes first if there is one. `num_words` does not
    shorten it.
    """
    return types.MappingProxyType(self._word_index)

  def fit(self, texts: Iterable[Text]) -> Tokenizer:
    """Counts the words of texts and hands out ids.

    A further call adds to the counts of the earlier ones, as in Keras.

    Args:
      texts: Strings, or lists of words where the split is already done. (Words of
        such lists are lower-cased, and not filtered.)

    Returns:
      This tokenizer.
    """
    counts = collections.Counter(self.word_counts)
    docs = collections.Counter(self.word_docs)
    document_count = self.document_count
    for words in self._split_all(texts):
      counts.update(words)
      docs.update(set(words))
      document_count += 1
    # Only now: a bad text half way leaves the tokenizer as it was.
    self._word_counts = dict(counts)
    self._word_docs = {word: docs[word] for word in counts}  # a set has no order
    self._document_count = document_count
    self._rank()
    return self

  def encode(self, texts: Iterable[Text]) -> list[list[int]]:
    """Turns each text into the ids of its kept words, in order."""
    if not self.document_count:
      raise ValueError('encode needs a fitted Tokenizer')
    get = self._kept.get
    if self.oov_token is not None:
      return [[get(word, 1) for word in words] for words in self._split_all(texts)]
    return [list(filter(None, map(get, words))) for words in self._split_all(texts)]

  def decode(self, sequences: Iterable[Iterable[int]]) -> list[str]:
    """Turns each sequence of ids into a text, words joined by one space.

    Characters are joined by nothing. Id 0 is padding and leaves no trace (Keras writes
    its out-of-vocabulary token there); an id without a kept word becomes the
    out-of-vocabulary token, or is left out when there is none.
    """
    limit = self.num_ids
    texts = []
    for ids in sequences:
      words = [
        self._words[i - 1] if 0 < i < limit else self.oov_token for i in ids if i != 0
      ]
      joint = '' if self.char_level else ' '
      texts.append(joint.join(word for word in words if word is not None))
    return texts

  def unknown_words(self, text: Text) -> dict[str, int]:
    """Counts the words that `encode` drops or replaces, in order of appearance."""
    words = next(self._split_all([text]))
    return dict(collections.Counter(w for w in words if w not in self._kept))

  @property
  def num_ids(self) -> int:
    """One more than the largest id that `encode` may return; rows of an embedding."""
    size = len(self.word_index) + 1
    return size if self.num_words is None else min(size, self.num_words)

  def to_matrix(
    self,
    texts: Iterable[Text],
    mode: Mode = 'binary',
    *,
    dtype: npt.DTypeLike = np.float64,
  ) -> np.ndarray:
    """Document matrix of texts, by the document frequencies of the fitted texts.

    Args:
      texts: N texts; their unkept words count for nothing.
      mode: 'binary', 'count', 'freq' or 'tfidf': see `document_matrix`.
      dtype: Of the result.

    Returns:
      [N, columns], columns being `num_words`, or one more than the number of words
      when that is None. Column i belongs to id i, so column 0 is empty.
    """
    sequences = self.encode(texts)
    columns = self.num_words or self.num_ids
    docs = np.zeros(columns)
    for word, i in itertools.islice(self.word_index.items(), columns - 1):
      docs[i] = self.word_docs.get(word, 0)
    return document_matrix(
      sequences, columns, mode, docs=docs, num_docs=self.document_count, dtype=dtype
    )

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes everything as JSON: a whole file, or none."""
    path = pathlib.Path(path)
    words = list(self.word_counts)
    content = {'format': _FORMAT, 'version': _VERSION}
    content |= {name: getattr(self, name) for name in _OPTIONS}
    content |= {'document_count': self.document_count, 'words': words}
    content |= {'counts': [self.word_counts[word] for word in words]}
    content |= {'docs': [self.word_docs[word] for word in words]}
    with whole.replacing(path) as part:
      part.write_text(json.dumps(content), encoding='ascii')

  @classmethod
  def load(cls, path: str | os.PathLike[str]) -> Tokenizer:
    """Reads what `save` wrote, or Keras's `Tokenizer.to_json`.

    Raises:
      InputError: The file is missing, is no such JSON, or contradicts itself.
    """
    try:
      raw = pathlib.Path(path).read_bytes()
      text = texts.decode(raw, 'the file')
      content = _of_keras(json.loads(text))
      _check_content(content)
      tokenizer = cls(**{name: content[name] for name in _OPTIONS})
    except OSError as e:
      raise InputError(f'{path}: cannot be read: {e.strerror}') from e
    except (ValueError, RecursionError) as e:  # InputError is one
      hint = strangers.looks_like(raw)
      raise InputError(f'{path}: expected a saved tokenizer: {e}{hint}') from e
    words, counts, docs = content['words'], content['counts'], content['docs']
    tokenizer._word_counts = dict(zip(words, counts, strict=True))
    tokenizer._word_docs = dict(zip(words, docs, strict=True))
    tokenizer._document_count = content['document_count']
    tokenizer._rank()
    if content.get('word_index', tokenizer.word_index) != tokenizer.word_index:
      raise InputError(
        f'{path}: its "word_index" is not the order of its "word_counts"'
      )
    return tokenizer

  def _rank(self) -> None:
    """Hands out ids from the counts, once there are some."""
    if not self.document_count:
      return
    # The sort is stable with reverse=True too: ties keep their order of appearance.
    words = sorted(self._word_counts, key=self._word_counts.__getitem__, reverse=True)
    if self.oov_token is not None:
      words = [self.oov_token, *(word for word in words if word != self.oov_token)]
    self._words = words
    self._word_index = {word: i for i, word in enumerate(words, start=1)}
    self._kept = dict(itertools.islice(self.word_index.items(), self.num_ids - 1))
    if self.oov_token is not None:
      del self._kept[self.oov_token]

  def _split_all(self, texts: Iterable[Text]) -> Iterator[Sequence[str]]:
    """Yields the tokens of each text; at character level that is the text itself."""
    if isinstance(texts, (str, bytes)):
      raise TypeError(f'texts must be a list of texts, got one {type(texts).__name__}')
    for index, text in enumerate(texts):
      if isinstance(text, str):
        if not self.char_level:
          yield split_words(text, filters=self.filters, lower=self.lower)
        else:
          yield text.lower() if self.lower else text
      elif isinstance(text, (list, tuple)) and all(isinstance(w, str) for w in text):
        yield [word.lower() for word in text] if self.lower else text
      else:
        raise TypeError(
          f'texts[{index}] must be a string or a list of strings, got {text!r:.40}'
        )


@functools.lru_cache(maxsize=16)
def _byte_table(filters: str) -> bytes:
  """Table for bytes.translate that turns each filter character into a space."""
  return bytes.maketrans(filters.encode('ascii'), b' ' * len(filters))


_OPTIONS = {
  'num_words': (int, type(None)),
  'oov_token': (str, type(None)),
  'filters': (str,),
  'lower': (bool,),
  'char_level': (bool,),
}


_OF_HUGGING_FACE = (
  *('added_tokens', 'tokenizer_class', 'pre_tokenizer', 'post_processor'),
  *('unk_token', 'pad_token', 'cls_token', 'bos_token', 'additional_special_tokens'),
)


def _check_content(content: Any) -> None:
  """Raises ValueError with the reason why content is not what `save` writes."""
  if not isinstance(content, dict) or content.get('format') != _FORMAT:
    raise ValueError(f'no JSON object with "format": "{_FORMAT}"{_whose(content)}')
  if content.get('version') != _VERSION:
    raise ValueError(f'version {content.get("version")!r}, this code reads {_VERSION}')
  lists = {'words': (list,), 'counts': (list,), 'docs': (list,)}
  for name, allowed in (_OPTIONS | {'document_count': (int,)} | lists).items():
    if name not in content:
      raise ValueError(f'"{name}" is missing')
    # type() and not isinstance: true is an int to Python.
    if type(content[name]) not in allowed:
      raise ValueError(f'"{name}" is {content[name]!r:.40}')
  words, counts, docs = content['words'], content['counts'], content['docs']
  if not len(words) == len(counts) == len(docs) == len(set(map(str, words))):
    raise ValueError('"words" repeat, or "counts" or "docs" are not as many')
  for word, count, doc in zip(words, counts, docs, strict=True):
    if type(word) is not str or not type(count) is type(doc) is int:
      raise ValueError(f'word {word!r:.40} has count {count!r:.40}, docs {doc!r:.40}')
    if not 1 <= doc <= min(count, content['document_count']):
      raise ValueError(
        f'word {word!r:.40} occurs {count} times in {doc} of '
        f'{content["document_count"]} texts'
      )


def _of_keras(content: Any) -> Any:
  """What `save` would write of a tokenizer of Keras; anything else unchanged."""
  if isinstance(content, str):  # json.dump of what to_json gave: JSON in JSON
    content = json.loads(content)
  if not isinstance(content, dict) or content.get('class_name') != 'Tokenizer':
    return content
  config = content.get('config')
  if not isinstance(config, dict):
    raise ValueError('"config" of a tokenizer of Keras is no JSON object')
  if config.get('split', ' ') != ' ' and not config.get('char_level'):
    raise ValueError(f'splits at {config["split"]!r:.40}; here words end at spaces')
  tables = {}
  for name in ('word_counts', 'word_docs', 'word_index'):
    try:
      tables[name] = json.loads(config[name])
    except (KeyError, TypeError, ValueError):
      tables[name] = None
    if not isinstance(tables[name], dict):
      raise ValueError(f'"{name}" is no JSON object in a string, as Keras writes it')
  counts, docs = tables['word_counts'], tables['word_docs']
  return {
    **{name: config[name] for name in (*_OPTIONS, 'document_count') if name in config},
    **{'format': _FORMAT, 'version': _VERSION, 'word_index': tables['word_index']},
    **{'words': list(counts), 'counts': list(counts.values())},
    'docs': [docs.get(word) for word in counts],
  }


def _whose(content: Any) -> str:
  """What JSON of others looks like; '' if like nothing known."""
  whose = ''
  if isinstance(content, list) and content:
    whose = 'a list of words' if all(type(word) is str for word in content) else ''
  elif not isinstance(content, dict):
    return ''
  elif not content.keys().isdisjoint(_OF_HUGGING_FACE):
    whose = "a tokenizer of Hugging Face's libraries"
  elif isinstance(content.get('class_name'), str):
    whose = f"Keras's {content['class_name']!r:.40}, of which a Tokenizer alone is read"
  elif 'word_counts' in content:
    whose = "the get_config() of Keras's Tokenizer: save its to_json()"
  elif isinstance(content.get('format'), str):
    whose = f'a {content["format"]!r:.60}'
  elif content and all(type(value) is int for value in content.values()):
    whose = 'a table of words and ids'
  elif content and all(name.isdecimal() for name in content):
    whose = 'a table of ids and words'
  return whose and f': it looks like {whose}'
