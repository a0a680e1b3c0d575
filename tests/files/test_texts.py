"""Text of others: every kind of line, a mark in front, and other encodings by line."""

import io

import pytest

from seqjax.files import texts
from seqjax.types import InputError

_LINES = ['grün', '', 'b c ', '\ufeffd']
_MARK = b'\xef\xbb\xbf'


@pytest.mark.parametrize('mark', [b'', _MARK])
@pytest.mark.parametrize('end', ['\n', '\r\n', '\r\r\n', '\r'])
def test_lines_of_every_system(end, mark):
  raw = mark + end.join(_LINES).encode()
  for last in (b'', end.encode()):
    assert list(texts.lines(io.BytesIO(raw + last), 'f')) == _LINES
  assert texts.decode(raw, 'f') == '\n'.join(_LINES)


@pytest.mark.parametrize(
  ('raw', 'message'),
  [
    ('a\r\nb\ngrün\n'.encode('latin-1'), 'f, line 3 is not UTF-8$'),
    ('a\rb\rgrün'.encode('latin-1'), 'f, line 3 is not UTF-8$'),
    ('a\r\r\ngrün'.encode('latin-1'), 'f, line 2 is not UTF-8$'),
    (b'a\nb\0c\n\xff', 'f, line 2 is not UTF-8$'),
    *(
      ('a\nb'.encode(code), 'f, line 1 is not UTF-8; it looks like UTF-16: save it as')
      for code in ('utf-16', 'utf-16-le', 'utf-16-be', 'utf-32')
    ),
  ],
)
def test_what_is_no_utf_8_has_its_line_said(raw, message):
  with pytest.raises(InputError, match=message):
    texts.decode(raw, 'f')
  with pytest.raises(InputError, match=message):
    list(texts.lines(io.BytesIO(raw), 'f'))
