"""Folders that prove to be whole, by the checksums of their files; and a lock.

A folder is filled under a name of its own and sealed: its files and a manifest of their
checksums are forced to disk. Then a rename makes it count.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from seqjax.files import whole
from seqjax.types import CommandError

Checksums = Mapping[str, tuple[int | None, str]]  # name -> bytes (None: any), SHA-256


class DamagedError(Exception):
  """A folder does not hold what was written to it; the message says why."""


def seal(folder: Path, manifest: str, encode: Callable[[Checksums], bytes]) -> None:
  """Forces a filled folder to disk, with a manifest.

  Args:
    folder: The folder, at any depth.
    manifest: Name of the file to write into it.
    encode: Checksums of all files, by path -> the manifest.
  """
  checksums = {}
  for parent, _, names in os.walk(folder, onerror=_raise):
    for name in names:
      path = Path(parent, name)
      checksums[path.relative_to(folder).as_posix()] = _measure(path)
      whole.sync(path)
    whole.sync(parent)
  path = folder / manifest
  with path.open('xb') as file:
    file.write(encode(dict(sorted(checksums.items()))))
  whole.sync(path)
  whole.sync(folder)


def publish(folder: Path, target: Path) -> None:
  """Gives a sealed folder the name under which it counts, and forces that to disk.

  Raises:
    OSError: As the system says it; ENOTEMPTY or EEXIST where the name is taken.
  """
  folder.rename(target)
  whole.sync(target.parent)


def check(folder: Path, expected: Checksums) -> None:
  """Compares the files under a folder with their checksums.

  A file that nobody recorded, say a desktop's thumbnail, does no harm.

  Raises:
    DamagedError: A file is missing, or has another size or content.
  """
  for name, (size, checksum) in expected.items():
    try:
      found_size, found_checksum = _measure(folder / name)
    except (FileNotFoundError, NotADirectoryError) as error:
      raise DamagedError(f'file {name} is missing') from error
    if size not in (None, found_size):
      raise DamagedError(f'file {name} has {found_size} bytes, {size} were written')
    if checksum != found_checksum:
      raise DamagedError(f'file {name} has changed since it was written (SHA-256)')


def lock(descriptor: int) -> None:
  """Takes an open file or folder for this process, until it ends or closes that.

  Raises:
    BlockingIOError: Another one has it.
    OSError: The file system has no locks.
    CommandError: The operating system has none.
  """
  try:
    import fcntl  # here, as Windows does not have it: who only reads needs no lock
  except ImportError as error:
    raise CommandError(
      'a run locks its folder by fcntl.flock, which this system lacks: on Windows '
      'start it in WSL'
    ) from error
  fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _measure(path: Path) -> tuple[int, str]:
  with path.open('rb') as file:
    checksum = hashlib.file_digest(file, 'sha256').hexdigest()
    return file.tell(), checksum


def _raise(error: OSError) -> None:
  """Makes os.walk stop at a folder it cannot list; it would pass over it."""
  raise error
