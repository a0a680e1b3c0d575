"""Where the examples of a run lie."""

import pytest
import toy

from seqjax.cluster import mesh as mesh_lib
from seqjax.data.batches import Shuffled
from seqjax.training.programs import resident_feed
from seqjax.types import InputError


def test_free_memory_decides_on_accelerators_and_no_flag_against_it(monkeypatch):
  examples, mesh = toy.examples(150), mesh_lib.make_mesh(1, 32)
  feed, size = Shuffled(examples, 32, 0), 150 * (9 + 1) * 4

  def lies(wanted, free, before=None):
    monkeypatch.setattr(mesh_lib, 'free_bytes', lambda mesh: free)
    return resident_feed(feed, wanted, mesh, before).resident is not None

  assert not lies(None, 1000 * size)  # on a CPU
  assert lies(True, None)
  monkeypatch.setattr(mesh_lib, 'is_cpu', lambda mesh: False)
  assert lies(None, 2 * size)
  assert not lies(None, 2 * size - 1)
  assert not lies(None, None)
  assert not lies(False, 1000 * size)
  assert lies(True, size)
  # A later start does as the first one, if it can.
  assert lies(None, size, before=True)
  assert not lies(None, size - 1, before=True)
  assert not lies(None, None, before=True)
  assert not lies(None, 1000 * size, before=False)
  assert lies(True, size, before=False)
  with pytest.raises(InputError, match='`resident`: the examples are 0 MiB'):
    lies(True, size - 1)
  feed = feed.on_devices()
  assert lies(None, 0)
  with pytest.raises(InputError, match='`resident=False`: this data lies'):
    lies(False, None)
