"""Text as vectors without learning: one-hot, bags of n-grams, the hashing trick."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from seqjax.text.padding import Side, pad_sequences
from seqjax.text.tokenizer import Text, Tokenizer, split_words

# Id k of a printable ASCII character is k = its code - 31, so 1..95; 0 is padding.
NUM_CHARACTER_IDS = 96


def one_hot_ids(
  sequences: Sequence[Sequence[int]],
  length: int,
  num_ids: int,
  *,
  padding: Side = 'post',
  truncating: Side = 'post',
  dtype: npt.DTypeLike = np.float32,
) -> np.ndarray:
  """One-hot of ids with a shape that does not depend on the texts.

  Args:
    sequences: N lists of ids in [0, num_ids).
    length: T; longer lists are cut.
    num_ids: V, one more than the largest id.
    padding: Where the steps without an id are: behind, as in the chapter, or 'pre'.
    truncating: Where a longer list is cut.
    dtype: Of the result.

  Returns:
    [N, T, V]. Steps added as padding and steps of id 0 are zero.

  Raises:
    ValueError: An id of the kept part is not in [0, num_ids), or an argument is no
      such number; the message names it.

  Example:
    >>> text.one_hot_ids([[1, 2]], length=3, num_ids=3, dtype=int).tolist()
    [[[0, 1, 0], [0, 0, 1], [0, 0, 0]]]
  """
  ids = pad_sequences(
    sequences, length, padding=padding, truncating=truncating, dtype=np.int64
  )  # [N, T]
  if ids.ndim != 2:
    raise ValueError(f'sequences must be lists of ids, got steps {ids.shape[2:]}')
  outside = np.argwhere((ids < 0) | (ids >= num_ids))
  if len(outside):
    row, step = outside[0]
    raise ValueError(
      f'sequences[{row}] holds id {ids[row, step]}, expected [0, {num_ids})'
    )
  out = np.zeros((*ids.shape, num_ids), dtype)
  rows, steps = np.nonzero(ids)
  out[rows, steps, ids[rows, steps]] = 1
  return out


def one_hot_words(
  texts: Iterable[Text],
  tokenizer: Tokenizer,
  length: int,
  *,
  dtype: npt.DTypeLike = np.float32,
) -> np.ndarray:
  """One-hot of the first words of each text.

  Args:
    texts: N texts. Words that the tokenizer does not keep are dropped or take its
      out-of-vocabulary id before the first `length` of them are taken.
    tokenizer: Fitted.
    length: T.
    dtype: Of the result.

  Returns:
    [N, T, V], V being `num_words`, or one more than the number of words when that is
    None. Column 0 is never set.

  Example:
    >>> texts = ['the cat', 'the dog']
    >>> text.one_hot_words(texts, text.Tokenizer().fit(texts), length=5).shape
    (2, 5, 4)
  """
  V = tokenizer.num_words or tokenizer.num_ids
  return one_hot_ids(tokenizer.encode(texts), length, V, dtype=dtype)


def one_hot_characters(
  texts: Iterable[str], length: int, *, dtype: npt.DTypeLike = np.float32
) -> np.ndarray:
  """One-hot of the first characters of each text: printable ASCII, codes 32 to 126.

  Args:
    texts: N strings.
    length: T.
    dtype: Of the result.

  Returns:
    [N, T, 96]. Column k is the character of code 31 + k; column 0 is never set. Any
    other character keeps its place and is zero.

  Example:
    >>> text.one_hot_characters(['a cat', 'a dog'], length=4).shape
    (2, 4, 96)
  """
  return one_hot_ids(
    [character_ids(text) for text in texts], length, NUM_CHARACTER_IDS, dtype=dtype
  )


def character_ids(text: str) -> list[int]:
  """Ids of the characters of a text: code - 31 of printable ASCII, 0 of all others.

  Example:
    >>> text.character_ids('a cat')
    [66, 1, 68, 66, 85]
  """
  return [ord(c) - 31 if ' ' <= c <= '~' else 0 for c in text]


def ngrams(tokens: Sequence[str], n: int, *, separator: str = ' ') -> set[str]:
  """The bag of n-grams: all groups of 1 to n consecutive tokens, order forgotten.

  Args:
    tokens: Words, or characters with `separator=''`.
    n: Longest group, at least 1.
    separator: Stands between the tokens of a group.

  Returns:
    A set: {'the', 'the cat', 'cat'} for the tokens 'the', 'cat' and n = 2.

  Raises:
    ValueError: A token holds the separator (or, with none, has not one character):
      then two different groups could read alike.

  Example:
    >>> sorted(text.ngrams(['the', 'cat', 'sat'], 2))
    ['cat', 'cat sat', 'sat', 'the', 'the cat']
  """
  if isinstance(tokens, str):
    raise TypeError('tokens must be a list of tokens, got one str; see split_words')
  if n < 1:
    raise ValueError(f'n must be >= 1, got {n}')
  for token in tokens:
    if separator in token if separator else len(token) != 1:
      raise ValueError(f'token {token!r} cannot be joined by separator {separator!r}')
  return {
    separator.join(tokens[start : start + size])
    for size in range(1, n + 1)
    for start in range(len(tokens) - size + 1)
  }


def hash_id(word: str, num_ids: int) -> int:
  """Id of a word without a vocabulary: MD5 as a number, modulo num_ids - 1, plus 1.

  The same on every machine, in every process and Python, unlike `hash`; the same too
  as Keras's `hashing_trick(..., hash_function='md5')`.

  Args:
    word: Hashed as UTF-8.
    num_ids: At least 2. The id lies in [1, num_ids - 1]; 0 stays padding.

  Example:
    >>> text.hash_id('the', num_ids=1000)
    132
  """
  if num_ids < 2:
    raise ValueError(f'num_ids must be >= 2, got {num_ids}')
  raw = word.encode('utf-8', 'surrogatepass')
  digest = hashlib.md5(raw, usedforsecurity=False).digest()
  return int.from_bytes(digest, 'big') % (num_ids - 1) + 1


def hash_words(texts: Iterable[Text], num_ids: int) -> list[list[int]]:
  """The hashing trick: ids of all words of each text, with collisions, unfitted.

  Args:
    texts: Strings, split by `split_words`, or lists of words.
    num_ids: At least 2; one more than the largest id.

  Example:
    >>> text.hash_words(['the cat'], num_ids=1000)
    [[132, 759]]
  """
  ids: dict[str, int] = {}
  sequences = []
  for text in texts:
    words = split_words(text) if isinstance(text, str) else text
    for word in words:
      if word not in ids:
        ids[word] = hash_id(word, num_ids)
    sequences.append([ids[word] for word in words])
  return sequences


class Collisions(NamedTuple):
  """Which share of a vocabulary shares its id with another word of it.

  Example:
    >>> text.Collisions(measured=0.628, expected=0.632).measured
    0.628
  """

  measured: float
  expected: float  # of a uniform hash


def collision_rate(vocabulary: Iterable[str], num_ids: int) -> Collisions:
  """Measures what the hashing trick confuses, and what it should by chance.

  With V different words and m = num_ids - 1 ids, a word is alone on its id with
  probability (1 - 1/m)^(V-1), so the expected share is 1 - (1 - 1/m)^(V-1).

  Args:
    vocabulary: Words; a repeated one counts once.
    num_ids: At least 2.

  Raises:
    ValueError: There is no word.

  Example:
    >>> words = [f'word{n}' for n in range(1000)]
    >>> found = text.collision_rate(words, num_ids=1000)
    >>> round(found.measured, 2), round(found.expected, 2)
    (0.61, 0.63)
  """
  words = set(vocabulary)
  if not words:
    raise ValueError('vocabulary must hold at least one word')
  ids = np.array([hash_id(word, num_ids) for word in words])  # [V]
  _, sizes = np.unique(ids, return_counts=True)
  measured = float(sizes[sizes > 1].sum()) / len(words)
  expected = 1 - (1 - 1 / (num_ids - 1)) ** (len(words) - 1)
  return Collisions(measured, expected)
