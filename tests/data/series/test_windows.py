"""Windows against a loop in plain Python; counts; leaks; memory."""

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.data.series import book_windows, quality, windows
from seqjax.data.series.batches import RandomWindows, WindowsInOrder
from seqjax.data.series.series import Series
from seqjax.data.series.windows import WindowSet
from seqjax.types import Batch, InputError


def _faulty(N=90, D=3, seed=0):
  """A series with two gaps, two repeated rows and some out of order."""
  rng = np.random.default_rng(seed)
  minutes = np.delete(10 * np.arange(N + 6), [20, 21, 55, 56, 57, 58])
  minutes = np.insert(minutes, [33, 70], [minutes[33], minutes[70]])
  minutes[[40, 41]] = minutes[[41, 40]]
  times = np.datetime64('2020-01-01T00:00:00') + np.timedelta64(1, 'm') * minutes
  values = rng.normal(size=(len(times), D)).astype(np.float32)
  return Series(times, values, tuple('abc'[:D]))


def _naive(series, start, stop, lookback, step, delay, target):
  """All windows of rows start ... stop - 1 of a clean series, by looking at times."""
  found = []
  ten = np.timedelta64(10, 'm')
  for last in range(start, stop):
    x = []
    for k in range(lookback // step):
      row = last - step * (lookback // step - 1 - k)
      if not (
        start <= row and series.times[last] - series.times[row] == ten * (last - row)
      ):
        break
      x.append(series.values[row])
    else:
      ahead = last + delay
      if ahead < stop and series.times[ahead] - series.times[last] == ten * delay:
        found.append((np.array(x), series.values[ahead, target]))
  return found


@pytest.mark.parametrize(
  ('lookback', 'step', 'delay', 'batch_size'),
  [(12, 3, 4, 8), (7, 1, 1, 3), (13, 4, 9, 16), (5, 5, 2, 7), (1, 1, 6, 4)],
)
def test_windows_are_those_of_a_plain_loop(lookback, step, delay, batch_size):
  clean = quality.clean(_faulty(), 'f')
  assert clean.report.gaps == 2
  assert clean.report.repeated == 2
  values, target = clean.series.values, 1
  shape = windows.sampled(lookback, step, delay)
  take = jax.jit(windows.gather(shape, target))
  for start, stop in ((0, 50), (50, 88), (10, 90)):
    expected = _naive(clean.series, start, stop, lookback, step, delay, target)
    rows = windows.anchors(clean.segments, start, stop, shape)
    assert len(rows) == len(expected) > 0
    chosen = WindowSet(values, target, shape, rows)
    x, y = windows.take(values, target, shape, rows)
    np.testing.assert_array_equal(x, [pair[0] for pair in expected])
    np.testing.assert_array_equal(y, [pair[1] for pair in expected])
    on_device = [take(values, batch) for batch in WindowsInOrder(chosen, batch_size)]
    weight = np.concatenate([batch.weight for batch in on_device])
    assert weight.sum() == len(expected)  # each once
    for known, name in ((x, 'x'), (y, 'y')):
      found = np.concatenate([getattr(batch, name) for batch in on_device])
      np.testing.assert_array_equal(found[weight > 0], known)


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('batch_size', [4, 64])
def test_random_windows_are_windows_and_follow_from_seed_and_step(seed, batch_size):
  clean = quality.clean(_faulty(), 'f')
  shape = windows.sampled(6, 2, 3)
  rows = windows.anchors(clean.segments, 0, 50, shape)
  chosen = WindowSet(clean.series.values, 0, shape, rows)
  feed = RandomWindows(chosen, batch_size, seed, 7)
  assert feed.steps_per_epoch == 7
  seen = set()
  for step in (0, 1, 2, 9):
    batch = feed.batch(step)
    again = RandomWindows(chosen, batch_size, seed, 7).batch(step)
    np.testing.assert_array_equal(batch.x, again.x)
    np.testing.assert_array_equal(batch.y, batch.x + 3)
    assert set(batch.x) <= set(rows)
    assert batch.weight.all()
    if batch_size < len(rows):
      assert len(set(batch.x)) == batch_size
    seen.add(tuple(batch.x))
  assert len(seen) == 4
  assert tuple(RandomWindows(chosen, batch_size, seed + 1, 7).batch(0).x) not in seen


@pytest.mark.parametrize(
  ('n', 'lookback', 'step', 'delay'), [(500, 48, 6, 24), (321, 10, 3, 1)]
)
def test_the_count_of_a_split_is_the_closed_formula(n, lookback, step, delay):
  shape = windows.sampled(lookback, step, delay)
  segments = np.zeros(2000, np.int32)
  span = (lookback // step - 1) * step + delay
  assert len(windows.anchors(segments, 700, 700 + n, shape)) == n - span
  # Each piece between two gaps is on its own.
  segments[900:] = 1
  counts = [max(0, part - span) for part in (200, n - 200)]
  assert len(windows.anchors(segments, 700, 700 + n, shape)) == sum(counts)
  crossing = windows.anchors(segments, 700, 700 + n, shape, across_gaps=True)
  assert len(crossing) == n - span
  assert len(windows.anchors(segments, 700, 700 + span, shape)) == 0


def test_the_chapter_s_window():
  shape = windows.sampled(1440, 6, 144)
  assert len(shape.offsets) == 240
  assert shape.offsets[:2] == (-1434, -1428)
  assert shape.offsets[-2:] == (-6, 0)
  rows = windows.anchors(np.zeros(200_000, np.int32), 0, 200_000, shape)
  assert (rows[0], rows[-1]) == (1434, 199_855)


def test_a_marker_in_the_next_split_is_never_seen():
  values = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
  shape = windows.sampled(12, 3, 5)
  segments = np.zeros(300, np.int32)
  borders = ((0, 100), (100, 200), (200, 300))
  for start, stop in borders:
    marked = np.full_like(values, 1e6)
    marked[start:stop] = values[start:stop]
    rows = windows.anchors(segments, start, stop, shape)
    batch = Batch(rows, rows + shape.ahead, np.ones(len(rows)))
    found = jax.jit(windows.gather(shape, 1))(marked, batch)
    assert jnp.abs(found.x).max() < 1e3
    assert jnp.abs(found.y).max() < 1e3
    # The test would see one: the first row before and the last after are used if asked.
    for wrong in (rows - 1, rows + 1):
      found = windows.gather(shape, 1)(
        jnp.pad(marked, ((1, 1), (0, 0)), constant_values=1e6),
        batch._replace(x=wrong + 1, y=wrong + 1 + shape.ahead),
      )
      assert max(jnp.abs(found.x).max(), jnp.abs(found.y).max()) == 1e6


def test_a_row_that_is_not_there_is_nan_on_the_device_and_an_error_before():
  values = np.ones((20, 2), np.float32)
  shape = windows.sampled(4, 2, 3)
  outside = Batch(np.array([1, 5, 20, 5]), np.array([4, 8, 5, -1]), None)
  found = jax.jit(windows.gather(shape, 0))(values, outside)
  assert jnp.isnan(found.x).any(axis=(1, 2)).tolist() == [True, False, True, False]
  assert jnp.isnan(found.y).tolist() == [False, False, False, True]
  for row in (1, 17):
    with pytest.raises(ValueError, match='do not lie in a series'):
      WindowSet(values, 0, shape, np.array([row]))
    with pytest.raises(IndexError):
      windows.take(values, 0, shape, np.array([row]))


def test_fingerprints_tell_series_and_windows_apart():
  values = np.ones((30, 2), np.float32)
  shape = windows.sampled(4, 2, 3)
  known = WindowSet(values, 0, shape, np.arange(5, 20)).fingerprint
  assert WindowSet(values, 0, shape, np.arange(5, 20)).fingerprint == known
  other = values.copy()
  other[3, 1] = 2
  assert WindowSet(other, 0, shape, np.arange(5, 20)).fingerprint != known
  assert WindowSet(values, 1, shape, np.arange(5, 20)).fingerprint != known
  assert WindowSet(values, 0, shape, np.arange(5, 19)).fingerprint != known
  longer = windows.sampled(4, 2, 4)
  assert WindowSet(values, 0, longer, np.arange(5, 20)).fingerprint != known


def test_memory_is_the_series_not_the_windows():
  """One million rows, lookback 1440: beside the series less than as much again."""
  values = np.ones((1_000_000, 14), np.float32)
  shape = windows.sampled(1440, 6, 144)
  tracemalloc.start()
  rows = windows.anchors(np.zeros(len(values), np.int32), 0, len(values), shape)
  chosen = WindowSet(values, 1, shape, rows)
  batch = RandomWindows(chosen, 128, 0, 500).batch(3)
  for _ in WindowsInOrder(chosen, 128):
    pass
  assert chosen.fingerprint
  host = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert host < values.nbytes
  program = jax.jit(windows.gather(shape, 1)).lower(values, batch).compile()
  memory = program.memory_analysis()
  used = memory.argument_size_in_bytes + memory.temp_size_in_bytes
  assert used + memory.output_size_in_bytes < 1.1 * values.nbytes


@pytest.mark.parametrize('sizes', [(5, 6, 1), (6, 0, 1), (6, 6, 0)])
def test_sizes_that_do_not_do(sizes):
  with pytest.raises(InputError, match='`lookback='):
    windows.sampled(*sizes)


def _book_generator(min_index, max_index, lookback, batch_size):
  """The rows of the chapter's unshuffled generator, as its R code says it, from 1."""
  i = min_index + lookback
  while True:
    if i + batch_size >= max_index:
      i = min_index + lookback
    rows = list(range(i, min(i + batch_size, max_index) + 1))
    i += len(rows)
    yield rows


@pytest.mark.parametrize(
  ('start', 'stop', 'lookback', 'B'), [(200, 300, 14, 8), (0, 97, 6, 16)]
)
def test_book_evaluation_is_the_chapter_s_generator(start, stop, lookback, B):
  expected = []
  generator = _book_generator(start + 1, stop, lookback, B)
  for _ in range(int((stop - (start + 1) - lookback) / B)):
    expected += next(generator)
  found = book_windows.evaluation_rows(start, stop, lookback, B)
  np.testing.assert_array_equal(found + 1, expected)


def test_book_evaluation_of_the_published_numbers_repeats_and_leaves_out():
  rows = book_windows.evaluation_rows(200_000, 300_000, 1440, 128)
  assert len(rows) == 769 * 129
  counts = np.unique(rows, return_counts=True)
  assert (counts[1] == 2).sum() == 5 * 129
  assert counts[0][-1] == 299_995
  assert len(book_windows.training_rows(0, 200_000, 1440)) == 198_560


def test_book_windows_sample_unevenly():
  shape = book_windows.shape(1440, 6, 144)
  assert len(shape.offsets) == 240
  assert (shape.offsets[0], shape.offsets[-1], shape.ahead) == (-1440, -1, 144)
  steps = np.diff(shape.offsets)
  assert sorted(set(steps)) == [6, 7]
  assert (steps == 7).sum() == 5


def test_several_targets_and_horizons_are_those_of_a_plain_loop():
  values = np.random.default_rng(1).normal(size=(60, 4)).astype(np.float32)
  shape = windows.sampled(6, 2, 7)  # the furthest horizon is the delay
  targets = windows.Targets((3, 0), (1, 4, 7))
  rows = windows.anchors(np.zeros(60, np.int32), 10, 50, shape)
  expected = [[[values[row + h, c] for c in (3, 0)] for h in (1, 4, 7)] for row in rows]
  x, y = windows.take(values, targets, shape, rows)
  np.testing.assert_array_equal(y, expected)
  chosen = WindowSet(values, targets, shape, rows)
  gather = jax.jit(chosen.resident.gather)
  found = [gather(values, batch) for batch in WindowsInOrder(chosen, 8)]
  np.testing.assert_array_equal(np.concatenate([b.x for b in found])[: len(rows)], x)
  np.testing.assert_array_equal(np.concatenate([b.y for b in found])[: len(rows)], y)
  one = WindowSet(values, 3, shape, rows)
  assert chosen.fingerprint != one.fingerprint
  late = WindowSet(values, windows.Targets((3, 0), (1, 5, 7)), shape, rows)
  assert chosen.fingerprint != late.fingerprint
  for wrong in (
    windows.Targets((4,), (1,)),
    windows.Targets((-1, 0), (1,)),
    windows.Targets((), (1,)),
    windows.Targets((0,), (60,)),
  ):
    with pytest.raises(ValueError, match='do not lie in a series'):
      WindowSet(values, wrong, shape, rows)


def test_a_horizon_that_is_not_there_is_nan_on_the_device():
  values = jnp.ones((20, 2))
  shape = windows.sampled(2, 1, 3)
  gather = windows.gather(shape, windows.Targets((0, 1), (1, 3)))
  batch = Batch(np.int32([16, 17]), np.int32([19, 20]), np.ones(2, np.float32))
  np.testing.assert_array_equal(
    np.isnan(gather(values, batch).y), [[[0, 0], [0, 0]], [[0, 0], [1, 1]]]
  )
