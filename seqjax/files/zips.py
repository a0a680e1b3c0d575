"""Zip archives that nobody trusts: all members are looked at before one is read.

What could lead out of the archive, hide another member or fill the memory is refused by
its name. Nothing is ever unpacked to a path.
"""

from __future__ import annotations

import contextlib
import lzma
import os
import re
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from seqjax.types import InputError

# What damaged bytes make of zipfile and the decompressors.
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError)

# Deflate can't shrink anything below 1/1032; weights hardly shrink at all.
MAX_EXPANSION = 100
SMALL = 1 << 20  # below this the ratio says nothing: JSON and zeros shrink well

_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the ratio of others has no end
_PLAIN = (0, stat.S_IFREG, stat.S_IFDIR)  # 0 where no Unix made it
_TAIL = 22 + 0xFFFF  # end record and the longest comment
_CHUNK = 1 << 20


@contextlib.contextmanager
def opened(
  path: Path, *, max_expansion: int | None = None
) -> Iterator[zipfile.ZipFile]:
  """The archive at `path`, all of its members checked, none of them read.

  Args:
    path: The archive.
    max_expansion: How many times a member above a MiB may grow; None: as it likes.

  Raises:
    InputError: It is no zip file or damaged, or a member leads out of it, is a link or
      a device, is encrypted, occurs twice, or would grow too much.
  """
  with _readable(path):
    archive = zipfile.ZipFile(path)
  with archive:
    with _readable(path):
      _check_count(archive)
    names: set[str] = set()
    for member in archive.infolist():
      if reason := _refusal(member, max_expansion):
        raise InputError(f'{path}: member {member.orig_filename!r} {reason}')
      if member.filename in names:
        raise InputError(f'{path}: member {member.filename!r} occurs twice')
      names.add(member.filename)
    yield archive


def files(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
  """The members that are no folders."""
  # Not is_dir, which Python 3.11 raises an IndexError in for an empty name.
  return [info for info in archive.infolist() if not info.filename.endswith('/')]


def read(archive: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
  """The content of a member of at most `max_bytes`.

  Raises:
    InputError: There is no such member, or it is larger or damaged.
  """
  member = _member(archive, name, max_bytes)
  with _readable(archive.filename), archive.open(member) as file:
    content = file.read(member.file_size + 1)  # to the end: verifies the checksum
  _check_size(archive, member, len(content))
  return content


@contextlib.contextmanager
def unpacked(
  archive: zipfile.ZipFile, name: str, max_bytes: int
) -> Iterator[IO[bytes]]:
  """A member of at most `max_bytes` as a nameless file on disk that can seek.

  Raises:
    InputError: As `read`.
  """
  member = _member(archive, name, max_bytes)
  with tempfile.TemporaryFile() as copy:
    with _readable(archive.filename), archive.open(member) as file:
      while copy.tell() <= member.file_size and (chunk := file.read(_CHUNK)):
        copy.write(chunk)
    _check_size(archive, member, copy.tell())
    copy.seek(0)
    yield copy


@contextlib.contextmanager
def _readable(path: object) -> Iterator[None]:
  """Turns whatever zipfile raises at damaged bytes into an InputError."""
  try:
    yield
  # ValueError: of a name that is not in its encoding, among others.
  except (*DAMAGE, NotImplementedError, OverflowError, ValueError, OSError) as error:
    reason = ' '.join(str(error).split()) or type(error).__name__
    raise InputError(
      f'{path}: damaged or not a readable zip file: cannot be read: {reason}'
    ) from error


def _check_count(archive: zipfile.ZipFile) -> None:
  """Raises EOFError where zipfile has lost entries of a damaged list in silence."""
  file = archive.fp
  assert file is not None  # for mypy: the archive is open
  file.seek(-min(_TAIL, file.seek(0, os.SEEK_END)), os.SEEK_END)
  tail = file.read()
  where = tail.rindex(b'PK\x05\x06')  # zipfile has found it too
  (stated,) = struct.unpack_from('<H', tail, where + 10)
  held = len(archive.infolist())
  if stated not in (held, 0xFFFF):  # the latter: a zip64 says it elsewhere
    raise EOFError(f'{held} entries instead of {stated}')


def _refusal(member: zipfile.ZipInfo, max_expansion: int | None) -> str:
  """Why a member is not taken; '' if it is."""
  name, kind = member.orig_filename, stat.S_IFMT(member.external_attr >> 16)
  parts = re.split(r'[/\\]', name)
  if not parts[0] or '..' in parts or ':' in name or '\0' in name:
    return 'does not have a plain relative path: it leads out of the archive'
  if kind == stat.S_IFLNK:
    return 'is a link'
  if kind not in _PLAIN:
    return 'is neither a plain file nor a folder'
  if member.flag_bits & 0x1:
    return 'is encrypted'
  if max_expansion is None:
    return ''
  if member.compress_type not in _BOUNDED:
    return f'is compressed by method {member.compress_type}'
  if member.file_size > max(SMALL, max_expansion * member.compress_size):
    return f'would grow from {member.compress_size} to {member.file_size} bytes'
  return ''


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
