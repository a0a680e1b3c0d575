"""Streams: plain, gzip and zip read alike, and every damage is the user's error."""

import gzip
import io
import re
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjax.files.packed import open_stream, read
from seqjax.types import InputError

CONTENT = b''.join(b'line %d %r\n' % (i, i * 7919 % 1000) for i in range(500))


def _read(path, member=None):
  with open_stream(path, member) as stream:
    return stream.name, stream.file.read()


def _zip(path, members, method=zipfile.ZIP_DEFLATED):
  with zipfile.ZipFile(path, 'w', method) as archive:
    for name, content in members.items():
      archive.writestr(name, content)
  return path


def _packed(path, kind):
  if kind == 'gzip':
    path.write_bytes(gzip.compress(CONTENT, mtime=0))
  elif kind == 'zip':
    _zip(path, {'a.txt': CONTENT})
  else:
    path.write_bytes(CONTENT)
  return path


@pytest.mark.parametrize('kind', ['plain', 'gzip', 'zip'])
def test_content_comes_whole_and_line_by_line(tmp_path, kind):
  path = _packed(tmp_path / 'file', kind)  # the name tells nothing
  name, content = _read(path)
  assert content == CONTENT
  assert name == str(path) + ("!'a.txt'" if kind == 'zip' else '')
  with open_stream(str(path)) as stream:
    assert stream.file.readline() == b'line 0 0\n'
    assert stream.file.readline(4) == b'line'
    assert list(stream.file)[-1] == CONTENT.splitlines(keepends=True)[-1]


