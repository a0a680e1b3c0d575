"""Folders of saves, each committed whole with a manifest.

A folder is filled under a name that marks it unfinished, then sealed and renamed. Its
manifest is two lines of JSON: the checksum of the second; the record and the files.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import shutil
import tempfile
from typing import Any

from seqjax.files import sealed
from seqjax.files.sealed import DamagedError
from seqjax.types import InputError

UNFINISHED = '.unfinished'  # ends the name of a folder that does not count

_MANIFEST = 'manifest.jsonl'


class SaveError(InputError, OSError):
  """A save did not reach the disk: it is full, gone, or not writable."""


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
