"""Compiled programs kept on disk, in a folder that nobody else can write to."""

import contextlib
import math
import os
import stat
import time
import zlib
from pathlib import Path

import jax

from seqjax.types import InputError

_WRITE_SECONDS = 60.0  # an entry younger than this may still be under way
_MARK = 'looked-at'  # its date: older entries are whole
_ZSTANDARD = b'\x28\xb5\x2f\xfd'  # the other format, where its package is installed


def use_compilation_cache(folder: str) -> None:
  """Makes JAX look for compiled programs in `folder`, and keep new ones there.

  A program is code that will be run: whoever can write to the folder can run what they
  like as this user. '' leaves JAX as it is.

  JAX writes an entry in place and never again: one that a kill cut short would be
  refused with a warning, and its program compiled, at every start. Such entries are
  removed here. Each is looked at once: a file in the folder dates the last look.

  Raises:
    InputError: the folder is not this user's alone, or cannot be made.
  """
  if not folder:
    return
  if not hasattr(os, 'getuid'):
    raise InputError('`compilation_cache` needs files that have owners: not on Windows')
  path = Path(folder)
  try:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.stat()
  except OSError as error:
    raise InputError(f'`compilation_cache` {folder}: {error.strerror}') from error
  if not stat.S_ISDIR(status.st_mode):
    raise InputError(f'`compilation_cache` {folder} must be a folder')
  if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
    raise InputError(
      f'`compilation_cache` {folder} must be open to its owner alone (chmod 700), as '
      f'it holds programs that are run; its mode is {stat.S_IMODE(status.st_mode):o}'
    )
  _remove_cut_entries(path)
  jax.config.update('jax_compilation_cache_dir', str(path.absolute()))


def _remove_cut_entries(folder: Path) -> None:
  """Removes what a kill cut short, of the entries that no start has looked at yet."""
  mark, until = folder / _MARK, time.time() - _WRITE_SECONDS
  since = mark.stat().st_mtime if mark.exists() else -math.inf
  for entry in folder.glob('*-cache'):
    with contextlib.suppress(FileNotFoundError):  # another process was quicker
      if since <= entry.stat().st_mtime < until and not _is_whole(entry):
        entry.unlink()
  with contextlib.suppress(OSError):  # a full disk: the next start looks once more
    mark.touch()
    os.utime(mark, (until, until))


def _is_whole(entry: Path) -> bool:
  """Whether a compressed entry has its end; those of zstandard are taken to have it."""
  unpack = zlib.decompressobj()
  try:
    with entry.open('rb') as file:
      while block := file.read(1 << 20):
        if block.startswith(_ZSTANDARD) and file.tell() == len(block):
          return True
        # The end alone counts: what is unpacked is dropped, a piece at a time.
        while block:
          unpack.decompress(block, 1 << 20)
          block = unpack.unconsumed_tail
  except zlib.error:
    return False
  return unpack.eof
