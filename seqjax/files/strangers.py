"""What a file is that is not what was expected: for the ends of messages."""

from __future__ import annotations

import pathlib

from seqjax.types import InputError

_STARTS = (
  (b'version https://git-lfs', 'a pointer of Git LFS: fetch the file (git lfs pull)'),
  (b'<!doctype html', 'a web page'),
  (b'<html', 'a web page'),
  (b'\x1f\x8b', 'a file packed by gzip: unpack it'),
  (b'BZh', 'a file packed by bzip2: unpack it'),
  (b'\xfd7zXZ', 'a file packed by xz: unpack it'),
  (b'PK\x03\x04', 'a zip archive, as Excel writes them too: unpack it'),
  (b'\xba\x16\x4f\x2f', "fastText's own: its .vec is word2vec text"),
)
HEAD = 64  # bytes that are enough to tell


def head(path: pathlib.Path) -> bytes:
  """How a file begins; an InputError where it cannot be read."""
  try:
    with path.open('rb') as file:
      return file.read(HEAD)
  except OSError as error:
    raise InputError(f'{path}: {error.strerror}') from None


def looks_like(head: bytes) -> str:
  """'; it looks like ...' by the first bytes of a file; '' if like nothing known."""
  start = head[:HEAD].lstrip().lower()
  for known, words in _STARTS:
    if start.startswith(known.lower()):
      return f'; it looks like {words}'
  return ''
