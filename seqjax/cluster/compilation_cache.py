"""Compiled programs kept on disk, in a folder that nobody else can write to."""

import contextlib
import hashlib
import itertools
import logging
import math
import os
import platform
import stat
import time
import zlib
from pathlib import Path

import jax
import jaxlib

from seqjax.data import cache
from seqjax.fast.cpu import build
from seqjax.types import InputError

_WRITE_SECONDS = 60.0  # an entry younger than this may still be under way
_MARK = 'looked-at'  # its date: older entries are whole
_MOST_BYTES = 256 << 20
_CPUINFO = Path('/proc/cpuinfo')
_SAME_ON_ALL_CORES = (
  b'vendor_id', b'cpu family', b'model', b'flags',
  b'CPU implementer', b'CPU architecture', b'CPU variant', b'CPU part', b'Features',
)  # fmt: skip
_ZSTANDARD = b'\x28\xb5\x2f\xfd'  # the other format, where its package is installed

_log = logging.getLogger(__name__)


def use_compilation_cache(folder: str | None) -> None:
  """Makes JAX look for compiled programs in `folder`, and keep new ones there.

  A program is code that will be run: whoever can write to the folder can run what they
  like as this user. It is of one kind of processor, one JAX and one build of the
  kernels, and so each of these has a folder of its own within.

  JAX writes an entry in place and never again: one that a kill cut short would be
  refused with a warning, and its program compiled, at every start. Such entries are
  removed here. Each is looked at once: a file in the folder dates the last look. Beyond
  256 MiB the oldest entries go.

  Args:
    folder: None for `programs/` in the user's cache, unless JAX has been told of one
      already ($JAX_COMPILATION_CACHE_DIR) or there can be none, which is said in a
      line; '' leaves JAX as it is.

  Raises:
    InputError: `folder` is not this user's alone, or cannot be made.
  """
  if folder is None:
    if jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
      return
    try:
      use_compilation_cache(str(cache.default_root() / 'programs'))
    except InputError as error:
      _log.info('compiled programs are not kept: %s', error)
    return
  if not folder:
    return
  if not hasattr(os, 'getuid'):
    raise InputError('`compilation_cache` needs files that have owners: not on Windows')
  root = Path(folder).absolute()
  path = root / _kind()
  for private in (root, path):
    _make_private(private)
  _remove_cut_entries(path)
  _remove_oldest_entries(root)
  jax.config.update('jax_compilation_cache_dir', str(path))
  # JAX would keep what took it a second, which no small model's programs do.
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)


def _make_private(folder: Path) -> None:
  """Makes a folder that is open to its owner alone, or raises InputError."""
  try:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
  except OSError as error:
    raise InputError(f'`compilation_cache` {folder}: {error.strerror}') from error
  if not stat.S_ISDIR(status.st_mode):
    raise InputError(f'`compilation_cache` {folder} must be a folder')
  if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
    raise InputError(
      f'`compilation_cache` {folder} must be open to its owner alone (chmod 700), as '
      f'it holds programs that are run; its mode is {stat.S_IMODE(status.st_mode):o}'
    )


def _kind() -> str:
  """Names all that a compiled program depends on, beside what JAX looks at itself."""
  kernels = [build.FOLDER / build.file_name(name) for name in build.builds()]
  parts = [
    f'{jax.__version__} {jaxlib.__version__}'.encode(),
    _processor(),
    *(path.read_bytes() if path.exists() else b'none' for path in kernels),
  ]
  digests = b''.join(hashlib.sha256(part).digest() for part in parts)
  return f'jax-{jax.__version__}-{hashlib.sha256(digests).hexdigest()[:16]}'


def _processor() -> bytes:
  """The processor's model and what it can do: XLA compiles for just these."""
  try:
    with _CPUINFO.open('rb') as file:  # up to the end of the first processor
      lines = list(itertools.takewhile(bytes.strip, file))
  except OSError:  # not on Linux
    return f'{platform.machine()} {platform.processor()}'.encode()
  return b''.join(line for line in lines if line.startswith(_SAME_ON_ALL_CORES))


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


def _remove_oldest_entries(root: Path) -> None:
  """Removes the oldest entries of all kinds, until the rest is small enough."""
  ages = []
  for entry in root.glob('*/*-cache'):
    with contextlib.suppress(FileNotFoundError):
      ages.append((entry.stat().st_mtime, entry.stat().st_size, entry))
  surplus = sum(size for _, size, _ in ages) - _MOST_BYTES
  for _, size, entry in sorted(ages):
    if surplus <= 0:
      break
    entry.unlink(missing_ok=True)
    surplus -= size


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
