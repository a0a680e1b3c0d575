"""Keeps folders and arrays under a key, each whole or not at all.

An entry is a folder. Its name holds a digest of all that determines its content, so a
changed setting is another entry and nothing ever has to be invalidated. It is built
beside its place and renamed into it, so no reader and no crash sees half of one; and it
carries the SHA-256 of its files, so damage on the disk is found and built anew.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import pathlib
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from seqjax.files import sealed
from seqjax.types import InputError

_MANIFEST = 'entry.json'
_PART = '.part-'
_STALE_SECONDS = 24 * 3600
_PUBLISH_ATTEMPTS = 5

_log = logging.getLogger(__name__)


def arrays(
  root: pathlib.Path,
  kind: str,
  fields: Mapping[str, object],
  build: Callable[[], Mapping[str, np.ndarray]],
) -> dict[str, np.ndarray]:
  """Returns the arrays kept under a key, or builds and keeps them.

  Args:
    root: The cache's folder, from `default_root`.
    kind: Readable beginning of the entry's name: 'imdb'.
    fields: Everything that determines the arrays, as JSON values; a version of the
      code that builds them among it.
    build: Makes the arrays when there is no intact entry.

  Returns:
    The arrays by name, verified against their checksums when they were read.

  Raises:
    InputError: The cache cannot be written, or its disk is full. (What `build` raises
      passes through, an OSError excepted: that is taken for the cache's.)
  """
  built: dict[str, np.ndarray] = {}

  def write(part: pathlib.Path) -> None:
    built.update(build())
    for name, array in built.items():
      _write_array(part / f'{name}.npy', array)

  entry = folder(root, kind, fields, write)
  if not built:
    for path in sorted(entry.glob('*.npy')):
      built[path.stem] = np.load(path, allow_pickle=False)
  return built


def folder(
  root: pathlib.Path,
  kind: str,
  fields: Mapping[str, object],
  build: Callable[[pathlib.Path], None],
) -> pathlib.Path:
  """Returns the folder kept under a key, verified, or builds and keeps it.

  Args:
    root, kind, fields: As for `arrays`.
    build: Fills the empty folder it is given.

  Returns:
    The entry's folder; nobody may write into it.

  Raises:
    InputError: As for `arrays`.
  """
  text = json.dumps(fields, sort_keys=True)
  content = json.loads(text)
  target = root / f'{kind}-{hashlib.sha256(text.encode()).hexdigest()[:20]}'
  if target.exists():
    damage = _damage(target, content)
    if damage is None:
      return target
    _log.warning('%s is damaged (%s) and is built again', target, damage)

  def encode(checksums: sealed.Checksums) -> bytes:
    files = {name: checksum for name, (_, checksum) in checksums.items()}
    return json.dumps({'fields': content, 'files': files}, indent=1).encode()

  with _writing(root):
    root.mkdir(parents=True, exist_ok=True)
    _remove_stale(root)
    part = root / f'{_PART}{uuid.uuid4().hex}'
    part.mkdir()
    try:
      build(part)
      sealed.seal(part, _MANIFEST, encode)
      _publish(part, target, content)
    finally:
      shutil.rmtree(part, ignore_errors=True)  # after a success it is not there
  return target


def default_root(cache_dir: str = '') -> pathlib.Path:
  """The cache's folder: the given one, or the user's own, which may not exist yet."""
  if cache_dir:
    return pathlib.Path(cache_dir).absolute()
  # The XDG base directory specification: a relative path is to be ignored.
  base = pathlib.Path(os.environ.get('XDG_CACHE_HOME', ''))
  if base.is_absolute():
    return base / 'seqjax'
  try:
    return pathlib.Path.home() / '.cache' / 'seqjax'
  except RuntimeError as e:
    raise InputError('no home folder to cache in: give one with `cache_dir`') from e


def _damage(target: pathlib.Path, fields: object) -> str | None:
  """What is wrong with an entry; None when it is intact."""
  try:
    manifest = json.loads((target / _MANIFEST).read_bytes())
    if manifest['fields'] != fields:
      return f'{_MANIFEST} is of other data'
    files = {name: (None, checksum) for name, checksum in manifest['files'].items()}
    sealed.check(target, files)
  except (OSError, sealed.DamagedError) as e:
    return str(e)
  except (ValueError, KeyError, TypeError, AttributeError):
    return f'{_MANIFEST} cannot be read'
  return None


@contextlib.contextmanager
def _writing(root: pathlib.Path) -> Iterator[None]:
  """Turns the system's errors into one line that names the argument."""
  try:
    yield
  except OSError as e:
    if e.errno in (errno.ENOSPC, errno.EDQUOT):
      raise InputError(
        f'`cache_dir`: the disk of {root} is full: free some space, or give a folder '
        'on another disk'
      ) from e
    raise InputError(
      f'`cache_dir`: cannot write to {root} ({e}): give a folder that can be written'
    ) from e


def _write_array(path: pathlib.Path, array: np.ndarray) -> None:
  """Writes an .npy file; numpy's own writer loses the errno of a full disk."""
  array = np.asarray(array, order='C')
  with path.open('wb') as file:
    header = np.lib.format.header_data_from_array_1_0(array)
    np.lib.format.write_array_header_1_0(file, header)
    file.write(array.reshape(-1).view(np.uint8).data)


def _publish(part: pathlib.Path, target: pathlib.Path, fields: object) -> None:
  """Renames a built entry into its place, unless another process was quicker."""
  for attempt in range(_PUBLISH_ATTEMPTS):
    try:
      sealed.publish(part, target)
      return
    except OSError as e:
      taken = e.errno in (errno.ENOTEMPTY, errno.EEXIST)
      if not taken or attempt == _PUBLISH_ATTEMPTS - 1:
        raise
    if _damage(target, fields) is None:
      return
    away = target.with_name(f'{part.name}-damaged')
    with contextlib.suppress(FileNotFoundError):  # another process moved it away
      target.rename(away)
    shutil.rmtree(away, ignore_errors=True)  # else _remove_stale does it, in a day


def _remove_stale(root: pathlib.Path) -> None:
  """Removes what killed processes left behind, once nobody can be working on it."""
  for path in root.glob(f'{_PART}*'):
    with contextlib.suppress(FileNotFoundError):  # its owner has just renamed it
      if time.time() - path.stat().st_mtime > _STALE_SECONDS:
        shutil.rmtree(path, ignore_errors=True)
