"""Opens a file as a stream of bytes, packed or not; nothing is unpacked to disk.

Memory stays bounded: a stream is read in pieces by whoever asked for it, so an archive
that would unpack to terabytes costs time and no more.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from seqjax.files import zips
from seqjax.files.litter import is_litter
from seqjax.types import InputError

_BUFFER = 1 << 18
_NAMES_SHOWN = 10


class Stream(NamedTuple):
  """An open stream, and what error messages call it."""

  name: str
  file: io.BufferedReader


@contextlib.contextmanager
def open_stream(
  path: str | os.PathLike[str], member: str | None = None
) -> Iterator[Stream]:
  """Opens a plain, gzip or zip file for reading, told apart by their first bytes.

  Whatever goes wrong with the file inside the `with` block, damage of a packed file
  among it, comes out as InputError.

  Args:
    path: The file.
    member: The file inside a zip archive; None when it has only one, beside what
      systems leave (__MACOSX/, .DS_Store).

  Yields:
    The stream, at its start.

  Raises:
    InputError: The file cannot be read or is damaged, or the member is not there.
  """
  name = os.fspath(path)
  try:
    with contextlib.ExitStack() as stack:
      plain = stack.enter_context(open(path, 'rb'))
      magic = plain.peek(4)[:4]
      packed: BinaryIO
      if magic in (b'PK\x03\x04', b'PK\x05\x06'):
        archive = stack.enter_context(zips.opened(Path(path)))
        info = _pick(archive, member, name)
        name = f'{name}!{info.filename!r}'
        packed = cast(BinaryIO, stack.enter_context(archive.open(info)))
      elif member is not None:
        raise InputError(f'{name}: no zip archive, so it has no member {member!r}')
      elif magic[:2] == b'\x1f\x8b':
        packed = cast(BinaryIO, stack.enter_context(gzip.GzipFile(fileobj=plain)))
      else:
        yield Stream(name, plain)
        return
      # The readline of the packed streams is slow, that of a BufferedReader is not.
      buffered: io.BufferedReader = io.BufferedReader(cast(Any, packed), _BUFFER)
      stack.callback(buffered.close)
      yield Stream(name, buffered)
  except zips.DAMAGE as e:
    raise InputError(
      f'{name}: cannot be read: the packed file is damaged or cut short: {e}'
    ) from e
  except NotImplementedError as e:  # zipfile, on an unknown way of packing
    raise InputError(f'{name}: cannot be unpacked: {e}') from e
  except OSError as e:  # gzip's own error is one too
    raise InputError(f'{name}: cannot be read: {e.strerror or e}') from e


def read(path: str | os.PathLike[str], max_bytes: int) -> bytes:
  """All of a plain, gzip or zip file, as `open_stream` tells them apart.

  Raises:
    InputError: As `open_stream`, or there are more than `max_bytes`.
  """
  content = bytearray()
  with open_stream(path) as stream:
    while piece := stream.file.read(_BUFFER):
      content += piece
      if len(content) > max_bytes:
        raise InputError(f'{stream.name}: unpacks to more than {max_bytes:,} bytes')
  return bytes(content)


def _pick(archive: zipfile.ZipFile, member: str | None, name: str) -> zipfile.ZipInfo:
  """Finds the member asked for, or the only one."""
  infos = zips.files(archive)
  if member is None:
    infos = [info for info in infos if not is_litter(info.filename)]
  chosen = [info for info in infos if member in (None, info.filename)]
  if len(chosen) != 1:
    listing = ', '.join(repr(info.filename) for info in infos[:_NAMES_SHOWN])
    dots = ', ...' if len(infos) > _NAMES_SHOWN else ''
    asked = 'one member' if member is None else f'member {member!r}'
    raise InputError(
      f'{name}: expected {asked}, the archive holds {len(infos)}: {listing}{dots}'
    )
  return chosen[0]
