"""Where examples come from: arrays, lists of sequences, or anything that has [i].

Each can `take` some rows as arrays ready for a model; sequences of unequal length are
padded at their end, with a mask.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from seqjax.types import NO_LABEL, Array, InputError, PyTree

_SAMPLED = 64  # examples of a source that its fingerprint reads
Values = np.ndarray | list[np.ndarray]  # as one array, or sequences of unequal length
# (arrays on the devices, rows [B]) -> x, y and mask of `Source.take`; when jitted
Gather = Callable[[PyTree, Array], tuple[Array, Array, Array | None]]


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

  def weigh(self, rows: np.ndarray) -> np.ndarray:
    """The weights of some rows, float32 [B]."""

  def resident(self) -> tuple[PyTree, Gather] | None:
    """All examples as arrays, for devices; None where they are read one by one."""

  def seen(self) -> tuple[Values, Values]:
    """x and y of all examples; of some, where they are read one by one."""


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

  @functools.cached_property
  def fingerprint(self) -> str:
    arrays = (self._x, self._y, self._weight)
    return _sha256([a for a in arrays if a is not None])

  def take(self, rows: np.ndarray) -> Rows:
    return Rows(self._x[rows], self._y[rows], self.weigh(rows), None)

  def weigh(self, rows: np.ndarray) -> np.ndarray:
    return _weights(self._weight, rows)

  def resident(self) -> tuple[PyTree, Gather]:
    arrays = self._x, self._y
    return arrays, lambda arrays, rows: (arrays[0][rows], arrays[1][rows], None)

  def seen(self) -> tuple[Values, Values]:
    return self._x, self._y


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
    name: str = 'the data',
  ):
    """Takes the examples.

    Args:
      x: Of one dtype and D.
      y: With a label a step it is as long as x[i].
      weight: [N].
      length: Longer sequences keep their last `length` steps.
      longest: T of all batches; default the longest sequence.
      name: Of the data, in messages.
    """
    ragged = not isinstance(y, np.ndarray)
    for i, row in enumerate(x):
      if not len(row):
        raise InputError(f'{name}: sequence {i} is empty; each needs one step at least')
      if ragged and len(y[i]) != len(row):
        raise InputError(
          f'{name}: sequence {i} has {len(row)} steps and {len(y[i])} labels; a label '
          'a step is as long as its sequence'
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

  @functools.cached_property
  def fingerprint(self) -> str:
    weight = [] if self._weight is None else [self._weight]
    return _sha256([self.lengths, *self._x, *self._y, *weight])

  def take(self, rows: np.ndarray) -> Rows:
    x = _padded([self._x[i] for i in rows], self.longest, 0)
    mask = np.arange(self.longest) < self.lengths[rows, None]
    if isinstance(self._y, np.ndarray):
      y = self._y[rows]
    else:
      y = _padded([self._y[i] for i in rows], self.longest, self._no_label)
    return Rows(x, y, self.weigh(rows), mask)

  def weigh(self, rows: np.ndarray) -> np.ndarray:
    return _weights(self._weight, rows)

  @property
  def _no_label(self) -> float:
    return NO_LABEL if np.issubdtype(self._y[0].dtype, np.integer) else np.nan

  def resident(self) -> tuple[PyTree, Gather]:
    """One after the other, without padding."""
    T, labels_steps = self.longest, not isinstance(self._y, np.ndarray)
    number, kept = int(self.lengths.sum()), np.minimum(self.lengths, T)
    check_countable(number, T, 'steps')
    starts = (np.cumsum(self.lengths) - kept).astype(np.int32)
    y = np.concatenate(self._y) if labels_steps else self._y
    arrays = np.concatenate(self._x), y, starts, kept.astype(np.int32)
    no_label = self._no_label if labels_steps else 0

    def gather(arrays: PyTree, rows: Array) -> tuple[Array, Array, Array]:
      x, y, starts, lengths = arrays
      steps = np.arange(T, dtype=np.int32)[None]
      mask = steps < lengths[rows][:, None]  # [B, T]
      places = (starts[rows][:, None] + steps) * mask + number * ~mask
      x = x.at[places].get(mode='fill', fill_value=0)
      if labels_steps:
        return x, y.at[places].get(mode='fill', fill_value=no_label), mask
      return x, y[rows], mask

    return arrays, gather

  def seen(self) -> tuple[Values, Values]:
    return self._x, self._y


def check_countable(number: int, length: int, what: str) -> None:
  """Raises InputError where int32 does not reach `length` beyond so many places."""
  if number > np.iinfo(np.int32).max - length:
    raise InputError(f'`resident`: {number:,} {what} are more than int32 can count')


class Indexed:
  """Anything with `len` and [i], read when a batch needs it and encoded example by one.

  Its fingerprint is of the number of examples and of some of them: not every change of
  the data is noticed. With a `length` all batches have that many steps, and a mask.
  """

  lengths: np.ndarray | None = None
  labels: np.ndarray | None = None

  def __init__(
    self,
    source: Any,
    encode: Callable[[Any], tuple] | None,
    length: int | None,
    name: str,
  ):
    self._source, self._encode, self._name = source, encode, name
    self._length = length
    if not len(source):
      raise InputError(f'{name}: there is no example')

  def __len__(self) -> int:
    return len(self._source)

  @functools.cached_property
  def fingerprint(self) -> str:
    taken = self.take(self._sampled)
    return _sha256([np.array(len(self)), *(a for a in taken if a is not None)])

  @property
  def _sampled(self) -> np.ndarray:
    rows = np.linspace(0, len(self) - 1, min(_SAMPLED, len(self)))
    return np.unique(rows.astype(int))

  @functools.cached_property
  def _some(self) -> tuple[Values, Values]:
    return self._read(self._sampled)[:2]

  @functools.cached_property
  def _labels_steps(self) -> bool:
    """Whether y is as long as x, in all that the fingerprint reads."""
    return all(
      np.ndim(y) and len(x) == len(y) for x, y in zip(*self._some, strict=True)
    )

  def weigh(self, rows: np.ndarray) -> np.ndarray:
    return self.take(rows).weight

  def resident(self) -> None:
    return None

  def seen(self) -> tuple[Values, Values]:
    return self._some

  def take(self, rows: np.ndarray) -> Rows:
    """Raises InputError, which names an example that cannot be encoded."""
    x, y, weight = self._read(rows)
    every = np.arange(len(rows))
    if self._length and np.ndim(x[0]):
      y = list(y) if self._labels_steps else y
      T = self._length
      made = Sequences(list(x), y, weight, length=T, longest=T, name=self._name)
      return made.take(every)
    if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
      return Arrays(x, y, weight).take(every)
    raise InputError(
      f'{self._name}: sequences of unequal length that are read one by one need '
      '`length`'
    )

  def _read(self, rows: np.ndarray) -> tuple[Values, Values, np.ndarray | None]:
    examples: list[tuple] = []
    for i in rows.tolist():
      example = self._source[i]
      if self._encode is not None:
        try:
          example = self._encode(example)
        except Exception as error:
          raise InputError(
            f'{self._name}: `encode` fails for example {i}: '
            f'{type(error).__name__}: {error}'
          ) from error
      sizes = {len(examples[0])} if examples else {2, 3}
      if not isinstance(example, tuple) or len(example) not in sizes:
        raise InputError(
          f'{self._name}: example {i} must be (x, y[, weight]), got '
          f'{type(example).__name__}; give `encode`, which makes one of it'
        )
      examples.append(example)
    return _parts(tuple(zip(*examples, strict=True)), self._name)


def make_source(
  data: Any,
  *,
  encode: Callable[[Any], tuple] | None = None,
  length: int | None = None,
  name: str = 'the data',
) -> Source:
  """What a user hands over, as a source.

  Args:
    data: (x, y) or (x, y, weight) of arrays or of lists, which are as they are; or
      anything else with len and [i].
    encode: Makes (x, y[, weight]) of one example of such a thing.
    length: Longer sequences are cut to their last steps, labels y [N, T, ...] too.
    name: Of the data, in messages.

  Raises:
    InputError: It is none of these, or x, y and weight do not fit.
  """
  whole = isinstance(length, int | np.integer) and not isinstance(length, bool)
  if length is not None and not (whole and length >= 1):
    raise InputError(f'`length` must be a whole number from 1, or None, got {length}')
  if not isinstance(data, tuple) or (encode and len(data) not in (2, 3)):
    indexed = hasattr(data, '__len__') and hasattr(data, '__getitem__')
    pair = isinstance(data, list) and encode is None and len(data) in (2, 3)
    pair = pair and not all(isinstance(part, tuple) for part in data)
    if pair or not indexed or isinstance(data, np.ndarray | Mapping):
      raise InputError(
        f'{name} must be a tuple (x, y) or (x, y, weight), or have len() and [i] from '
        f'0; got {type(data).__name__}'
      )
    return Indexed(data, encode, length, name)
  if len(data) not in (2, 3):
    raise InputError(f'{name} must be (x, y) or (x, y, weight), got {len(data)} parts')
  x, y, weight = _parts(data, name)
  if weight is not None and not weight.any():
    raise InputError(f'{name}: all weights are 0')
  if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
    if length and x.ndim > 1:
      y = y[:, -length:] if y.shape[:2] == x.shape[:2] else y
      x = x[:, -length:]
    return Arrays(x, y, weight)
  if isinstance(x, np.ndarray):
    raise InputError(f'{name}: y has sequences of unequal length, and x has not')
  return Sequences(x, y, weight, length=length, name=name)


def check_within(values: Values, low: float, high: float, name: str, why: str) -> None:
  """Raises InputError, which names the first value outside [low, high], and why."""
  for i, row in enumerate([values] if isinstance(values, np.ndarray) else values):
    outside = (row < low) | (row > high)
    if outside.any():
      index = np.argwhere(outside)[0].tolist()
      value = row[tuple(index)]
      index = index if isinstance(values, np.ndarray) else [i, *index]
      raise InputError(f'{name}{index} is {value:g}: {why}')


def _parts(data: tuple, name: str) -> tuple[Values, Values, np.ndarray | None]:
  """x, y and weight, of which there are as many."""
  x, y = as_rows(data[0], f'{name}: x'), as_rows(data[1], f'{name}: y')
  weight = None if len(data) == 2 else np.asarray(data[2], np.float32)
  counts = {'x': len(x), 'y': len(y)} | ({} if weight is None else {'w': len(weight)})
  if len(set(counts.values())) > 1 or not len(x):
    raise InputError(f'{name} must be as many in each part, at least one; got {counts}')
  if weight is not None and (
    weight.shape != (len(x),) or not (np.isfinite(weight) & (weight >= 0)).all()
  ):
    raise InputError(f'{name}: weights must be [N], finite and not below 0')
  return x, y, weight


def as_rows(values: Any, name: str) -> Values:
  """Values as one array, or sequences of unequal length as a list of arrays.

  Whole numbers become int32 and others float32.

  Raises:
    InputError: Something is no finite number, or a sequence is unlike the first.
  """
  if isinstance(values, list | tuple):
    rows = [_array(row, f'{name}[{i}]') for i, row in enumerate(values)]
    if len({row.shape for row in rows}) > 1:
      kinds = [(row.ndim, row.shape[1:]) for row in rows]
      if len(set(kinds)) > 1:
        odd = next(i for i, kind in enumerate(kinds) if kind != kinds[0])
        raise InputError(
          f'{name}[{odd}] is {rows[odd].shape} where {name}[0] is {rows[0].shape}: '
          'sequences may differ in their first axis alone'
        )
      whole = all(np.issubdtype(row.dtype, np.integer) for row in rows)
      return [_number(r, f'{name}[{i}]', whole) for i, r in enumerate(rows)]
  return _number(_array(values, name), name, None)


def _array(values: Any, name: str) -> np.ndarray:
  try:
    return np.asarray(values)
  except ValueError as error:  # lists in it that are not as long
    raise InputError(f'{name} is no array of numbers: {error}') from error


def _number(array: np.ndarray, name: str, whole: bool | None) -> np.ndarray:
  kind = array.dtype.kind
  if kind not in 'biuf':
    raise InputError(
      f'{name} must hold numbers, got {array.dtype}; make ids of words first, as '
      'seqjax.text does'
    )
  if kind == 'f' or whole is False:
    with np.errstate(over='ignore'):
      array = array.astype(np.float32, copy=False)
    if not np.isfinite(array).all():
      index = np.argwhere(~np.isfinite(array))[0].tolist()
      raise InputError(f'{name}{index or ""} holds {array[tuple(index)]}')
    return array
  if array.size and (array.max() > 2**31 - 1 or array.min() < -(2**31)):
    raise InputError(f'{name} holds {array.max()}: whole numbers must fit in 32 bits')
  return array.astype(np.int32, copy=False)


def _weights(weight: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
  return np.ones(len(rows), np.float32) if weight is None else weight[rows]


def _padded(rows: list[np.ndarray], length: int, fill: float) -> np.ndarray:
  """[B, T, ...], filled up at the end; the last steps of longer ones."""
  made = np.full((len(rows), length, *rows[0].shape[1:]), fill, rows[0].dtype)
  for out, row in zip(made, rows, strict=True):
    out[: len(row)] = row[-length:]
  return made


def _sha256(arrays: Sequence[np.ndarray]) -> str:
  digest = hashlib.sha256()
  for array in arrays:
    array = np.asarray(array)
    digest.update(f'{array.dtype.str}{array.shape}'.encode())
    digest.update(np.ascontiguousarray(array).data)
  return digest.hexdigest()
