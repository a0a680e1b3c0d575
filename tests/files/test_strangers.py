"""Whatever reads a file says what it looks like where it is none of its own."""

import pytest

from seqjax.files.strangers import looks_like
from seqjax.interop import keras
from seqjax.text import Tokenizer, load_vectors
from seqjax.types import InputError

_POINTER = b'version https://git-lfs.github.com/spec/v1\noid sha256:996b\nsize 7155\n'


def test_what_files_look_like():
  assert looks_like(_POINTER).endswith('Git LFS: fetch the file (git lfs pull)')
  for page in (b'\n<!DOCTYPE html><html>', b'<html lang="en">'):
    assert looks_like(page) == '; it looks like a web page'
  assert "fastText's own" in looks_like(b'\xba\x16\x4f\x2f\x0b\0\0\0')
  for other in (b'', b'version 1', b'<htm', b'the 0.1 0.2', b'\x89HDF'):
    assert looks_like(other) == ''


def test_every_reader_says_so(tmp_path):
  path = tmp_path / 'file'
  path.write_bytes(_POINTER)
  readers = [keras.load, Tokenizer.load, load_vectors]
  readers.append(lambda path: load_vectors(path, 'word2vec_binary'))
  for read in readers:
    with pytest.raises(InputError, match='; it looks like a pointer of Git LFS'):
      read(path)


def test_the_reader_of_pytorch_says_so_too(tmp_path):
  torch = pytest.importorskip('seqjax.interop.torch')
  path = tmp_path / 'model.pt'
  path.write_bytes(_POINTER)
  with pytest.raises(InputError, match='; it looks like a pointer of Git LFS'):
    torch.load(path)
