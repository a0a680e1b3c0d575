"""Zip archives from strangers: names, sizes and methods checked before reading."""

import contextlib
import pathlib
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO

from seqjax.types import InputError

# Deflate can't shrink anything below 1/1032; weights hardly shrink at all.
MAX_EXPANSION = 100
SMALL = 1 << 20  # below this the ratio says nothing: JSON and zeros shrink well

_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_CHUNK = 1 << 20


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[zipfile.ZipFile]:
  """The archive at `path`, all of its members checked, none of them read.

  Raises:
    InputError: if it is no zip file, or a member leads out of it, is encrypted, occurs
      twice, or would grow more than `MAX_EXPANSION` times.
  """
  with _readable(path):
    archive = zipfile.ZipFile(path)
  with archive:
    seen: set[str] = set()
    for member in archive.infolist():
      _check(path, member)
      if member.filename in seen:
        raise InputError(f'{path}: member {member.filename!r} occurs twice')
      seen.add(member.filename)
    yield archive


def read(archive: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
  """The content of a member of at most `max_bytes`.

  Raises:
    InputError: if there is no such member, or it is larger or damaged.
  """
  member = _member(archive, name, max_bytes)
  with _readable(archive.filename), archive.open(member) as file:
    content = file.read(member.file_size + 1)
  _check_size(archive, member, len(content))
  return content


@contextlib.contextmanager
def unpacked(
  archive: zipfile.ZipFile, name: str, max_bytes: int
) -> Iterator[IO[bytes]]:
  """A member of at most `max_bytes` as a nameless file on disk that can seek.

  Raises:
    InputError: as `read`.
  """
  member = _member(archive, name, max_bytes)
  with tempfile.TemporaryFile() as copy:
    size = 0
    with _readable(archive.filename), archive.open(member) as file:
      while size <= member.file_size and (chunk := file.read(_CHUNK)):
        size += len(chunk)
        copy.write(chunk)
    _check_size(archive, member, size)
    copy.seek(0)
    yield copy


@contextlib.contextmanager
def _readable(path: object) -> Iterator[None]:
  """Turns whatever zipfile raises at damaged bytes into an InputError."""
  try:
    yield
  except (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    ValueError,  # of a name that is not in its encoding, among others
    OSError,
  ) as error:
    reason = ' '.join(str(error).split())
    raise InputError(f'{path}: not a readable zip file: {reason}') from None


def _check(path: pathlib.Path, member: zipfile.ZipInfo) -> None:
  name = member.filename
  where = f'{path}: member {name!r}'
  parts = re.split(r'[/\\]', name)
  if not name or '..' in parts or parts[0] == '' or ':' in name:
    raise InputError(f'{where} has a path that leads out of the archive')
  if member.flag_bits & 0x1:
    raise InputError(f'{where} is encrypted')
  if member.compress_type not in _METHODS:
    raise InputError(f'{where} is compressed by method {member.compress_type}')
  if member.file_size > max(SMALL, MAX_EXPANSION * member.compress_size):
    raise InputError(
      f'{where} would grow from {member.compress_size} to {member.file_size} bytes'
    )


def _member(archive: zipfile.ZipFile, name: str, max_bytes: int) -> zipfile.ZipInfo:
  try:
    member = archive.getinfo(name)
  except KeyError:
    raise InputError(f'{archive.filename}: has no member {name!r}') from None
  if member.file_size > max_bytes:
    raise InputError(
      f'{archive.filename}: member {name!r} has {member.file_size} bytes, more than '
      f'the {max_bytes} allowed'
    )
  return member


def _check_size(archive: zipfile.ZipFile, member: zipfile.ZipInfo, size: int) -> None:
  if size != member.file_size:
    raise InputError(
      f'{archive.filename}: member {member.filename!r} does not have the '
      f'{member.file_size} bytes it declares'
    )
