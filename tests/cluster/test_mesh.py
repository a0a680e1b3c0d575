"""Devices: how many, and what is said when the batch does not divide."""

import time

import jax
import numpy as np
import pytest

from seqjax.cluster import mesh as mesh_lib
from seqjax.types import InputError


def test_names_of_old_are_there():
  assert mesh_lib.on is mesh_lib.on_mesh


def test_mesh_takes_the_devices_asked_for():
  assert mesh_lib.make_mesh(8, 32).size == 8
  assert mesh_lib.make_mesh(1, 31).size == 1


def test_default_is_one_cpu():
  assert mesh_lib.make_mesh(None, 31).size == 1


def test_too_many_devices_is_an_error_that_counts_them():
  with pytest.raises(InputError, match='`num_devices=9`, but JAX has 8 cpu devices'):
    mesh_lib.make_mesh(9, 90)


def test_a_batch_that_does_not_divide_is_an_error_that_says_what_would():
  with pytest.raises(InputError, match=r'`batch_size=30` .* 8 devices; 24 or 32 would'):
    mesh_lib.make_mesh(8, 30)
  with pytest.raises(InputError, match='; 8 would'):
    mesh_lib.check_divides(5, 8)


def test_put_batch_cuts_rows_in_order():
  mesh = mesh_lib.make_mesh(4, 8)
  x = np.arange(24.0).reshape(8, 3)
  placed = mesh_lib.put_batch({'x': x}, mesh)['x']
  np.testing.assert_array_equal(placed, x)
  shards = sorted(placed.addressable_shards, key=lambda shard: shard.device.id)
  np.testing.assert_array_equal([shard.data[0, 0] for shard in shards], [0, 6, 12, 18])
  with pytest.raises(InputError, match='does not divide'):
    mesh_lib.put_batch(x[:7], mesh)
  assert len(jax.device_put(x, mesh_lib.replicated(mesh)).addressable_shards) == 4


@pytest.mark.parametrize('per_device', [False, True])
def test_parts_hold_consecutive_rows_and_devices_share_each(per_device):
  mesh = mesh_lib.make_mesh(2, 12, 3)
  placed = mesh_lib.put_batch(np.arange(12), mesh, 3, per_device=per_device)
  found = np.asarray(placed).swapaxes(0, 1) if per_device else np.asarray(placed)
  np.testing.assert_array_equal(found.reshape(12), np.arange(12))
  rows = {s.device.id: s.data.ravel().tolist() for s in placed.addressable_shards}
  first, second = (rows[device.id] for device in mesh.devices)
  assert first == [0, 1, 4, 5, 8, 9]
  assert second == [2, 3, 6, 7, 10, 11]


def test_parts_that_do_not_divide_are_an_error_that_says_what_would():
  message = r'8 devices times `accumulate_steps=3`; 24 or 48 would'
  with pytest.raises(InputError, match=message):
    mesh_lib.make_mesh(8, 32, 3)


@pytest.mark.parametrize(('num_devices', 'shared'), [(1, False), (2, True)])
def test_cores_of_one_host_share_threads(num_devices, shared):
  assert mesh_lib.shares_threads(mesh_lib.make_mesh(num_devices, 4)) is shared


def test_batches_come_in_the_order_of_their_steps_whatever_is_made_at_a_time():
  made: list[int] = []

  class Counted:
    def batch(self, step):
      made.append(step)
      return np.full((4, 3), step)

  feed, mesh = Counted(), mesh_lib.make_mesh(2, 4)
  steps = (range(step, step + 1) for step in range(7, 32))
  batches = mesh_lib.put_batches(feed, steps, mesh, per_device=False)
  for step in range(7, 32):
    np.testing.assert_array_equal(next(batches), np.full((4, 3), step))
    assert made == list(range(7, max(made) + 1))
    assert len(made) < step - 7 + 1 + 20
  with pytest.raises(StopIteration):
    next(batches)


def test_a_slow_feed_makes_its_batches_one_at_a_time(monkeypatch):
  monkeypatch.setattr(mesh_lib, '_AHEAD_SECONDS', 0.0)
  made: list[int] = []

  class Slow:
    def batch(self, step):
      made.append(step)
      time.sleep(0.001)
      return np.full((4, 3), step)

  mesh = mesh_lib.make_mesh(2, 4)
  steps = (range(step, step + 1) for step in range(3))
  for batch in mesh_lib.put_batches(Slow(), steps, mesh, per_device=False):
    assert len(made) == int(batch[0, 0]) + 1
  assert made == [0, 1, 2]
