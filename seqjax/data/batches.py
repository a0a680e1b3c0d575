"""Batches of a data set: a pure function of (seed, step), no iterator to save."""

import copy
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, Self

import numpy as np

from seqjax.data.sources import Arrays, Source, check_countable
from seqjax.types import Array, Batch, Examples, PyTree


class Resident(NamedTuple):
  """Data that stays on every device; batches are then indices into it."""

  arrays: PyTree  # of the host; the feed's fingerprint covers them
  gather: Callable[[PyTree, Batch], Batch]  # (arrays, indices) -> examples, when jitted


# Of batches that are examples themselves.
NOT_RESIDENT = Resident((), lambda arrays, batch: batch)


def resident_of(batches: object) -> Resident:
  """What batches are indices into, which they say by `resident`, or `NOT_RESIDENT`."""
  return getattr(batches, 'resident', None) or NOT_RESIDENT


class Batches(Protocol):
  """What an evaluation runs through."""

  @property
  def fingerprint(self) -> str:
    """SHA-256 of the data."""

  def __iter__(self) -> Iterator[Batch]: ...


class Feed(Protocol):
  """What a training loop is fed from."""

  @property
  def steps_per_epoch(self) -> int:
    """Steps after which every example has been seen once more."""

  @property
  def fingerprint(self) -> str:
    """SHA-256 of the data: a run goes on only with the data it was started with."""

  @property
  def resident(self) -> Resident | None:
    """What its batches, and those to evaluate on, are indices into, if they are."""

  def batch(self, step: int) -> Batch:
    """The batch of this step, the same whenever it is asked for."""

  def with_seed(self, seed: int) -> Self:
    """The same data in the order of another seed."""

  # A feed whose data may lie on the devices has `on_devices` too: see `Shuffled`.


