"""Reads the files of a tar, a zip or a folder, as a stream and without trusting it.

Nothing is ever unpacked to disk. Each member is looked at before its bytes are used:
what could not be a plain file of a data set (a link, a device, a path that leads out of
the archive, a second file of the same name, too many bytes) is refused by its name.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import os
import pathlib
import tarfile
from collections.abc import Callable, Iterator
from typing import IO, NoReturn

from seqjax.files import zips
from seqjax.files.litter import is_litter, log_skipped
from seqjax.types import InputError

MIB = 2**20

_MAX_FILES = 200_000  # the published IMDB archive has 100,019
_MAX_UNPACKED = 2048 * MIB  # a whole tar, skipped members included
_MAX_GAP = 256 * MIB  # between two headers; tarfile holds long ones in memory
_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 128 * _BLOCK


def read_files(
  path: pathlib.Path,
  select: Callable[[str], bool],
  *,
  max_file: int = MIB,
  max_total: int = 512 * MIB,
) -> Iterator[tuple[str, bytes]]:
  """Yields the selected files of an archive or a folder, each name at most once.

  What the archive is, is told by its content, not by its name. What systems leave
  beside files (.DS_Store, ._*, Thumbs.db, ...) is skipped, counted and logged.

  Args:
    path: A tar, a gzipped tar, a zip, or a folder. The names in a folder begin with
      the folder's own name, as they would in an archive of it.
    select: Called with the name of each file ('aclImdb/train/neg/0_3.txt'); it may
      raise InputError itself where a name has no place in the layout.
    max_file: Most bytes a selected file may have.
    max_total: Most bytes all selected files may have together.

  Yields:
    Name and content: in the archive's order; of a folder its own files by name, then
    those of each folder in it.

  Raises:
    InputError: The archive cannot be read, is damaged or cut short, or holds something
      that is refused; the message has its name. Damage may show only at the end: use
      nothing of what was yielded before the last item came.
  """
  reader = {'folder': _read_folder, 'zip': _read_zip}.get(kind := _kind(path))
  guard = _Guard(path, select, max_file, max_total)
  try:
    yield from reader(path, guard) if reader else _read_tar(path, guard, kind)
    log_skipped(path, guard.litter)
  except InputError:
    raise
  except OSError as e:  # the disk, and gzip.BadGzipFile
    raise InputError(f'{path}: cannot be read: {e}') from e
  except (*zips.DAMAGE, tarfile.TarError, ValueError, OverflowError) as e:
    reason = str(e) or type(e).__name__
    raise InputError(f'{path}: damaged or cut short: {reason}') from e


def identity(path: pathlib.Path, select: Callable[[str], bool]) -> str:
  """Names the content that `read_files` would yield, to key a cache with.

  An archive is named by the SHA-256 of its bytes. A folder is named by the names,
  sizes and times of change of its selected files: reading 50,000 files would be slow.
  """
  digest = hashlib.sha256()
  try:
    if path.is_dir():
      for name, entry in _walk(path):
        if not is_litter(name) and select(name):
          s = entry.stat()
          line = (name, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
          digest.update(f'{line!a}\n'.encode())
      return f'folder:{digest.hexdigest()}'
    with path.open('rb') as file:
      return f'sha256:{hashlib.file_digest(file, "sha256").hexdigest()}'
  except OSError as e:
    raise InputError(f'{path}: cannot be read: {e}') from e


@dataclasses.dataclass
class _Guard:
  """Looks at every member of one archive before it is used."""

  path: pathlib.Path
  select: Callable[[str], bool]
  max_file: int
  max_total: int
  total: int = 0
  seen: set[str] = dataclasses.field(default_factory=set)
  litter: list[str] = dataclasses.field(default_factory=list)

  def check_name(self, name: str) -> str:
    """Returns the name without './', or refuses it."""
    parts = [part for part in name.split('/') if part not in ('', '.')]
    if name.startswith('/') or '..' in parts or '\\' in name or '\0' in name:
      self.refuse(name, 'does not have a plain relative path')
    return '/'.join(parts)

  def admit(self, name: str, size: int) -> bool:
    """True when a file is selected; refuses what must not be there.

    Args:
      name: As `check_name` returned it.
      size: Bytes that the archive says the file has.
    """
    if name in self.seen:
      self.refuse(name, 'occurs twice')
    self.seen.add(name)
    if len(self.seen) > _MAX_FILES:
      raise InputError(f'{self.path}: holds more than {_MAX_FILES:,} files')
    if size < 0:
      self.refuse(name, f'has {size} bytes')
    if is_litter(name):
      self.litter.append(name)
      return False
    if not self.select(name):
      return False
    if size > self.max_file:
      self.refuse(name, f'has {size:,} bytes, more than {self.max_file:,}')
    self.total += size
    if self.total > self.max_total:
      self.refuse(name, f'brings the total above {self.max_total:,} bytes')
    return True

  def refuse(self, name: str, reason: str) -> NoReturn:
    """Raises the error about one member."""
    raise InputError(f'{self.path}: member {name!r} {reason}')


def _kind(path: pathlib.Path) -> str:
  """'folder', 'zip', 'gzip' or 'tar', by content."""
  if path.is_dir():
    return 'folder'
  try:
    with path.open('rb') as file:
      head = file.read(_BLOCK)
  except OSError as e:
    raise InputError(f'{path}: cannot be read: {e}') from e
  if head[:2] == b'PK':
    return 'zip'
  if head[:2] == b'\x1f\x8b':
    return 'gzip'
  if head[257:262] == b'ustar':
    return 'tar'
  raise InputError(f'{path}: expected a tar, tar.gz or zip archive, or a folder')


class _Counted:
  """A stream that tarfile reads from: counts, bounds, and remembers the last chunk."""

  def __init__(self, file: IO[bytes], path: pathlib.Path):
    self._file = file
    self._path = path
    self._position = 0
    self._last = b''
    self.header = 0  # where the current member begins

  def read(self, size: int) -> bytes:
    self._last = self._file.read(size)
    self._position += len(self._last)
    if self._position > _MAX_UNPACKED:
      raise InputError(f'{self._path}: unpacks to more than {_MAX_UNPACKED:,} bytes')
    if self._position - self.header > _MAX_GAP:
      raise InputError(
        f'{self._path}: more than {_MAX_GAP:,} bytes follow on the header at byte '
        f'{self.header:,} of the unpacked archive before the next'
      )
    return self._last

  def block_at(self, offset: int) -> bytes:
    """The block at an offset that lies in the last chunk."""
    start = offset - (self._position - len(self._last))
    return self._last[start : start + _BLOCK] if start >= 0 else b''


def _read_tar(
  path: pathlib.Path, guard: _Guard, kind: str
) -> Iterator[tuple[str, bytes]]:
  opener = gzip.open if kind == 'gzip' else open
  # gzip.open and not tarfile's own 'r|gz', which does not verify gzip's checksum.
  with opener(path, 'rb') as file:
    stream = _Counted(file, path)  # type: ignore[arg-type]  # opener's union type
    with tarfile.open(fileobj=stream, mode='r|', bufsize=_CHUNK) as tar:  # type: ignore[call-overload]  # any object with read() will do
      while (member := tar.next()) is not None:
        stream.header = member.offset
        tar.members.clear()  # tarfile would keep all headers
        name = guard.check_name(member.name)
        if member.islnk() or member.issym():
          guard.refuse(member.name, 'is a link')
        if member.isdir():
          continue
        if not member.isreg() or member.issparse():
          guard.refuse(member.name, 'is neither a plain file nor a folder')
        if guard.admit(name, member.size):
          content = tar.extractfile(member)
          assert content is not None  # for mypy: it is a plain file
          yield name, content.read()
      # tarfile takes any block that is no header for the end, damaged ones too.
      if stream.block_at(tar.offset) != bytes(_BLOCK):
        raise EOFError(f'no end mark at byte {tar.offset:,} of the unpacked archive')
      stream.header = tar.offset
      while stream.read(_CHUNK):  # to the end, where gzip's checksum is
        pass


def _read_zip(path: pathlib.Path, guard: _Guard) -> Iterator[tuple[str, bytes]]:
  with zips.opened(path) as archive:
    for info in zips.files(archive):
      name = guard.check_name(info.filename)
      if guard.admit(name, info.file_size):
        yield name, zips.read(archive, info.filename, info.file_size)


def _read_folder(path: pathlib.Path, guard: _Guard) -> Iterator[tuple[str, bytes]]:
  for name, entry in _walk(path):
    size = entry.stat().st_size
    if guard.admit(guard.check_name(name), size):
      with open(entry.path, 'rb') as file:
        content = file.read(size + 1)
      if len(content) != size:
        guard.refuse(name, 'changes while it is read')
      yield name, content


def _walk(path: pathlib.Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
  """Yields name and entry of each file below a folder, sorted; refuses the rest."""
  todo = [(path.name, str(path))]
  while todo:
    prefix, folder = todo.pop()
    with os.scandir(folder) as entries:
      content = sorted(entries, key=lambda entry: entry.name)
    below = []
    for entry in content:
      name = f'{prefix}/{entry.name}'
      if entry.is_symlink():
        raise InputError(f'{path}: {name!r} is a link')
      if entry.is_dir():
        below.append((name, entry.path))
      elif entry.is_file():
        yield name, entry
      else:
        raise InputError(f'{path}: {name!r} is neither a plain file nor a folder')
    todo += reversed(below)
