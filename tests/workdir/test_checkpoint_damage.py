"""Damaged files and kills: the newest intact step comes back, exact, or none."""

import collections
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from saves import (
  DAMAGES,
  assert_restored,
  files_of,
  make_state,
  save_steps,
  saved_steps,
)

from seqjax.files import sealed
from seqjax.workdir import integrity, storage
from seqjax.workdir.checkpoint import Checkpoints

pytestmark = pytest.mark.usefixtures('quick_programs')


@pytest.mark.parametrize('damage', DAMAGES)
def test_any_damage_to_any_file_is_found(tmp_path, damage):
  whole = tmp_path / 'whole'
  save_steps(whole, [1, 2])
  newest = sorted(whole.iterdir())[-1]
  names = [path.relative_to(whole) for path in files_of(newest) if path.stat().st_size]
  assert len(names) > 5
  for seed, name in enumerate(names):
    folder = tmp_path / str(seed)
    shutil.copytree(whole, folder)
    damage(folder / name, random.Random(seed))
    with Checkpoints(folder) as checkpoints:
      assert_restored(checkpoints.restore(make_state(0)), 1)
      assert len(checkpoints.rejected) == 1
      assert checkpoints.rejected[0].startswith(f'{newest.name}: file ')
      assert name.name in checkpoints.rejected[0]


@pytest.mark.slow
def test_a_hundred_random_damages_to_random_steps(tmp_path):
  whole = tmp_path / 'whole'
  save_steps(whole, [1, 2, 3], best=[1])
  tally = collections.Counter()
  for seed in range(100):
    rng = random.Random(seed)
    folder = tmp_path / str(seed)
    shutil.copytree(whole, folder)
    hit = set()
    for _ in range(rng.randrange(1, 5)):
      path = rng.choice([path for path in files_of(folder) if path.stat().st_size])
      rng.choice(DAMAGES)(path, rng)
      hit.add(int(path.relative_to(folder).parts[0].partition('-step')[2]))
    with Checkpoints(folder) as checkpoints:
      intact = sorted({1, 2, 3} - hit)
      restored = checkpoints.restore(make_state(0))
      if intact:
        assert_restored(restored, intact[-1])
      else:
        assert restored is None
      assert len(checkpoints.rejected) == 3 - (intact[-1] if intact else 0)
      best = checkpoints.restore_best(make_state(0))
      if 1 in hit:
        assert best is None
      else:
        assert_restored(best, 1)
      tally[restored.step if restored else None] += 1
    shutil.rmtree(folder)
  print(f'damaged 100 times; step restored: {dict(tally)}')
  assert set(tally) == {1, 2, 3, None}


def test_a_file_that_nobody_recorded_does_no_harm(tmp_path):
  save_steps(tmp_path, [1])
  (tmp_path / '.DS_Store').write_bytes(b'x')
  (next(tmp_path.glob('*-step1')) / 'state' / '.DS_Store').write_bytes(b'x')
  (tmp_path / '000009-step9').touch()  # a file, not a folder
  with Checkpoints(tmp_path) as checkpoints:
    assert_restored(checkpoints.restore(make_state(0)), 1)
    assert checkpoints.rejected == ['000009-step9: file manifest.jsonl is missing']


def test_a_value_that_changes_on_its_way_to_disk_is_found(tmp_path, monkeypatch):
  write = storage.write

  def bad_memory(folder, values):
    values['params/kernel'].view(np.uint8)[1, 2] ^= 1
    write(folder, values)

  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, make_state(1), {'step': 1})
    checkpoints.wait()
    monkeypatch.setattr(storage, 'write', bad_memory)
    checkpoints.save(2, make_state(2), {'step': 2})
    assert_restored(checkpoints.restore(make_state(0)), 1)
    assert 'leaf params/kernel differs' in checkpoints.rejected[0]


def test_intact_files_that_orbax_cannot_read_never_mean_a_new_start(
  tmp_path, monkeypatch
):
  save_steps(tmp_path, [1, 2])
  read = storage.read

  def fails(folder, like):
    if folder.parent.name.endswith('step2') or fails_always:
      raise ValueError('a format\nof tomorrow')
    return read(folder, like)

  monkeypatch.setattr(storage, 'read', fails)
  with Checkpoints(tmp_path) as checkpoints:
    fails_always = False
    assert_restored(checkpoints.restore(make_state(0)), 1)
    assert 'a format of tomorrow' in checkpoints.rejected[0]
    fails_always = True
    with pytest.raises(
      RuntimeError, match=r'step1 are as they .* a format of tomorrow'
    ):
      checkpoints.restore(make_state(0))


class _Crash(BaseException):
  """Ends a save with nothing tidied up, as a kill does."""


class _Disk:
  """Fails at the n-th call that changes the disk, and at all later ones.

  `lose_power` empties the files that nobody had forced to disk.
  """

  def __init__(self, monkeypatch):
    self.calls, self.limit, self.safe = [], 10**9, set()
    for name in ('fsync', 'rename', 'unlink', 'rmdir'):
      monkeypatch.setattr(os, name, self._guarded(getattr(os, name)))

  def _guarded(self, function):
    def call(*args, **kwargs):
      self.calls.append(function.__name__)
      if len(self.calls) >= self.limit:
        raise _Crash
      if function.__name__ == 'fsync':
        self.safe.add(os.fstat(args[0]).st_ino)
      return function(*args, **kwargs)

    return call

  def copy(self, source, target):
    """Copies a tree of files that counts as being on disk."""
    shutil.copytree(source, target)
    self.safe = {path.stat().st_ino for path in files_of(target)}

  def lose_power(self, folder):
    self.limit = 10**9
    for path in files_of(folder):
      if path.stat().st_ino not in self.safe:
        os.truncate(path, 0)


