"""Batches to evaluate on that stay on the devices."""

import itertools

import numpy as np
import pytest

from seqjax.cluster import mesh as mesh_lib
from seqjax.data.batches import InOrder
from seqjax.training.evaluation import Kept
from seqjax.types import Examples


@pytest.mark.parametrize(
  ('free', 'passes'), [(None, 1), (4 * 192, 1), (4 * 192 - 1, 3)]
)
def test_they_are_made_once_if_a_quarter_of_memory_holds_them(
  monkeypatch, free, passes
):
  made = []

  class Counted(InOrder):
    def __iter__(self):
      made.append(1)
      return super().__iter__()

  # Three batches of 4 rows of 32 bytes, half of each on one of two devices: 192 bytes.
  x = np.arange(10 * 6, dtype=np.float32).reshape(10, 6)
  batches = Counted(Examples(x, np.arange(10, dtype=np.float32)), 4)
  kept = Kept(batches, mesh_lib.make_mesh(2, 4))
  # What is free is what the training examples, which come after it, have left.
  monkeypatch.setattr(mesh_lib, 'free_bytes', lambda mesh: free)
  list(itertools.islice(kept, 2))  # a pass that is cut keeps nothing
  made.clear()
  for _ in range(3):
    for found, wanted in zip(kept, InOrder(batches.source, 4), strict=True):
      np.testing.assert_array_equal(found.x, wanted.x)
      np.testing.assert_array_equal(found.weight, wanted.weight)
      assert len(found.x.sharding.device_set) == 2
  assert len(made) == passes
