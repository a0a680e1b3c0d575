"""Where examples come from: arrays, lists of sequences, or anything that has [i].

Each can `take` some rows as arrays ready for a model; sequences of unequal length are
padded at their end, with a mask.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from seqjax.types import Examples, InputError

_SAMPLED = 64  # examples of a source that its fingerprint reads
_NO_LABEL = -1  # of the steps that pad a sequence of labels: no loss counts them


class Rows(NamedTuple):
  """Some examples."""

  x: np.ndarray  # [B, ...]
  y: np.ndarray  # [B, ...]
  weight: np.ndarray  # [B] float32
  mask: np.ndarray | None  # bool [B, T]


class Source(Protocol):
  """What batches are taken from."""

  def __len__(self) -> int: ...
  def take(self, rows: np.ndarray) -> Rows: ...
  @property
  def fingerprint(self) -> str: ...
  @property
  def lengths(self) -> np.ndarray | None:
    """int [N] of sequences of unequal length."""

  @property
  def labels(self) -> np.ndarray | None:
    """[N], where there is one label an example."""


class Arrays:
  """x [N, ...], y [N, ...] and maybe a weight [N], as they are."""

  lengths: np.ndarray | None = None

  def __init__(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None):
    if len(x) != len(y) or not len(x):
      raise ValueError(f'x {x.shape} and y {y.shape} must be as many, at least one')
    self._x, self._y, self._weight = x, y, weight

  def __len__(self) -> int:
    return len(self._x)

  @property
  def labels(self) -> np.ndarray | None:
    return self._y if self._y.ndim == 1 else None

  @property
  def fingerprint(self) -> str:
    arrays = (self._x, self._y, self._weight)
    return _sha256([a for a in arrays if a is not None])

  def take(self, rows: np.ndarray) -> Rows:
    weight = np.ones(len(rows), np.float32)
    if self._weight is not None:
      weight = self._weight[rows]
    return Rows(self._x[rows], self._y[rows], weight, None)


class Sequences:
  """Sequences of unequal length, x[i] [T_i] or [T_i, D]; y [N, ...] or y[i] [T_i]."""

  def __init__(
    self,
    x: Sequence[np.ndarray],
    y: np.ndarray | Sequence[np.ndarray],
    weight: np.ndarray | None = None,
    *,
    length: int | None = None,
    longest: int | None = None,
  ):
    """Takes the examples.

    Args:
      x: Of one dtype and D.
      y: With a label a step it is as long as x[i].
      weight: [N].
      length: Longer sequences keep their last `length` steps.
      longest: T of all batches; default the longest sequence.
    """
    ragged = not isinstance(y, np.ndarray)
    for i, row in enumerate(x):
      if not len(row):
        raise InputError(f'sequence {i} is empty; each needs one step at least')
      if ragged and len(y[i]) != len(row):
        raise InputError(
          f'sequence {i} has {len(row)} steps and {len(y[i])} labels; a label a step '
          'is as long as its sequence'
        )
    cut = slice(-length, None) if length else slice(None)
    self._x = [row[cut] for row in x]
    self._y = [row[cut] for row in y] if ragged else np.asarray(y)
    self._weight = weight
    self.lengths: np.ndarray = np.array([len(row) for row in self._x])
    self.longest = longest or int(self.lengths.max())

  def __len__(self) -> int:
    return len(self._x)

  @property
  def labels(self) -> np.ndarray | None:
    y = self._y
    return y if isinstance(y, np.ndarray) and y.ndim == 1 else None

  @property
  def fingerprint(self) -> str:
    weight = [] if self._weight is None else [self._weight]
    return _sha256([self.lengths, *self._x, *self._y, *weight])

  def take(self, rows: np.ndarray) -> Rows:
    x = _padded([self._x[i] for i in rows], self.longest, 0)
    mask = np.arange(self.longest) < self.lengths[rows, None]
    if isinstance(self._y, np.ndarray):
      y = self._y[rows]
    else:
      y = _padded([self._y[i] for i in rows], self.longest, _NO_LABEL)
    weight = np.ones(len(rows), np.float32)
    if self._weight is not None:
      weight = self._weight[rows]
    return Rows(x, y, weight, mask)


class Indexed:
  """Anything with `len` and [i], read when a batch needs it and encoded example by one.

  Its fingerprint is of the number of examples and of some of them: not every change of
  the data is noticed.
  """

  lengths: np.ndarray | None = None
  labels: np.ndarray | None = None

  def __init__(
    self, source: Any, encode: Callable[[Any], tuple] | None, length: int | None
  ):
    self._source, self._encode, self._length = source, encode, length
    if not len(source):
      raise InputError('there is no example')

  def __len__(self) -> int:
    return len(self._source)

  @property
  def fingerprint(self) -> str:
    rows = np.linspace(0, len(self) - 1, min(_SAMPLED, len(self))).astype(int)
    taken = self.take(np.unique(rows))
    return _sha256([np.array(len(self)), *(a for a in taken if a is not None)])

  def take(self, rows: np.ndarray) -> Rows:
    """Raises InputError, which names an example that cannot be encoded."""
    examples = []
    for i in rows.tolist():
      example = self._source[i]
      if self._encode is not None:
        try:
          example = self._encode(example)
        except Exception as error:
          raise InputError(
            f'`encode` fails for example {i}: {type(error).__name__}: {error}'
          ) from error
      if not isinstance(example, tuple) or len(example) not in (2, 3):
        raise InputError(
          f'example {i} must be (x, y[, weight]), got {type(example).__name__}; '
          'give `encode`, which makes one of it'
        )
      examples.append(example)
    made = make_source(tuple(zip(*examples, strict=True)), length=self._length)
    if isinstance(made, Sequences):
      if not self._length:
        raise InputError(
          'sequences of unequal length that are read one by one need `length`'
        )
      made.longest = self._length
    return made.take(np.arange(len(rows)))


def make_source(
  data: Any,
  *,
  encode: Callable[[Any], tuple] | None = None,
  length: int | None = None,
  longest: int | None = None,
  name: str = 'the data',
) -> Source:
  """What a user hands over, as a source.

  Args:
    data: (x, y) or (x, y, weight) of arrays or of lists, or anything with len and [i].
    encode: Makes (x, y[, weight]) of one example of such a thing.
    length: Longer sequences are cut to their last steps.
    longest: T of batches of unequal sequences.
    name: Of the data, in messages.

  Raises:
    InputError: It is none of these, or x, y and weight do not fit.
  """
  if isinstance(data, Examples):
    return Arrays(data.x, data.y)
  if not isinstance(data, tuple) or encode is not None:
    indexed = hasattr(data, '__len__') and hasattr(data, '__getitem__')
    if not indexed or isinstance(data, np.ndarray):
      raise InputError(
        f'{name} must be (x, y), (x, y, weight), or have len() and [i]; '
        f'got {type(data).__name__}'
      )
    return Indexed(data, encode, length)
  if len(data) not in (2, 3):
    raise InputError(f'{name} must be (x, y) or (x, y, weight), got {len(data)} parts')
  x, y = as_rows(data[0], f'{name}: x'), as_rows(data[1], f'{name}: y')
  weight = None if len(data) == 2 else np.asarray(data[2], np.float32)
  counts = {'x': len(x), 'y': len(y)} | ({} if weight is None else {'w': len(weight)})
  if len(set(counts.values())) > 1 or not len(x):
    raise InputError(f'{name} must be as many in each part, at least one; got {counts}')
  if weight is not None and (
    weight.shape != (len(x),) or not (np.isfinite(weight) & (weight >= 0)).all()
  ):
    raise InputError(f'{name}: weights must be [N], finite and not below 0')
  if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
    if length and x.ndim > 1:
      x = x[:, -length:]
    return Arrays(x, y, weight)
  if isinstance(x, np.ndarray):
    raise InputError(f'{name}: y has sequences of unequal length, and x has not')
  return Sequences(x, y, weight, length=length, longest=longest)


def as_rows(values: Any, name: str) -> np.ndarray | list[np.ndarray]:
  """Values as one array, or sequences of unequal length as a list of arrays.

  Whole numbers become int32 and others float32.

  Raises:
    InputError: Something in them is no number, or a sequence is unlike the first.
  """
  if isinstance(values, list | tuple):
    rows = [np.asarray(row) for row in values]
    if len({row.shape for row in rows}) > 1:
      kinds = {(row.ndim, row.shape[1:]) for row in rows}
      if len(kinds) > 1 or rows[0].ndim == 0:
        odd = next(i for i, r in enumerate(rows) if r.shape[1:] != rows[0].shape[1:])
        raise InputError(
          f'{name}[{odd}] is {rows[odd].shape} where {name}[0] is {rows[0].shape}: '
          'sequences may differ in their first axis alone'
        )
      whole = all(np.issubdtype(row.dtype, np.integer) for row in rows)
      return [_number(r, f'{name}[{i}]', whole) for i, r in enumerate(rows)]
  return _number(np.asarray(values), name, None)


def _number(array: np.ndarray, name: str, whole: bool | None) -> np.ndarray:
  kind = array.dtype.kind
  if kind not in 'biuf':
    raise InputError(
      f'{name} must hold numbers, got {array.dtype}; make ids of words first, as '
      'seqjax.text does'
    )
  if kind == 'f' or whole is False:
    return array.astype(np.float32, copy=False)
  if array.size and (array.max() > 2**31 - 1 or array.min() < -(2**31)):
    raise InputError(f'{name} holds {array.max()}: whole numbers must fit in 32 bits')
  return array.astype(np.int32, copy=False)


def _padded(rows: list[np.ndarray], length: int, fill: float) -> np.ndarray:
  """[B, T, ...], filled up at the end; the last steps of longer ones."""
  made = np.full((len(rows), length, *rows[0].shape[1:]), fill, rows[0].dtype)
  for out, row in zip(made, rows, strict=True):
    out[: len(row)] = row[-length:]
  return made


def _sha256(arrays: Sequence[np.ndarray]) -> str:
  found = hashlib.sha256()
  for array in arrays:
    array = np.asarray(array)
    found.update(f'{array.dtype.str}{array.shape}'.encode())
    found.update(np.ascontiguousarray(array).data)
  return found.hexdigest()
