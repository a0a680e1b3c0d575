"""Folders of saves: each is committed whole with a manifest, and read if it is intact.

A folder is filled under a name that marks it unfinished, then sealed and renamed. Its
manifest is two lines of JSON: the checksum of the second; the record and the files.
Damage is noticed by the manifest's own checksum, those of the files, and those of the
leaves once they are read; then the save before it is taken.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from seqjax.files import sealed
from seqjax.files.sealed import DamagedError
from seqjax.types import InputError, PyTree
from seqjax.workdir import leaves, storage

UNFINISHED = '.unfinished'  # ends the name of a folder that does not count

FORMAT = 1
_MANIFEST = 'manifest.jsonl'
_FOLDER = re.compile(r'(\d{6,})-step\d+')  # number of the save, then the step
# What was saved, path -> kind -> (template of what is wanted, beginning of its paths).
Choose = Callable[[dict[str, str]], tuple[PyTree, str]]


class Restored(NamedTuple):
  """What `Checkpoints.save` was given."""

  step: int
  state: PyTree  # each leaf of the kind, dtype, shape and place of the template's
  progress: dict[str, Any]


class UnreadableError(Exception):
  """The files are intact and Orbax fails: its version, most likely."""


class SaveError(InputError, OSError):
  """A save did not reach the disk: it is full, gone, or not writable."""


class LostError(SaveError):
  """A save did not reach the disk: another process was lost, or a device.

  Nothing is wrong with what was handed in: the run may be started again.
  """

  exit_code = 1


def prepare(directory: pathlib.Path) -> None:
  """Makes `directory` if need be, and removes what a kill left unfinished in it.

  Only for who holds the workdir (`folder.lock`): it would remove what another run is
  writing.

  Raises:
    InputError: the directory cannot be made or written.
  """
  try:
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=directory):
      pass
    for path in directory.glob(f'*{UNFINISHED}'):
      shutil.rmtree(path)
  except OSError as error:
    raise InputError(
      f'{directory}: expected a folder that can be written to: {one_line(error)}'
    ) from error


def commit(
  unfinished: pathlib.Path, final: pathlib.Path, record: dict[str, Any]
) -> None:
  """Forces a filled folder to disk, with a manifest, and gives it its final name.

  The manifest holds `record` and the size and SHA-256 of each file.
  """

  def encode(files: sealed.Checksums) -> bytes:
    body = json.dumps({**record, 'files': files}).encode()
    return _seal(body) + body

  sealed.seal(unfinished, _MANIFEST, encode)
  sealed.publish(unfinished, final)


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


def saves(directory: pathlib.Path) -> dict[int, pathlib.Path]:
  """Returns the folders of all saves by number, damaged or not, oldest first."""
  matches = (_FOLDER.fullmatch(path.name) for path in directory.glob('*-step*'))
  return dict(sorted((int(m[1]), directory / m[0]) for m in matches if m))


def newest(
  directory: pathlib.Path,
  choose: Choose,
  thread: concurrent.futures.Executor,
  reject: Callable[[str, Exception], None],
  *,
  only_best: bool,
) -> Restored | None:
  """Reads the newest save that can be; `reject` is told of each before it.

  Args:
    directory: Of the saves.
    choose: From what was saved (path -> kind) to a template of what is wanted, and
      what the paths of its leaves begin with; the others are not returned.
    thread: Where Orbax is called.
    reject: Takes the name of a save, and why it is not used.
    only_best: Whether none but those called best count.
  """
  for folder in reversed(saves(directory).values()):
    try:
      manifest = read_manifest(folder)
      if manifest['best'] or not only_best:
        state = _read(folder, manifest, choose, thread)
        return Restored(manifest['step'], state, manifest['progress'])
    except (DamagedError, OSError, UnreadableError) as error:
      reject(folder.name, error)
  return None


def _read(
  folder: pathlib.Path,
  manifest: dict[str, Any],
  choose: Choose,
  thread: concurrent.futures.Executor,
) -> PyTree:
  """Loads one save; raises DamagedError, OSError, UnreadableError or InputError."""
  if manifest['format'] != FORMAT:
    raise InputError(f'{folder}: format {manifest["format"]}, expected {FORMAT}')
  sealed.check(folder, manifest['files'])
  kinds = {path: kind for path, (kind, _) in manifest['leaves'].items()}
  template, only = choose(kinds)
  expected = leaves.by_path(template)
  ours = {path: kind for path, kind in kinds.items() if path.startswith(only)}
  if wrong := leaves.mismatches(ours, expected):
    raise InputError(f'{folder}: the model has changed: {wrong}')
  like = {path: leaves.described(kind) for path, kind in kinds.items()}
  try:
    values = thread.submit(storage.read, folder / 'state', like).result()
  except Exception as error:
    raise UnreadableError(
      f'the files of {folder.name} are as they were written, but '
      f'{storage.VERSION} cannot read them: {one_line(error)}'
    ) from error
  arrays = [leaves.put_like(values[path], leaf) for path, leaf in expected.items()]
  state = jax.tree.unflatten(jax.tree.structure(template), arrays)
  for path, checksum in leaves.leaf_digests(state).items():
    if checksum != manifest['leaves'][path][1]:
      raise DamagedError(f'leaf {path} differs from what was saved (SHA-256)')
  return state


def is_best(folder: pathlib.Path) -> bool:
  try:
    return bool(read_manifest(folder)['best'])
  except DamagedError:
    return False


def remove(folder: pathlib.Path) -> None:
  """Deletes a committed folder; a kill meanwhile leaves it whole or unfinished."""
  shutil.rmtree(folder.rename(folder.with_name(folder.name + UNFINISHED)))


def one_line(error: BaseException) -> str:
  """Returns what an error says, of however many lines, as one of bearable length."""
  text = ' '.join(str(error).split()) or type(error).__name__
  if code := re.search(r"os_error_code='(\d+)'", text):
    return os.strerror(int(code[1]))  # TensorStore buries a full disk in 20 lines
  return text if len(text) <= 300 else f'{text[:100]} ... {text[-200:]}'


def _seal(body: bytes) -> bytes:
  """The first of the two lines of JSON: the checksum of the second."""
  return json.dumps({'sha256': hashlib.sha256(body).hexdigest()}).encode() + b'\n'
