"""A folder is what was sealed, or its damage is told; a lock is held by one."""

import errno
import fcntl
import hashlib
import json
import os
import pathlib
import subprocess
import sys

import pytest

from seqjax.files import sealed, whole
from seqjax.files.sealed import DamagedError

_ROOT = pathlib.Path(__file__).parents[2]


def _sealed(folder):
  (folder / 'deep').mkdir(parents=True)
  (folder / 'deep' / 'file').write_bytes(b'abc')
  (folder / 'empty').touch()
  sealed.seal(folder, 'sums', lambda checksums: json.dumps(checksums).encode())
  return json.loads((folder / 'sums').read_bytes())


def test_checksums_by_hand(tmp_path):
  checksums = _sealed(tmp_path / 'one')
  assert list(checksums.items()) == [
    ('deep/file', [3, hashlib.sha256(b'abc').hexdigest()]),
    ('empty', [0, hashlib.sha256(b'').hexdigest()]),
  ]


@pytest.mark.parametrize('with_size', [True, False])
def test_each_damage_is_told_by_the_name_of_the_file(tmp_path, with_size):
  checksums = _sealed(tmp_path)
  expected = {k: (size if with_size else None, s) for k, (size, s) in checksums.items()}
  sealed.check(tmp_path, expected)
  (tmp_path / 'nobody-knows-it').touch()
  sealed.check(tmp_path, expected)
  path, changed = tmp_path / 'deep' / 'file', 'has changed since'
  for content, reason in [
    (b'abd', changed),
    (b'ab', 'has 2 bytes, 3 were' if with_size else changed),
    (None, 'is missing'),
  ]:
    path.unlink()
    if content is not None:
      path.write_bytes(content)
    with pytest.raises(DamagedError, match=f'file deep/file {reason}'):
      sealed.check(tmp_path, expected)


def test_a_name_is_given_once_and_for_good(tmp_path, monkeypatch):
  synced, sync = [], whole.sync

  def spy(path):
    synced.append((path, (tmp_path / 'two').exists()))
    sync(path)

  _sealed(tmp_path / 'one')
  monkeypatch.setattr(whole, 'sync', spy)
  sealed.publish(tmp_path / 'one', tmp_path / 'two')
  assert synced == [(tmp_path, True)]
  assert not (tmp_path / 'one').exists()
  _sealed(tmp_path / 'one')
  with pytest.raises(OSError, match=r'\[Errno') as caught:
    sealed.publish(tmp_path / 'one', tmp_path / 'two')
  assert caught.value.errno in (errno.ENOTEMPTY, errno.EEXIST)


def test_a_lock_is_held_until_its_descriptor_is_closed(tmp_path):
  first, second = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
  sealed.lock(first)
  with pytest.raises(BlockingIOError):
    fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
  os.close(first)
  sealed.lock(second)
  os.close(second)


_ELSEWHERE = """
import os, sys
for name in ('fcntl', 'resource', 'termios', 'pwd'):
  sys.modules[name] = None  # Windows has none of them
del os.sched_getaffinity, os.getuid  # macOS lacks the first, Windows both
import numpy as np, seqjax as sj
from experiments import copy_memory
from seqjax.config import parse
from seqjax.files import sealed, whole, zips
from seqjax.data import cache
from seqjax.types import CommandError
from seqjax.workdir import checkpoint, folder
assert folder.num_cores() == os.cpu_count()
x = np.random.default_rng(0).standard_normal((32, 5, 3)).astype(np.float32)
settings = {'loss': 'mse', 'num_epochs': 2, 'batch_size': 8, 'quiet': True}
fitted = sj.fit(sj.SequenceRegressor(sj.LSTM(4)), (x, x.sum((1, 2))), **settings)
print(fitted.history['loss'].shape, fitted.predict(x).shape)
for options in ({'workdir': sys.argv[1]}, {'compilation_cache': sys.argv[1]}):
  try:
    sj.fit(fitted.model, (x, x.sum((1, 2))), **settings, **options)
  except CommandError as error:
    print(error)
try:
  copy_memory.run(parse(copy_memory.Config, ['--length=5', '--workdir=' + sys.argv[1]]))
except CommandError as error:
  print(error)
"""


@pytest.mark.slow
def test_a_system_without_unix_trains_and_says_what_it_lacks(tmp_path):
  command = [sys.executable, '-c', _ELSEWHERE, str(tmp_path / 'w')]
  done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=_ROOT)
  trained, lock, cache, experiment = done.stdout.splitlines()
  assert trained == '(2,) (32,)'
  assert 'fcntl.flock, which this system lacks' in lock
  assert '`compilation_cache` needs files that have owners' in cache
  assert 'fcntl.flock, which this system lacks' in experiment
