"""A path holds the old file or the new one, whoever is killed, and whatever fails."""

import multiprocessing
import os
import resource

import pytest

from seqjax.data.reviews.word_ids import Vocabulary
from seqjax.files import whole
from seqjax.text.tokenizer import Tokenizer


def test_a_file_is_replaced_and_never_written_in_place(tmp_path):
  path = tmp_path / 'file'
  path.write_bytes(b'old')
  (tmp_path / '.file.tmp').write_bytes(b'left behind by a kill, and longer')
  with open(path, 'rb') as reader:
    whole.write(path, b'new')
    assert reader.read() == b'old'
  assert path.read_bytes() == b'new'
  assert os.listdir(tmp_path) == ['file']


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_after_an_error_the_old_file_is_there_and_nothing_else(tmp_path, error):
  path = tmp_path / 'file'
  path.write_bytes(b'old')

  def write_and_fail():
    with whole.replacing(path) as part:
      part.write_bytes(b'ne')
      raise error

  with pytest.raises(error):
    write_and_fail()
  assert path.read_bytes() == b'old'
  assert os.listdir(tmp_path) == ['file']


def test_a_full_disk_leaves_the_old_file(tmp_path):
  path = tmp_path / 'file'
  path.write_bytes(b'old')
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
  try:
    with pytest.raises(OSError, match='File too large'):
      whole.write(path, bytes(100))
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert path.read_bytes() == b'old'
  assert os.listdir(tmp_path) == ['file']


def _write_often(path, byte, barrier):
  barrier.wait(60)
  for _ in range(30):
    with whole.replacing(path) as part:
      part.write_bytes(byte * 100_000)


def test_of_two_writers_each_file_is_whole(tmp_path):
  context = multiprocessing.get_context('spawn')
  barrier, path = context.Barrier(3), tmp_path / 'file'
  wholes = (b'a' * 100_000, b'b' * 100_000)
  writers = [
    context.Process(target=_write_often, args=(path, byte, barrier))
    for byte in (b'a', b'b')
  ]
  for writer in writers:
    writer.start()
  barrier.wait(60)
  while any(writer.is_alive() for writer in writers):
    if path.exists():
      assert path.read_bytes() in wholes
  assert [writer.exitcode for writer in writers] == [0, 0]
  assert os.listdir(tmp_path) == ['file']


def _vocabulary():
  return Vocabulary(['the', 'film'], 100)


def _tokenizer():
  tokenizer = Tokenizer()
  tokenizer.fit(['the film'])
  return tokenizer


@pytest.mark.parametrize('make', [_vocabulary, _tokenizer])
def test_words_are_on_the_disk_before_they_get_their_name(tmp_path, monkeypatch, make):
  events, path = [], tmp_path / 'words.json'
  fsync, replace = os.fsync, os.replace

  def spy_fsync(descriptor):
    events.append(os.fstat(descriptor).st_ino)
    fsync(descriptor)

  def spy_replace(source, target):
    events.append('replace')
    replace(source, target)

  monkeypatch.setattr(os, 'fsync', spy_fsync)
  monkeypatch.setattr(os, 'replace', spy_replace)
  make().save(path)
  file, folder = path.stat().st_ino, tmp_path.stat().st_ino
  assert events == [file, 'replace', folder]
