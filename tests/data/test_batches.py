"""Feeds are pure functions of (seed, step) that lose and repeat no example."""

import jax
import numpy as np
import pytest

from seqjax.cluster import mesh as mesh_lib
from seqjax.data import sources
from seqjax.data.batches import Bucketed, Drawn, InOrder, Shuffled, Streams
from seqjax.data.sources import Arrays, Indexed, Sequences
from seqjax.training import programs
from seqjax.types import Examples, InputError


def _examples(N):
  x = np.arange(N * 3, dtype=np.int32).reshape(N, 3)
  return Examples(x, np.arange(N, dtype=np.float32))


@pytest.mark.parametrize(('N', 'B'), [(10, 4), (8, 4), (3, 7)])
def test_an_epoch_has_every_example_once_with_weight_one(N, B):
  feed = Shuffled(_examples(N), B, seed=5)
  assert feed.steps_per_epoch == -(-N // B)
  for epoch in range(3):
    steps = range(epoch * feed.steps_per_epoch, (epoch + 1) * feed.steps_per_epoch)
    batches = [feed.batch(step) for step in steps]
    assert all(batch.x.shape == (B, 3) for batch in batches)
    seen = np.concatenate([batch.y[batch.weight == 1] for batch in batches])
    assert sorted(seen) == list(range(N))
    assert sum(batch.weight.sum() for batch in batches) == N


def test_order_follows_from_seed_and_epoch_alone():
  feed, again = (Shuffled(_examples(50), 8, seed=5) for _ in range(2))
  forwards = [feed.batch(step).y for step in range(20)]
  backwards = [again.batch(step).y for step in reversed(range(20))][::-1]
  np.testing.assert_array_equal(forwards, backwards)
  order = np.random.default_rng((5, 1)).permutation(50)
  np.testing.assert_array_equal(feed.batch(7).y, order[:8])
  assert (Shuffled(_examples(50), 8, seed=6).batch(0).y != forwards[0]).any()
  assert (feed.batch(0).y != feed.batch(7).y).any()


def test_x_and_y_stay_together():
  batch = Shuffled(_examples(50), 8, seed=5).batch(3)
  np.testing.assert_array_equal(batch.x[:, 0], batch.y * 3)


def test_in_order_is_exact_and_repeatable():
  batches = InOrder(_examples(10), 4)
  for _ in range(2):
    found = list(batches)
    assert [batch.weight.tolist() for batch in found] == [
      [1] * 4,
      [1] * 4,
      [1, 1, 0, 0],
    ]
    seen = np.concatenate([batch.y[batch.weight == 1] for batch in found])
    np.testing.assert_array_equal(seen, np.arange(10))


def test_fingerprint_tells_data_apart():
  examples = _examples(10)
  known = Shuffled(examples, 4, seed=0).fingerprint
  assert Shuffled(examples, 5, seed=1).fingerprint == known
  other = Examples(examples.x.copy(), examples.y)
  other.x[7, 2] += 1
  assert Shuffled(other, 4, seed=0).fingerprint != known
  reshaped = Examples(examples.x.reshape(10, 1, 3), examples.y)
  assert Shuffled(reshaped, 4, seed=0).fingerprint != known


def test_the_fingerprint_is_taken_once_for_all_seeds(monkeypatch):
  taken, sha256 = [], sources._sha256
  monkeypatch.setattr(sources, '_sha256', lambda a: taken.append(1) or sha256(a))
  feed = Shuffled(_examples(10), 4, seed=0)
  assert len({feed.with_seed(seed).fingerprint for seed in range(3)}) == 1
  assert len(taken) == 1


def test_unequal_or_empty_sets_are_refused():
  x, y = _examples(4)
  with pytest.raises(ValueError, match='as many'):
    Shuffled(Examples(x, y[:3]), 2, 0)
  with pytest.raises(ValueError, match='at least one'):
    InOrder(Examples(x[:0], y[:0]), 2)


def _bucketed(N=1003, B=8, seed=5, **options):
  lengths = np.random.default_rng(1).integers(1, 100, N)
  return Bucketed(_examples(N), lengths, B, seed, **options), lengths


def test_bucketed_epochs_are_exact_and_follow_from_the_seed():
  (feed, _), (again, _) = _bucketed(), _bucketed()
  steps = feed.steps_per_epoch
  for epoch in range(2):
    batches = [feed.batch(epoch * steps + step) for step in range(steps)]
    seen = np.concatenate([batch.y[batch.weight == 1] for batch in batches])
    assert sorted(seen) == list(range(1003))
  np.testing.assert_array_equal(again.batch(7).y, feed.batch(7).y)
  assert (feed.batch(7).y != feed.batch(7 + steps).y).any()
  assert (_bucketed(seed=6)[0].batch(7).y != feed.batch(7).y).any()


def test_bucketed_batches_are_of_like_length_and_come_in_any_order():
  feed, lengths = _bucketed(pool_batches=25)
  batches = [feed.batch(step).y.astype(int) for step in range(feed.steps_per_epoch - 1)]
  spread = np.mean([np.ptp(lengths[rows]) for rows in batches])
  plain = Shuffled(_examples(1003), 8, 5)
  random = np.mean([np.ptp(lengths[plain.batch(s).y.astype(int)]) for s in range(125)])
  assert spread < 0.1 * random
  means = np.array([lengths[rows].mean() for rows in batches])
  assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


def test_bucketed_refuses_lengths_that_do_not_fit():
  with pytest.raises(ValueError, match=r'lengths \[4\]'):
    Bucketed(_examples(4), np.ones(3), 2, 0)


@pytest.mark.parametrize(
  ('n', 'B', 'T'), [(25, 3, 4), (23, 3, 4), (26, 4, 5), (3, 4, 2)]
)
def test_streams_read_every_token_once_and_in_order(n, B, T):
  tokens = np.random.default_rng(0).integers(1, 99, n)
  feed = Streams(tokens, B, T)
  batches = [feed.batch(step) for step in range(feed.steps_per_epoch)]
  rows = [np.concatenate([batch.x[b] for batch in batches]) for b in range(B)]
  labels = [np.concatenate([batch.y[b] for batch in batches]) for b in range(B)]
  real = [np.concatenate([batch.mask[b] for batch in batches]) for b in range(B)]
  read = np.concatenate([x[m] for x, m in zip(rows, real, strict=True)])
  np.testing.assert_array_equal(read, tokens[:-1])
  said = np.concatenate([y[m] for y, m in zip(labels, real, strict=True)])
  np.testing.assert_array_equal(said, tokens[1:])
  assert all((y[~m] == -1).all() for y, m in zip(labels, real, strict=True))
  weights = np.concatenate([batch.weight for batch in batches])
  assert weights.sum() * T == pytest.approx(n - 1)
  for epoch in range(2):
    for step, batch in enumerate(feed):
      same = feed.batch(epoch * feed.steps_per_epoch + step)
      np.testing.assert_array_equal(same.x, batch.x)
      assert same.reset[:, 0].all() == (step == 0)
      assert not same.reset[:, 1:].any()


def test_what_is_drawn_follows_from_seed_and_step():
  def draw(rng, number):
    return Examples(rng.random_sample((number, 3)), rng.random_sample(number))

  feed, again, other = (Drawn(draw, 4, seed, 10) for seed in (0, 0, 1))
  drawn = [feed.batch(step) for step in (0, 1, 10, 1)]
  assert drawn[0].x.shape == (4, 3)
  np.testing.assert_array_equal(drawn[0].weight, np.ones(4))
  np.testing.assert_array_equal(drawn[1].x, drawn[3].x)
  np.testing.assert_array_equal(again.batch(10).y, drawn[2].y)
  values = np.concatenate([b.x.ravel() for b in (*drawn[:3], other.batch(0))])
  assert len(np.unique(values)) == len(values)  # a second epoch is none of repetitions
  assert feed.fingerprint == again.fingerprint != other.fingerprint


def _lists(dtype, labels_steps=False):
  """11 sequences of 1 to 6 steps, with weights."""
  rng = np.random.default_rng(0)
  x = [rng.integers(1, 9, n).astype(dtype) for n in rng.integers(1, 7, 11)]
  y = rng.random(11).astype(np.float32)
  if labels_steps:
    y = [rng.integers(1, 9, len(row)).astype(dtype) for row in x]
  return x, y, rng.random(11).astype(np.float32)


_FEEDS = {
  'arrays': lambda: Shuffled(_examples(10), 4, seed=5),
  'weights': lambda: Shuffled(
    Arrays(*_examples(10), np.linspace(0, 1, 10, dtype=np.float32)), 4, seed=5
  ),
  'sequences': lambda: Bucketed(
    Sequences(*_lists(np.int32)), Sequences(*_lists(np.int32)).lengths, 4, 0
  ),
  'their last steps': lambda: Shuffled(
    Sequences(*_lists(np.float32), longest=3), 4, seed=5
  ),
  'whole labels a step': lambda: Shuffled(
    Sequences(*_lists(np.int32, True), length=4, longest=5), 4, seed=5
  ),
  'labels a step': lambda: Shuffled(Sequences(*_lists(np.float32, True)), 4, seed=5),
  'streams': lambda: Streams(np.random.default_rng(0).integers(1, 99, 23), 3, 4),
}


@pytest.mark.parametrize('name', _FEEDS)
def test_what_lies_on_devices_gives_the_batches_bit_for_bit(name):
  feed, fed = _FEEDS[name]().on_devices(), _FEEDS[name]()
  arrays, gather = jax.device_put(feed.resident.arrays), jax.jit(feed.resident.gather)
  assert feed.steps_per_epoch == fed.steps_per_epoch
  assert feed.fingerprint == fed.fingerprint
  for step in range(2 * fed.steps_per_epoch):
    rows = feed.batch(step)
    assert rows.x.ndim == rows.y.ndim == 1
    found, wanted = gather(arrays, rows), fed.batch(step)
    for a, b in zip(found, wanted, strict=True):
      assert (a is None) == (b is None)
      if b is not None:
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_sequences_lie_there_without_padding_and_what_is_read_one_by_one_does_not():
  x, y, _ = _lists(np.int32)
  arrays = Shuffled(Sequences(x, y, longest=500), 4, 0).on_devices().resident.arrays
  assert sum(a.nbytes for a in arrays) == 4 * sum(map(len, x)) + 3 * 4 * 11
  source = Indexed(list(zip(x, y, strict=True)), None, 3, 'train')
  assert Shuffled(source, 4, 0).on_devices() is None


def test_more_than_int32_counts_is_fed_unless_it_shall_lie_there(monkeypatch):
  feed, mesh = Streams(np.arange(50), 2, 3), mesh_lib.make_mesh(1, 2)
  feed._tokens = np.broadcast_to(np.int32(0), (2**31,))
  monkeypatch.setattr(mesh_lib, 'is_cpu', lambda mesh: False)
  assert programs.resident_feed(feed, None, mesh) is feed
  with pytest.raises(InputError, match='2,147,483,648 tokens'):
    programs.resident_feed(feed, True, mesh)
