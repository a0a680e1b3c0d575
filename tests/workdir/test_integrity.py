"""A folder counts whole or not at all."""

import hashlib
import json

import pytest

from seqjax.files import sealed
from seqjax.files.sealed import DamagedError
from seqjax.workdir import integrity


def committed(parent, record):
  unfinished = parent / f'one{integrity.UNFINISHED}'
  (unfinished / 'deep' / 'er').mkdir(parents=True)
  (unfinished / 'deep' / 'er' / 'file').write_bytes(b'abc')
  (unfinished / 'empty').touch()
  integrity.commit(unfinished, parent / 'one', record)
  return parent / 'one'


def test_manifest_by_hand(tmp_path):
  folder = committed(tmp_path, {'step': 7, 'x': [0.1, None]})
  first, second = (folder / 'manifest.jsonl').read_bytes().split(b'\n')
  manifest = json.loads(second)
  assert json.loads(first) == {'sha256': hashlib.sha256(second).hexdigest()}
  assert manifest == integrity.read_manifest(folder)
  assert manifest['x'] == [0.1, None]
  assert manifest['files'] == {
    'deep/er/file': [3, hashlib.sha256(b'abc').hexdigest()],
    'empty': [0, hashlib.sha256(b'').hexdigest()],
  }
  sealed.check(folder, manifest['files'])


def test_every_bit_of_the_manifest_counts(tmp_path):
  (tmp_path / 'empty').mkdir()
  integrity.commit(tmp_path / 'empty', tmp_path / 'one', {'a': 0.1})
  folder = tmp_path / 'one'
  path = folder / 'manifest.jsonl'
  whole = path.read_bytes()
  for i in range(len(whole) * 8):
    raw = bytearray(whole)
    raw[i // 8] ^= 1 << i % 8
    path.write_bytes(raw)
    with pytest.raises(DamagedError, match=r'file manifest.jsonl has changed'):
      integrity.read_manifest(folder)
  for size in range(len(whole)):
    path.write_bytes(whole[:size])
    with pytest.raises(DamagedError, match=r'file manifest.jsonl has changed'):
      integrity.read_manifest(folder)
  path.unlink()
  with pytest.raises(DamagedError, match=r'file manifest.jsonl is missing'):
    integrity.read_manifest(folder)


def test_damage_to_a_file_is_told_by_its_name(tmp_path):
  folder = committed(tmp_path, {})
  files = integrity.read_manifest(folder)['files']
  path = folder / 'deep' / 'er' / 'file'
  for content, reason in [
    (b'abd', 'has changed since it was written'),
    (b'ab', 'has 2 bytes, 3 were written'),
    (b'abcd', 'has 4 bytes, 3 were written'),
    (None, 'is missing'),
  ]:
    path.unlink()
    if content is not None:
      path.write_bytes(content)
    with pytest.raises(DamagedError, match=f'file deep/er/file {reason}'):
      sealed.check(folder, files)


def test_removal_never_shows_half_a_folder(tmp_path, monkeypatch):
  folder = committed(tmp_path, {})

  def seen(path):
    assert not folder.exists()
    assert path.name == f'one{integrity.UNFINISHED}'

  monkeypatch.setattr(integrity.shutil, 'rmtree', seen)
  integrity.remove(folder)


def test_what_a_kill_left_half_done_is_removed(tmp_path):
  whole = committed(tmp_path / 'saves', {})
  (tmp_path / 'saves' / f'half{integrity.UNFINISHED}' / 'deep').mkdir(parents=True)
  integrity.prepare(tmp_path / 'saves')
  assert list((tmp_path / 'saves').iterdir()) == [whole]
  integrity.prepare(tmp_path / 'a' / 'b')
  assert (tmp_path / 'a' / 'b').is_dir()


def test_an_error_becomes_one_line():
  assert integrity.one_line(ValueError('a\n  b')) == 'a b'
  assert integrity.one_line(ValueError()) == 'ValueError'
  buried = ValueError("Error writing /a/b: {'x': 3}] [os_error_code='28'] [more='1']")
  assert integrity.one_line(buried) == 'No space left on device'
  line = integrity.one_line(ValueError('begin ' + 'x' * 999 + ' end'))
  assert line.startswith('begin')
  assert line.endswith('end')
  assert len(line) < 320
