"""Folders that prove to be whole: checksums of files, a sealed manifest, a lock.

A folder is filled under a name that marks it unfinished, then committed: its files are
forced to disk, a manifest records their checksums and, in its first line, that of its
own second line, and a rename makes the folder count.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
import tempfile
from typing import Any

from seqjax.types import InputError

UNFINISHED = '.unfinished'  # ends the name of a folder that does not count

_MANIFEST = 'manifest.jsonl'
_BLOCK = 1 << 20  # bytes read at a time


class SaveError(InputError, OSError):
  """A save did not reach the disk: it is full, gone, or not writable."""


class DamagedError(Exception):
  """A folder does not hold what was written to it; the message says why."""


def take(directory: pathlib.Path) -> int:
  """Makes `directory` if need be, and takes it for this process alone.

  What another process left unfinished, when it was killed, is removed.

  Returns:
    A descriptor. Closing it gives the directory back, as does the end of the process.

  Raises:
    InputError: the directory cannot be made or written, or another process has it.
  """
  try:
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=directory):
      pass
    descriptor = _lock(directory)
    try:
      for path in directory.glob(f'*{UNFINISHED}'):
        shutil.rmtree(path)
    except OSError:
      os.close(descriptor)
      raise
  except BlockingIOError as error:
    raise InputError(
      f'{directory}: another run is writing here; end it or choose another folder'
    ) from error
  except OSError as error:
    raise InputError(
      f'{directory}: expected a folder that can be written to: {one_line(error)}'
    ) from error
  return descriptor


def commit(
  unfinished: pathlib.Path, final: pathlib.Path, record: dict[str, Any]
) -> None:
  """Forces a filled folder to disk, with a manifest, and gives it its final name.

  The manifest holds `record` and the size and SHA-256 of each file.
  """
  files = {}
  for parent, _, names in os.walk(unfinished, onerror=_raise):
    for name in names:
      path = pathlib.Path(parent, name)
      files[path.relative_to(unfinished).as_posix()] = _measure(path, sync=True)
    _sync_folder(parent)
  body = json.dumps({**record, 'files': files}).encode()
  with (unfinished / _MANIFEST).open('xb') as file:
    file.write(_seal(body) + body)
    file.flush()
    os.fsync(file.fileno())
  _sync_folder(unfinished)
  unfinished.rename(final)
  _sync_folder(final.parent)


def read_manifest(folder: pathlib.Path) -> dict[str, Any]:
  """Returns the record that `folder` was committed with, and its 'files'.

  Raises:
    DamagedError: the manifest is missing or is not, bit for bit, what was written.
  """
  try:
    raw = (folder / _MANIFEST).read_bytes()
  except (FileNotFoundError, NotADirectoryError) as error:
    raise DamagedError(f'file {_MANIFEST} is missing') from error
  cut = raw.find(b'\n') + 1
  if raw[:cut] != _seal(raw[cut:]):  # before the parser sees a byte of it
    raise DamagedError(f'file {_MANIFEST} has changed since it was written (SHA-256)')
  return json.loads(raw[cut:])


def check_files(folder: pathlib.Path, expected: dict[str, list[Any]]) -> None:
  """Compares the files under `folder` with the 'files' of its manifest.

  A file that nobody recorded, say a desktop's thumbnail, does no harm.

  Raises:
    DamagedError: a file is missing, or has another size or content.
  """
  for name, (size, checksum) in expected.items():
    try:
      found_size, found = _measure(folder / name)
    except (FileNotFoundError, NotADirectoryError) as error:
      raise DamagedError(f'file {name} is missing') from error
    if found_size != size:
      raise DamagedError(f'file {name} has {found_size} bytes, {size} were written')
    if found != checksum:
      raise DamagedError(f'file {name} has changed since it was written (SHA-256)')


def remove(folder: pathlib.Path) -> None:
  """Deletes a committed folder; a kill meanwhile leaves it whole or unfinished."""
  shutil.rmtree(folder.rename(folder.with_name(folder.name + UNFINISHED)))


def one_line(error: BaseException) -> str:
  """Returns what an error says, of however many lines, as one of bearable length."""
  text = ' '.join(str(error).split()) or type(error).__name__
  if code := re.search(r"os_error_code='(\d+)'", text):
    return os.strerror(int(code[1]))  # TensorStore buries a full disk in 20 lines
  return text if len(text) <= 300 else f'{text[:100]} ... {text[-200:]}'


def _lock(directory: pathlib.Path) -> int:
  """Returns a descriptor that holds a lock; raises BlockingIOError if it is taken."""
  descriptor = os.open(directory, os.O_RDONLY)
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    os.close(descriptor)
    raise
  except OSError:
    pass  # Some network file systems have no locks: there the user must take care.
  return descriptor


def _sync_folder(folder: str | os.PathLike) -> None:
  """Forces the names in `folder`, that is new files and renames, to disk."""
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def _seal(body: bytes) -> bytes:
  """The first of the two lines of JSON: the checksum of the second."""
  return json.dumps({'sha256': hashlib.sha256(body).hexdigest()}).encode() + b'\n'


def _measure(path: pathlib.Path, *, sync: bool = False) -> list[Any]:
  total, size = hashlib.sha256(), 0
  with path.open('rb') as file:
    while block := file.read(_BLOCK):
      total.update(block)
      size += len(block)
    if sync:
      os.fsync(file.fileno())
  return [size, total.hexdigest()]


def _raise(error: OSError) -> None:
  """Makes os.walk stop at a folder it cannot list; it would pass over it."""
  raise error
