"""Files that are whole or as they were before, whenever a process or a machine dies."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_IS_WINDOWS = os.name == 'nt'


def write(path: Path, data: bytes) -> None:
  """Writes a file so that its path holds the old bytes or the new, never a part.

  Only one process at a time may write to a path. What a kill leaves of a new file is
  used up by the next write.

  Raises:
    OSError: As the system says it; the old file is untouched.
  """
  with replacing(path, path.with_name(f'.{path.name}.tmp')) as part:
    part.write_bytes(data)


@contextlib.contextmanager
def replacing(path: Path, part: Path | None = None) -> Iterator[Path]:
  """Yields a path to write a file to, which then takes the place of `path`.

  After an error within there is no new file, and the old one is as it was.

  Args:
    path: Of the file; several processes may write to it, the last one wins.
    part: What to yield, in the same folder; None for a name of this process alone.
  """
  part = part or path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    yield part
    sync(part)
    os.replace(part, path)
  finally:
    part.unlink(missing_ok=True)  # gives a full disk its space back
  sync(path.parent)


def sync(path: str | os.PathLike[str]) -> None:
  """Forces a file to disk, or the names in a folder: new files and renames."""
  if _IS_WINDOWS and os.path.isdir(path):
    return  # Windows opens no folders; its file system keeps their names by itself
  descriptor = os.open(path, os.O_RDWR if _IS_WINDOWS else os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