class Shuffled:
  """Every example once an epoch, in an order drawn anew for each epoch.

  The order of epoch e is `default_rng((seed, e)).permutation(N)`. The last, smaller
  batch counts: it is filled up with rows of weight 0.
  """

  resident: Resident | None = None

  def __init__(self, examples: Examples | Source, batch_size: int, seed: int):
    self.source, self._batch_size, self._seed = _source(examples), batch_size, seed
    self._epoch, self._order = -1, np.empty(0, np.int64)

  @property
  def steps_per_epoch(self) -> int:
    return -(-len(self.source) // self._batch_size)

  @property
  def fingerprint(self) -> str:
    return self.source.fingerprint

  @property
  def labels(self) -> np.ndarray | None:
    """[N], where there is one label an example."""
    return self.source.labels

  def with_seed(self, seed: int) -> Self:
    other = copy.copy(self)
    other._seed, other._epoch = seed, -1
    return other

  def batch(self, step: int) -> Batch:
    epoch, index = divmod(step, self.steps_per_epoch)
    if epoch != self._epoch:
      rng = np.random.default_rng((self._seed, epoch))
      self._epoch, self._order = epoch, self._draw_order(rng)
    rows = self._order[index * self._batch_size :][: self._batch_size]
    if self.resident is None:
      return _take(self.source, rows, self._batch_size)
    rows, number = _filled_up(rows, self._batch_size)
    weight = self.source.weigh(rows)
    weight[number:] = 0
    rows = rows.astype(np.int32)
    return Batch(rows, rows, weight)  # type: ignore[arg-type]

  def on_devices(self) -> Self | None:
    """The same batches as rows of what lies on the devices; None if it cannot."""
    resident = self.source.resident()
    if resident is None:
      return None
    arrays, gather = resident

    def examples(arrays: PyTree, batch: Batch) -> Batch:
      x, y, mask = gather(arrays, batch.x)
      return batch._replace(x=x, y=y, mask=mask)

    feed = copy.copy(self)
    feed.resident = Resident(arrays, examples)
    return feed

  def _draw_order(self, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(len(self.source))


class Bucketed(Shuffled):
  """As `Shuffled`, with examples of like length together in a batch.

  A masked recurrent layer then skips most of the padding: a batch costs its longest
  sequence. The shuffled epoch is cut into pools of many batches; each pool is sorted by
  length and cut into batches, and the batches of the epoch are shuffled. The smaller
  the pool, the more the batches differ from epoch to epoch.
  """

  def __init__(
    self,
    examples: Examples | Source,
    lengths: np.ndarray,
    batch_size: int,
    seed: int,
    *,
    pool_batches: int = 50,
  ):
    """Takes the examples and their lengths [N]; `pool_batches` batches make a pool."""
    super().__init__(examples, batch_size, seed)
    if lengths.shape != (len(self.source),) or pool_batches < 1:
      raise ValueError(
        f'Bucketed needs lengths [{len(self.source)}] and pool_batches of at least 1, '
        f'got {lengths.shape} and {pool_batches}'
      )
    self._lengths, self._pool_batches = lengths, pool_batches

  def _draw_order(self, rng: np.random.Generator) -> np.ndarray:
    B, order = self._batch_size, super()._draw_order(rng)
    whole = len(order) // B * B
    # What does not fill a batch comes last, and is of any length.
    order, rest = order[:whole], order[whole:]
    pool = self._pool_batches * B
    for start in range(0, whole, pool):
      part = order[start : start + pool]
      order[start : start + pool] = part[np.argsort(self._lengths[part], kind='stable')]
    batches = rng.permutation(order.reshape(-1, B))
    return np.concatenate([batches.reshape(-1), rest])


class InOrder:
  """Every example once, in the order of the set; can be iterated again and again."""

  def __init__(self, examples: Examples | Source, batch_size: int):
    self.source, self._batch_size = _source(examples), batch_size

  @property
  def fingerprint(self) -> str:
    return self.source.fingerprint

  def __iter__(self) -> Iterator[Batch]:
    N = len(self.source)
    for start in range(0, N, self._batch_size):
      rows = np.arange(start, min(start + self._batch_size, N))
      yield _take(self.source, rows, self._batch_size)


class Drawn:
  """Examples drawn anew at each step: none is seen twice, and none is kept.

  Step s draws from `RandomState([seed, s])`, whose stream NumPy promises for all times.
  """

  resident: Resident | None = None

  def __init__(
    self,
    draw: Callable[[np.random.RandomState, int], Examples],
    batch_size: int,
    seed: int,
    steps_per_epoch: int,
  ):
    """Takes what draws so many examples from a generator."""
    self._draw, self._batch_size, self._seed = draw, batch_size, seed
    self.steps_per_epoch = steps_per_epoch

  @property
  def fingerprint(self) -> str:
    """Of the first step: what is drawn later follows from the same function."""
    return self._source(0).fingerprint

  def with_seed(self, seed: int) -> Self:
    other = copy.copy(self)
    other._seed = seed
    return other

  def batch(self, step: int) -> Batch:
    B = self._batch_size
    return _take(self._source(step), np.arange(B), B)

  def _source(self, step: int) -> Source:
    rng = np.random.RandomState([self._seed, step])
    return _source(self._draw(rng, self._batch_size))


class Streams:
  """A long text as B streams side by side, read T tokens a step.

  Stream b holds the b-th part of the text; y is x one token later. A row of a batch
  goes on where that of the batch before ended, and `reset` marks where a stream begins
  again, once an epoch. The order is the text's: it needs no seed. What is left at the
  end of the last streams is masked and has the label -1; a row weighs the share of its
  T labels that there are.

  As `Feed` for training, and as `Batches` to evaluate on.
  """

  resident: Resident | None = None

  def __init__(self, tokens: np.ndarray, batch_size: int, length: int):
    """Takes ids int [n], n > 1, B and T."""
    if tokens.ndim != 1 or len(tokens) < 2 or min(batch_size, length) < 1:
      raise ValueError(
        f'Streams needs ids [n] with n > 1, and sizes of at least 1; got '
        f'{list(tokens.shape)}, {batch_size} and {length}'
      )
    n, B, T = len(tokens) - 1, batch_size, length
    self._tokens, self._length = tokens.astype(np.int32), T
    size = -(-n // B)  # of a stream, the last ones being shorter
    self.steps_per_epoch = -(-size // T)
    starts = np.arange(B)[:, None] * size
    self._starts, self._ends = starts, np.minimum(starts + size, n)

  @property
  def fingerprint(self) -> str:
    return Arrays(self._tokens[:-1], self._tokens[1:]).fingerprint

  def with_seed(self, seed: int) -> Self:
    del seed
    return self

  def batch(self, step: int) -> Batch:
    index = step % self.steps_per_epoch
    T = self._length
    places = self._starts + index * T + np.arange(T)  # [B, T]
    real = places < self._ends
    weight = real.mean(1, dtype=np.float32)
    if self.resident is not None:
      first, ends = places[:, 0].astype(np.int32), self._ends[:, 0].astype(np.int32)
      reset = np.full(len(first), index == 0)
      return Batch(first, ends, weight, reset=reset)  # type: ignore[arg-type]
    places = np.minimum(places, len(self._tokens) - 2)
    x = np.where(real, self._tokens[places], 0)
    y = np.where(real, self._tokens[places + 1], -1)
    reset = np.zeros(x.shape, bool)
    reset[:, 0] = index == 0
    return Batch(x, y, weight, real, reset)  # type: ignore[arg-type]

  def on_devices(self) -> Self:
    """The same batches as first places, and ends, in the text on the devices."""
    T, number = self._length, len(self._tokens)
    check_countable(number, T, 'tokens')

    def examples(tokens: Array, batch: Batch) -> Batch:
      assert batch.reset is not None
      steps = np.arange(T, dtype=np.int32)[None]
      places = batch.x[:, None] + steps
      real = places < batch.y[:, None]
      places = places * real + number * ~real
      x = tokens.at[places].get(mode='fill', fill_value=0)
      y = tokens.at[places + 1].get(mode='fill', fill_value=-1)
      reset = batch.reset[:, None] & (steps == 0)
      return batch._replace(x=x, y=y, mask=real, reset=reset)

    feed = copy.copy(self)
    feed.resident = Resident(self._tokens, examples)
    return feed

  def __iter__(self) -> Iterator[Batch]:
    return map(self.batch, range(self.steps_per_epoch))


def _source(examples: Examples | Source) -> Source:
  return Arrays(*examples) if isinstance(examples, Examples) else examples


def _take(source: Source, rows: np.ndarray, batch_size: int) -> Batch:
  """The batch of these rows, filled up to `batch_size` with row 0 at weight 0."""
  rows, number = _filled_up(rows, batch_size)
  x, y, weight, mask = source.take(rows)
  weight[number:] = 0
  return Batch(x, y, weight, mask)  # type: ignore[arg-type]


def _filled_up(rows: np.ndarray, batch_size: int) -> tuple[np.ndarray, int]:
  """Rows [B], filled up with row 0, and how many there were."""
  if len(rows) == batch_size:
    return rows, batch_size
  filler = np.zeros(batch_size - len(rows), rows.dtype)
  return np.concatenate([rows, filler]), len(rows)