@pytest.mark.parametrize(
  'method', [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_other_ways_of_packing_in_zip(tmp_path, method):
  assert _read(_zip(tmp_path / 'z', {'a': CONTENT}, method))[1] == CONTENT


def test_gzip_of_several_parts_is_one_stream(tmp_path):
  path = tmp_path / 'two.gz'
  path.write_bytes(gzip.compress(b'one\n') + gzip.compress(b'two\n'))
  assert _read(path)[1] == b'one\ntwo\n'


def test_a_zip_of_several_needs_a_choice(tmp_path):
  path = _zip(tmp_path / 'z', {'in/50d.txt': b'50', 'in/': b'', '100d.txt': b'100'})
  assert _read(path, '100d.txt')[1] == b'100'
  listing = re.escape("the archive holds 2: 'in/50d.txt', '100d.txt'")
  with pytest.raises(InputError, match=f'z: expected one member, {listing}$'):
    _read(path)
  with pytest.raises(InputError, match=f"expected member '9d', {listing}"):
    _read(path, '9d')
  many = _zip(tmp_path / 'many', {f'{i}\n': b'' for i in range(30)})
  with pytest.raises(InputError, match=r"holds 30: '0\\n'.*, \.\.\.$") as error:
    _read(many)
  assert '\n' not in str(error.value)


def test_what_systems_leave_is_no_choice(tmp_path):
  litter = {'__MACOSX/in/._50d.txt': b'x', 'in/.DS_Store': b'y', 'Thumbs.db': b'z'}
  path = _zip(tmp_path / 'z', {'in/50d.txt': b'50', **litter})
  assert _read(path)[1] == b'50'
  assert _read(path, 'in/.DS_Store')[1] == b'y'


def test_zips_that_hold_nothing_or_a_secret(tmp_path):
  with pytest.raises(InputError, match=r'the archive holds 0: $'):
    _read(_zip(tmp_path / 'empty', {}))
  path = _zip(tmp_path / 'secret', {'a': CONTENT})
  raw = bytearray(path.read_bytes())
  raw[raw.index(b'PK\x01\x02') + 8] |= 1  # the flag of the directory entry
  path.write_bytes(raw)
  with pytest.raises(InputError, match="member 'a' is encrypted"):
    _read(path)


def test_a_way_of_packing_that_nobody_knows(tmp_path):
  path = _zip(tmp_path / 'z', {'a': CONTENT})
  raw = bytearray(path.read_bytes())
  raw[raw.index(b'PK\x01\x02') + 10] = raw[8] = 77  # in both headers
  path.write_bytes(raw)
  with pytest.raises(InputError, match="z!'a': cannot be unpacked: That compression"):
    _read(path)


@pytest.mark.parametrize('kind', ['plain', 'gzip'])
def test_a_member_of_what_is_no_zip(tmp_path, kind):
  path = _packed(tmp_path / 'file', kind)
  with pytest.raises(InputError, match="file: no zip archive, so it has no member 'a'"):
    _read(path, 'a')


def test_files_that_cannot_be_read(tmp_path):
  with pytest.raises(InputError, match='none: cannot be read: No such file'):
    _read(tmp_path / 'none')
  with pytest.raises(InputError, match='cannot be read: Is a directory'):
    _read(tmp_path)


@pytest.mark.parametrize('kind', ['gzip', 'zip'])
def test_cut_short_and_changed(tmp_path, kind):
  path = _packed(tmp_path / 'file', kind)
  raw = path.read_bytes()
  path.write_bytes(raw[: len(raw) // 2])
  with pytest.raises(
    InputError, match=r'file.*: (the packed file is damaged|cannot be)'
  ):
    _read(path)
  # One bit of the checksum, which stands behind the data.
  at = raw.index(b'PK\x01\x02') + 16 if kind == 'zip' else len(raw) - 8
  path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
  with pytest.raises(InputError, match='CRC'):
    _read(path)


@pytest.fixture(scope='module')
def archives(tmp_path_factory):
  folder = tmp_path_factory.mktemp('archives')
  methods = {
    'deflate': zipfile.ZIP_DEFLATED,
    'bzip2': zipfile.ZIP_BZIP2,
    'lzma': zipfile.ZIP_LZMA,
  }
  paths = {k: _zip(folder / k, {'a.txt': CONTENT}, m) for k, m in methods.items()}
  paths['gzip'] = _packed(folder / 'gzip', 'gzip')
  return {kind: path.read_bytes() for kind, path in paths.items()}


@settings(deadline=None, max_examples=300)
@given(
  kind=st.sampled_from(['deflate', 'bzip2', 'lzma', 'gzip']),
  at=st.integers(0, 10_000),
  byte=st.integers(0, 255),
  cut=st.none() | st.integers(0, 10_000),
)
def test_no_damage_is_anything_but_an_input_error(
  tmp_path_factory, archives, kind, at, byte, cut
):
  raw = bytearray(archives[kind])
  raw[at % len(raw)] = byte
  path = tmp_path_factory.getbasetemp() / 'damaged'
  path.write_bytes(raw[: cut % len(raw)] if cut is not None else raw)
  try:
    _, content = _read(path)
  except InputError as e:
    message = str(e)
  else:  # a byte that does not matter, or a plain file by now
    assert content in (CONTENT, path.read_bytes()) or cut is not None
    return
  assert str(path) in message
  assert '\n' not in message


@pytest.mark.parametrize('kind', ['deflate', 'bzip2', 'lzma'])
def test_a_member_without_a_name_is_an_input_error(tmp_path, archives, kind):
  raw = bytearray(archives[kind])
  raw[raw.rindex(b'a.txt')] = 0  # a name ends at its first null
  path = tmp_path / 'damaged'
  path.write_bytes(raw)
  with pytest.raises(InputError, match='damaged'):
    _read(path)


def test_errors_of_the_reader_pass_through(tmp_path):
  path = _packed(tmp_path / 'file', 'plain')
  with pytest.raises(KeyError, match='mine'), open_stream(path) as stream:
    raise KeyError('mine')
  assert stream.file.closed


@pytest.mark.parametrize('kind', ['gzip', 'zip'])
def test_a_bomb_is_read_in_pieces(tmp_path, kind):
  zeros = io.BytesIO()
  with gzip.open(zeros, 'wb') as f:
    for _ in range(64):
      f.write(bytes(1 << 20))
  path = tmp_path / 'bomb'
  if kind == 'gzip':
    path.write_bytes(zeros.getvalue())
  else:
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as z, z.open('a', 'w') as f:
      for _ in range(64):
        f.write(bytes(1 << 20))
  assert path.stat().st_size < 200_000
  with open_stream(path) as stream:
    assert stream.file.readline(1000) == bytes(1000)
  with pytest.raises(InputError, match=r'bomb.*: unpacks to more than 9,999,999 bytes'):
    read(path, 9_999_999)
  assert read(path, 64 << 20) == bytes(64 << 20)
