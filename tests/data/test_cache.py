"""An entry is whole and right, or it is built; nothing half-written is ever seen."""

import concurrent.futures
import errno
import io
import json
import logging
import multiprocessing
import os
import pathlib
import stat
import threading
import time

import numpy as np
import pytest

from seqjax.data import cache
from seqjax.types import InputError

FIELDS = {'source': 'sha256:1', 'length': 20}


def some_arrays() -> dict[str, np.ndarray]:
  rng = np.random.default_rng(0)
  return {
    'x': rng.integers(0, 99, (7, 5)).astype(np.int32),
    'y': rng.normal(size=(4, 3)).astype(np.float32).T,  # not contiguous
    'flags': np.array([True, False, True]),
    'none': np.zeros((0, 3), np.float64),
    'scalar': np.array(2.5),
  }


def never() -> dict[str, np.ndarray]:
  raise AssertionError('built although there is an entry')


def same(one, two) -> None:
  assert set(one) == set(two)
  for name in one:
    np.testing.assert_array_equal(one[name], two[name])
    assert one[name].dtype == two[name].dtype
    assert one[name].shape == two[name].shape


def entries(root: pathlib.Path) -> list[str]:
  return sorted(path.name for path in root.iterdir())


def test_arrays_are_built_once_and_come_back_equal(tmp_path):
  root = tmp_path / 'deep' / 'cache'
  same(cache.arrays(root, 'set', FIELDS, some_arrays), some_arrays())
  same(cache.arrays(root, 'set', dict(reversed(FIELDS.items())), never), some_arrays())
  assert len(entries(root)) == 1
  assert entries(root)[0].startswith('set-')


@pytest.mark.parametrize(
  'fields', [FIELDS | {'length': 21}, FIELDS | {'more': None}, {'source': 'sha256:1'}]
)
def test_other_fields_are_another_entry(fields, tmp_path):
  cache.arrays(tmp_path, 'set', FIELDS, some_arrays)
  built = cache.arrays(tmp_path, 'set', fields, lambda: {'x': np.arange(3)})
  same(built, {'x': np.arange(3)})
  same(cache.arrays(tmp_path, 'set', FIELDS, never), some_arrays())
  assert len(entries(tmp_path)) == 2


def test_fields_that_are_no_json_are_refused(tmp_path):
  with pytest.raises(TypeError, match='JSON'):
    cache.arrays(tmp_path, 'set', {'a': np.arange(2)}, some_arrays)


def test_a_folder_of_files_is_kept_with_what_is_below_it(tmp_path):
  def build(folder: pathlib.Path) -> None:
    folder.joinpath('below').mkdir()
    folder.joinpath('below', 'a.txt').write_text('hello')

  def build_not(folder: pathlib.Path) -> None:
    raise AssertionError(folder)

  entry = cache.folder(tmp_path, 'files', FIELDS, build)
  assert entry.joinpath('below', 'a.txt').read_text() == 'hello'
  assert cache.folder(tmp_path, 'files', FIELDS, build_not) == entry
  entry.joinpath('below', 'a.txt').write_text('hellO')
  again = cache.folder(tmp_path, 'files', FIELDS, build)
  assert again.joinpath('below', 'a.txt').read_text() == 'hello'


def flip(path: pathlib.Path) -> None:
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 4
  path.write_bytes(content)


@pytest.mark.parametrize('name', ['x.npy', 'y.npy', 'flags.npy', 'entry.json'])
@pytest.mark.parametrize('damage', [flip, lambda p: os.truncate(p, 100), os.remove])
def test_a_damaged_entry_is_built_again_and_that_is_said(
  damage, name, tmp_path, caplog
):
  cache.arrays(tmp_path, 'set', FIELDS, some_arrays)
  (entry,) = tmp_path.iterdir()
  damage(entry / name)
  with caplog.at_level(logging.WARNING):
    same(cache.arrays(tmp_path, 'set', FIELDS, some_arrays), some_arrays())
  # A manifest whose own text is changed may put it down to another file.
  assert name in caplog.text or name == 'entry.json'
  assert f'{entry} is damaged' in caplog.text
  caplog.clear()
  same(cache.arrays(tmp_path, 'set', FIELDS, never), some_arrays())
  assert not caplog.text
  assert entries(tmp_path) == [entry.name]