@pytest.mark.parametrize(
  ('best', 'points'),
  [
    (True, 'renames'),
    pytest.param(True, 'all', marks=pytest.mark.slow),
    pytest.param(False, 'all', marks=pytest.mark.slow),
  ],
)
def test_power_lost_at_a_call_to_the_disk_leaves_the_old_step_or_the_new(
  tmp_path, monkeypatch, best, points
):
  disk = _Disk(monkeypatch)
  save_steps(tmp_path / 'whole', [1, 2, 3], best=[1], keep=2)
  disk.copy(tmp_path / 'whole', tmp_path / 'dry')
  disk.calls = []
  save_steps(tmp_path / 'dry', [4], best=[4] if best else [], keep=2)
  places = range(1, len(disk.calls) + 1)
  if points == 'renames':  # at each, and at the call that follows
    places = [n for n in places if 'rename' in disk.calls[max(0, n - 2) : n]]
  outcomes = collections.Counter()
  for place in [*places, 10**9]:
    folder = tmp_path / str(place)
    disk.copy(tmp_path / 'whole', folder)
    checkpoints = Checkpoints(folder, keep=2)
    disk.calls, disk.limit = [], place
    checkpoints.save(4, make_state(4), {'step': 4}, best=best)
    try:
      checkpoints.wait()
      outcomes['no crash'] += 1
    except _Crash:
      outcomes['crash'] += 1
    disk.lose_power(folder)
    checkpoints.close()
    with Checkpoints(folder, keep=2) as checkpoints:
      assert not list(folder.glob('*.unfinished'))
      for path in checkpoints.folders():  # nothing half removed, nothing half written
        sealed.check(path, integrity.read_manifest(path)['files'])
      restored = checkpoints.restore(make_state(0))
      assert_restored(restored, restored.step)
      outcomes[restored.step] += 1
      found = checkpoints.restore_best(make_state(0))
      assert_restored(found, 4 if best and restored.step == 4 else 1)
      assert checkpoints.rejected == []
      checkpoints.save(5, make_state(5), {'step': 5})
      assert_restored(checkpoints.restore(make_state(0)), 5)
      assert saved_steps(checkpoints)[-2:] == [restored.step, 5]
  print(f'power lost at {points} calls; step restored: {dict(outcomes)}')
  assert outcomes['crash'] >= (6 if points == 'renames' else 25)
  assert outcomes['no crash'] > 0
  assert outcomes[3] > 1
  assert outcomes[4] > 2


_SAVE_LOOP = """
import sys
import saves
from seqjax.workdir.checkpoint import Checkpoints
with Checkpoints(sys.argv[1], keep=2) as checkpoints:
  restored = checkpoints.restore(saves.make_state(0))
  step = restored.step if restored else 0
  while True:
    step += 1
    checkpoints.save(step, saves.make_state(step), {'step': step}, best=step % 4 == 0)
    print(step - 1, flush=True)  # that one is on disk
"""


def _start_saving(folder):
  tests = pathlib.Path(__file__).parents[1]
  env = {**os.environ, 'PYTHONPATH': f'{tests}{os.pathsep}{tests.parent}'}
  command = [sys.executable, '-c', _SAVE_LOOP, str(folder)]
  return subprocess.Popen(command, stdout=subprocess.PIPE, env=env, text=True)


def _kill_and_check(process, folder, seconds):
  """Kills some seconds after the second save has begun; returns the step found."""
  told = [process.stdout.readline(), process.stdout.readline()]
  time.sleep(seconds)
  process.send_signal(signal.SIGKILL)
  told += process.stdout.readlines()
  process.stdout.close()
  assert process.wait() == -signal.SIGKILL
  promised = int(told[-1])
  with Checkpoints(folder, keep=2) as checkpoints:
    restored = checkpoints.restore(make_state(0))
    assert_restored(restored, restored.step)
    assert promised <= restored.step <= promised + 2  # one saved, not told; one begun
    assert checkpoints.rejected == []
    if restored.step >= 4:
      assert_restored(checkpoints.restore_best(make_state(0)), restored.step // 4 * 4)
    assert not list(folder.glob('*.unfinished'))
  return restored.step


@pytest.mark.slow
@pytest.mark.usefixtures('own_programs')
def test_killed_while_saving(tmp_path):
  folders = [tmp_path / 'a', tmp_path / 'b']
  processes = [_start_saving(folder) for folder in folders]
  for process, folder in zip(processes, folders, strict=True):
    _kill_and_check(process, folder, random.uniform(0, 0.3))


@pytest.mark.slow
@pytest.mark.usefixtures('own_programs')
def test_killed_twenty_times_while_saving(tmp_path):
  found = [0]
  for _ in range(20):
    seconds = random.uniform(0, 1)
    found.append(_kill_and_check(_start_saving(tmp_path), tmp_path, seconds))
    assert found[-1] > found[-2]  # each start goes on from the last kill
  print(f'killed 20 times; steps found: {found[1:]}')
