"""The folder of compiled programs: private, and free of what a kill left."""

import os
import time
import zlib

import jax
import jax.numpy as jnp
import pytest

from seqjax.cluster import compilation_cache
from seqjax.types import InputError


@pytest.fixture(autouse=True)
def _cache_of_the_tests():
  before = jax.config.jax_compilation_cache_dir
  yield
  jax.config.update('jax_compilation_cache_dir', before)


def test_the_folder_is_made_for_its_owner_alone_and_filled(tmp_path):
  folder = tmp_path / 'a' / 'b'
  compilation_cache.use_compilation_cache(str(folder))
  assert folder.stat().st_mode & 0o777 == 0o700
  assert jax.config.jax_compilation_cache_dir == str(folder)


@pytest.mark.parametrize('mode', [0o755, 0o770, 0o707])
def test_a_folder_that_others_can_reach_is_refused(tmp_path, mode):
  tmp_path.chmod(mode)
  with pytest.raises(InputError, match=f'chmod 700.*{mode:o}'):
    compilation_cache.use_compilation_cache(str(tmp_path))


def test_a_file_is_refused(tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(InputError, match='`compilation_cache`'):
    compilation_cache.use_compilation_cache(str(tmp_path / 'file'))


def test_an_entry_cut_short_by_a_kill_is_removed(tmp_path):
  tmp_path.chmod(0o700)
  whole = zlib.compress(os.urandom(3_000_000))
  contents = {
    'whole-cache': whole,
    'cut-cache': whole[:-1],
    'empty-cache': b'',
    'other-cache': b'\x28\xb5\x2f\xfd rest',
    'odd-cache': b'no compressed data',
  }
  for name, data in contents.items():
    (tmp_path / name).write_bytes(data)
    os.utime(tmp_path / name, (0, 0))
  (tmp_path / 'new-cache').write_bytes(whole[:-1])  # perhaps being written
  compilation_cache.use_compilation_cache(str(tmp_path))
  names = {path.name for path in tmp_path.glob('*-cache')}
  assert names == {'whole-cache', 'other-cache', 'new-cache'}


def test_each_entry_is_looked_at_once(tmp_path, monkeypatch):
  tmp_path.chmod(0o700)
  looks, is_whole = [], compilation_cache._is_whole

  def spy(entry):
    looks.append(entry.name)
    return is_whole(entry)

  monkeypatch.setattr(compilation_cache, '_is_whole', spy)

  def start(minutes):
    """A start so many minutes from now; what it looks at, and what it leaves."""
    now = time.time() + 60 * minutes
    with monkeypatch.context() as patch:
      patch.setattr(time, 'time', lambda: now)
      looks.clear()
      compilation_cache.use_compilation_cache(str(tmp_path))
    return sorted(looks), sorted(path.name for path in tmp_path.glob('*-cache'))

  whole = zlib.compress(b'program')
  (tmp_path / 'one-cache').write_bytes(whole)
  assert start(0) == ([], ['one-cache'])  # too young: perhaps being written
  assert start(2) == (['one-cache'], ['one-cache'])
  assert start(3) == ([], ['one-cache'])
  (tmp_path / 'two-cache').write_bytes(whole[:-1])  # cut while the third was running
  (tmp_path / 'three-cache').write_bytes(whole)
  for name in ('two-cache', 'three-cache'):
    os.utime(tmp_path / name, (time.time() + 200,) * 2)
  assert start(4) == ([], ['one-cache', 'three-cache', 'two-cache'])
  assert start(6) == (['three-cache', 'two-cache'], ['one-cache', 'three-cache'])
  assert start(9) == ([], ['one-cache', 'three-cache'])


def test_what_jax_writes_counts_as_whole(tmp_path):
  jax.jit(lambda x: x * 3 + 1)(jnp.arange(7)).block_until_ready()
  folder = jax.config.jax_compilation_cache_dir
  entries = list(os.scandir(folder))
  are_whole = [
    compilation_cache._is_whole(tmp_path / e.path)
    for e in entries
    if '-cache' in e.name
  ]
  assert are_whole
  assert all(are_whole)