@pytest.mark.parametrize('text', ['[]', '{}', '3', '{"fields": 1, "files": 2}', ''])
def test_a_manifest_that_is_none_is_damage(text, tmp_path):
  cache.arrays(tmp_path, 'set', FIELDS, some_arrays)
  (entry,) = tmp_path.iterdir()
  entry.joinpath('entry.json').write_text(text)
  same(cache.arrays(tmp_path, 'set', FIELDS, some_arrays), some_arrays())


def test_an_entry_moved_to_another_key_is_not_taken(tmp_path):
  cache.arrays(tmp_path, 'set', FIELDS, some_arrays)
  (one,) = tmp_path.iterdir()
  other = FIELDS | {'length': 21}
  cache.arrays(tmp_path, 'set', other, lambda: {'x': np.arange(3)})
  (two,) = set(tmp_path.iterdir()) - {one}
  for path in two.iterdir():
    path.unlink()
  two.rmdir()
  one.rename(two)
  built = cache.arrays(tmp_path, 'set', other, lambda: {'x': np.arange(3)})
  same(built, {'x': np.arange(3)})


class FullDisk(io.FileIO):
  """A file on a disk that is full after 100 bytes."""

  def write(self, content):
    super().write(memoryview(content)[:100])
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.name)


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
  whole = pathlib.Path.open

  def opened(path, mode='r', **kwargs):
    if path.name == 'y.npy' and 'w' in mode:
      return FullDisk(path, mode.replace('b', ''))
    return whole(path, mode, **kwargs)

  monkeypatch.setattr(pathlib.Path, 'open', opened)
  with pytest.raises(InputError, match=r'`cache_dir`: the disk of .* is full') as e:
    cache.arrays(tmp_path, 'set', FIELDS, some_arrays)
  assert str(tmp_path) in str(e.value)
  assert entries(tmp_path) == []
  monkeypatch.undo()
  same(cache.arrays(tmp_path, 'set', FIELDS, some_arrays), some_arrays())


@pytest.mark.parametrize('code', [errno.EACCES, errno.EROFS])
def test_a_cache_that_cannot_be_written_is_said_before_anything_is_built(
  code, tmp_path, monkeypatch
):
  def mkdir(path, *args, **kwargs):
    raise OSError(code, os.strerror(code), str(path))

  monkeypatch.setattr(pathlib.Path, 'mkdir', mkdir)
  with pytest.raises(InputError, match=r'`cache_dir`: cannot write to .*/cache') as e:
    cache.arrays(tmp_path / 'cache', 'set', FIELDS, never)
  assert os.strerror(code) in str(e.value)


def test_a_cache_below_a_file_is_said(tmp_path):
  tmp_path.joinpath('file').write_text('')
  with pytest.raises(InputError, match=r'`cache_dir`: cannot write to .*/file/cache'):
    cache.arrays(tmp_path / 'file' / 'cache', 'set', FIELDS, never)


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
def test_a_read_only_cache_gives_what_it_has(tmp_path):
  cache.arrays(tmp_path, 'set', FIELDS, some_arrays)
  tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
  same(cache.arrays(tmp_path, 'set', FIELDS, never), some_arrays())
  with pytest.raises(InputError, match='`cache_dir`: cannot write'):
    cache.arrays(tmp_path, 'set', {'other': 1}, never)


@pytest.mark.parametrize('error', [ValueError('bad data'), KeyboardInterrupt()])
def test_what_stops_a_build_passes_through_and_leaves_nothing(error, tmp_path):
  def build():
    raise error

  with pytest.raises(type(error)):
    cache.arrays(tmp_path, 'set', FIELDS, build)
  assert entries(tmp_path) == []


def test_an_entry_shows_only_when_it_is_whole(tmp_path):
  def build(folder: pathlib.Path) -> None:
    folder.joinpath('a.txt').write_text('1')
    assert not list(tmp_path.glob('files-*'))

  cache.folder(tmp_path, 'files', FIELDS, build)
  assert len(list(tmp_path.glob('files-*'))) == 1


def test_the_quicker_of_two_wins_and_both_get_it(tmp_path):
  """The other process finishes while ours is building."""

  theirs = []

  def build():
    cache.arrays(tmp_path, 'set', FIELDS, some_arrays)
    theirs.extend(path.stat().st_ino for path in tmp_path.glob('set-*'))
    return some_arrays()

  same(cache.arrays(tmp_path, 'set', FIELDS, build), some_arrays())
  same(cache.arrays(tmp_path, 'set', FIELDS, never), some_arrays())
  # Theirs stays, as somebody may be reading it.
  assert [path.stat().st_ino for path in tmp_path.iterdir()] == theirs


