"""Text of others as UTF-8: no mark in front, lines that end in \\n, faults by line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from seqjax.files import strangers
from seqjax.types import InputError

_LINE_END = re.compile(r'\r*\n|\r')


def decode(raw: bytes, name: str, line: int = 1) -> str:
  """Decodes a text, or what of it begins at a line.

  Whatever ends a line (\\n, \\r\\n, \\r\\r\\n or \\r alone) is \\n in what comes back.

  Raises:
    InputError: It is no UTF-8, or holds zero bytes, as UTF-16 does; the message has
      the `name` and the number of the line.
  """
  text, end = '', raw.find(0)
  try:
    text = raw.decode('utf-8')
  except UnicodeDecodeError as error:
    end = error.start if end < 0 else min(end, error.start)
  if end >= 0:
    before = raw[:end].decode('latin-1')  # a character each byte
    number = line + len(_LINE_END.findall(before))
    wide = raw[:2] in (b'\xff\xfe', b'\xfe\xff') or 0 in raw[:2]
    guess = strangers.looks_like(raw) if line == 1 else ''
    if wide and line == 1:
      guess = '; it looks like UTF-16: save it as UTF-8'
    raise InputError(f'{name}, line {number} is not UTF-8{guess}')
  text = text.removeprefix('\ufeff') if line == 1 else text
  return _LINE_END.sub('\n', text) if '\r' in text else text


def lines(raw: Iterable[bytes], name: str) -> Iterator[str]:
  """Decodes lines, without what ends them.

  Raises:
    InputError: As `decode`.
  """
  for number, line in enumerate(raw, 1):
    yield from decode(line, name, number).removesuffix('\n').split('\n')
