"""What a file is that is not what was expected: for the ends of messages."""

from __future__ import annotations

_STARTS = (
  (b'version https://git-lfs', 'a pointer of Git LFS: fetch the file (git lfs pull)'),
  (b'<!doctype html', 'a web page'),
  (b'<html', 'a web page'),
  (b'\xba\x16\x4f\x2f', "fastText's own: its .vec is word2vec text"),
)
HEAD = 64  # bytes that are enough to tell


def looks_like(head: bytes) -> str:
  """'; it looks like ...' by the first bytes of a file; '' if like nothing known."""
  start = head.lstrip()[:HEAD].lower()
  for known, words in _STARTS:
    if start.startswith(known.lower()):
      return f'; it looks like {words}'
  return ''