def test_many_threads_may_build_at_once(tmp_path):
  barrier = threading.Barrier(8)

  def build():
    barrier.wait(timeout=60)  # all are at it before anyone has an entry
    return some_arrays()

  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    calls = [
      pool.submit(cache.arrays, tmp_path, 'set', FIELDS, build) for _ in range(8)
    ]
    for call in calls:
      same(call.result(timeout=60), some_arrays())
  same(cache.arrays(tmp_path, 'set', FIELDS, never), some_arrays())
  assert len(entries(tmp_path)) == 1


def test_many_repairs_at_once_leave_one_intact_entry(tmp_path):
  """Each finds the entry damaged, and none may take away what another has mended."""
  cache.arrays(tmp_path, 'set', FIELDS, some_arrays)
  (entry,) = tmp_path.iterdir()
  flip(entry / 'x.npy')
  barrier = threading.Barrier(8)

  def build():
    barrier.wait(timeout=60)
    return some_arrays()

  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    calls = [
      pool.submit(cache.arrays, tmp_path, 'set', FIELDS, build) for _ in range(8)
    ]
    for call in calls:
      same(call.result(timeout=60), some_arrays())
  same(cache.arrays(tmp_path, 'set', FIELDS, never), some_arrays())
  assert entries(tmp_path) == [entry.name]


def _build_slowly(root: pathlib.Path, barrier, results) -> None:
  barrier.wait(timeout=60)
  built = cache.arrays(root, 'set', FIELDS, some_arrays)
  results.put(int(built['x'].sum()))


@pytest.mark.slow  # three processes import jax
def test_many_processes_may_build_at_once(tmp_path):
  context = multiprocessing.get_context('spawn')  # jax's threads do not like a fork
  barrier, results = context.Barrier(3), context.Queue()
  workers = [
    context.Process(target=_build_slowly, args=(tmp_path, barrier, results))
    for _ in range(3)
  ]
  for worker in workers:
    worker.start()
  sums = [results.get(timeout=60) for _ in workers]
  for worker in workers:
    worker.join(timeout=60)
    assert worker.exitcode == 0
  assert sums == [int(some_arrays()['x'].sum())] * 3
  assert len(entries(tmp_path)) == 1


def test_what_killed_processes_left_is_removed_after_a_day(tmp_path):
  for name, age in (('.part-old', 25 * 3600), ('.part-new', 60)):
    tmp_path.joinpath(name).mkdir()
    tmp_path.joinpath(name, 'a.npy').write_text('half')
    os.utime(tmp_path / name, (time.time() - age,) * 2)
  cache.arrays(tmp_path, 'set', FIELDS, some_arrays)
  assert '.part-new' in entries(tmp_path)
  assert '.part-old' not in entries(tmp_path)


def test_all_of_an_entry_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
  events = []
  fsync, rename = os.fsync, pathlib.Path.rename

  def spy_fsync(handle):
    events.append(pathlib.Path(os.readlink(f'/proc/self/fd/{handle}')).name)
    fsync(handle)

  def spy_rename(path, target):
    events.append('rename')
    return rename(path, target)

  monkeypatch.setattr(os, 'fsync', spy_fsync)
  monkeypatch.setattr(pathlib.Path, 'rename', spy_rename)
  cache.arrays(tmp_path, 'set', FIELDS, some_arrays)
  before = events[: events.index('rename')]
  assert {f'{name}.npy' for name in some_arrays()} | {'entry.json'} <= set(before)
  assert any(name.startswith('.part-') for name in before)
  assert events[-1] == tmp_path.name


def test_where_the_cache_is(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
  assert cache.default_root() == tmp_path / '.cache' / 'seqjax'
  monkeypatch.setenv('XDG_CACHE_HOME', 'relative')
  assert cache.default_root() == tmp_path / '.cache' / 'seqjax'
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
  assert cache.default_root() == tmp_path / 'xdg' / 'seqjax'
  assert cache.default_root('/given') == pathlib.Path('/given')
  monkeypatch.chdir(tmp_path)
  assert cache.default_root('given') == tmp_path / 'given'


def test_the_manifest_tells_a_reader_what_the_entry_is_of(tmp_path):
  cache.arrays(tmp_path, 'set', FIELDS, some_arrays)
  (entry,) = tmp_path.iterdir()
  assert json.loads(entry.joinpath('entry.json').read_text())['fields'] == FIELDS
