"""The safetensors format: a length, a JSON header, and arrays one after another.

The library of that name reads; it holds the header against the file before any array is
read. Files are written here, for the library sorts arrays by name, and their order is
the model's. Source: the format's description at github.com/huggingface/safetensors.
"""

import json
import pathlib
import struct
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from seqjax.interop.files import replacing
from seqjax.interop.libraries import library
from seqjax.interop.weights import MAX_BYTES
from seqjax.types import InputError


def read(path: pathlib.Path, *, max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
  """The arrays of a file, in the order of their places in it.

  Raises:
    InputError: if the file is damaged, or its arrays need more than `max_bytes`.
    ImportError: if the safetensors library is not installed.
  """
  peer = library('safetensors')
  arrays = {}
  try:
    with peer.safe_open(path, framework='numpy') as file:
      _check_header(path, max_bytes)
      for name in file.offset_keys():
        stored = file.get_slice(name)
        where = f'{path}: {name!r} is {stored.get_dtype()} of {stored.get_shape()}'
        try:
          arrays[name] = file.get_tensor(name)
        except (AttributeError, TypeError, ValueError):
          raise InputError(f'{where}, which NumPy does not have') from None
  except OSError as error:
    raise InputError(f'{path}: {error.strerror or error}') from None
  except peer.SafetensorError as error:
    reason = ' '.join(str(error).split())
    raise InputError(f'{path}: no readable safetensors file: {reason}') from None
  return arrays


def write(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes arrays under their names, in place of what was there.

  Raises:
    InputError: if the file can't be written.
    ValueError: if the format does not have an array's dtype.
  """
  header: dict[str, Any] = {'__metadata__': {'format': 'pt'}}
  contents = []
  offset = 0
  for name, value in arrays.items():
    array = np.asarray(value)
    dtype = array.dtype
    if dtype == jnp.bfloat16:
      code = 'BF16'
    elif dtype == np.bool_:
      code = 'BOOL'
    elif dtype.kind in 'fiu' and dtype.itemsize <= 8:
      code = f'{dtype.kind.upper()}{8 * dtype.itemsize}'
      array = array.astype(dtype.newbyteorder('<'), copy=False)
    else:
      raise ValueError(f'{name!r} is {dtype}, which safetensors does not have')
    contents.append(array.tobytes())
    end = offset + array.nbytes
    header[name] = {'dtype': code, 'shape': array.shape, 'data_offsets': [offset, end]}
    offset = end
  text = json.dumps(header, separators=(',', ':')).encode()
  text += b' ' * (-len(text) % 8)
  with replacing(path) as part, open(part, 'wb') as file:
    file.write(struct.pack('<Q', len(text)) + text)
    file.writelines(contents)


def _check_header(path: pathlib.Path, max_bytes: int) -> None:
  """Refuses what the library lets pass; its own checks come before."""
  with open(path, 'rb') as file:
    (length,) = struct.unpack('<Q', file.read(8))
    try:
      header = json.loads(file.read(length), object_pairs_hook=_unique)
    except ValueError as error:
      raise InputError(f'{path}: its header is not readable: {error}') from None
  size = path.stat().st_size - 8 - length
  if size > max_bytes:
    raise InputError(f'{path}: {size} bytes, more than the {max_bytes} allowed')
  header.pop('__metadata__', None)
  for name, entry in header.items():
    if entry.keys() != {'dtype', 'shape', 'data_offsets'}:
      raise InputError(f'{path}: {name!r} needs dtype, shape and data_offsets')


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  names = dict(pairs)
  if len(names) != len(pairs):
    raise ValueError('a name occurs twice')
  return names
