"""The safetensors format: a length, a JSON header, and arrays one after another.

Source: the format's description at github.com/huggingface/safetensors. The header is
checked against the size of the file before any array is read.
"""

import json
import math
import os
import pathlib
import struct
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from seqjax.interop.weights import MAX_BYTES
from seqjax.types import InputError

MAX_HEADER = 100_000_000  # bytes, the format's own limit
MAX_RANK = 32

_DTYPES = {
  'F64': np.dtype('<f8'),
  'F32': np.dtype('<f4'),
  'F16': np.dtype('<f2'),
  'BF16': np.dtype(jnp.bfloat16),
  'I64': np.dtype('<i8'),
  'I32': np.dtype('<i4'),
  'I16': np.dtype('<i2'),
  'I8': np.dtype('i1'),
  'U64': np.dtype('<u8'),
  'U32': np.dtype('<u4'),
  'U16': np.dtype('<u2'),
  'U8': np.dtype('u1'),
  'BOOL': np.dtype('?'),
}


def read(path: pathlib.Path, *, max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
  """The arrays of a file, in the order of their places in it.

  Raises:
    InputError: if the file is damaged, or its arrays need more than `max_bytes`.
  """
  try:
    with open(path, 'rb') as file:
      size = os.fstat(file.fileno()).st_size
      (length,) = struct.unpack('<Q', file.read(8)) if size >= 8 else (-1,)
      if not 2 <= length <= min(size - 8, MAX_HEADER):
        raise InputError(f'{path}: no safetensors file: its header has {length} bytes')
      if (left := size - 8 - length) > max_bytes:
        raise InputError(f'{path}: {left} bytes, more than the {max_bytes} allowed')
      entries = _entries(path, file.read(length), left)
      arrays = {}
      for name, (dtype, shape) in entries.items():
        array = np.empty(math.prod(shape), dtype)
        if file.readinto(array.view(np.uint8)) != array.nbytes:  # type: ignore[arg-type]
          raise InputError(f'{path}: {name!r} ends early')
        arrays[name] = array.reshape(shape)
      return arrays
  except OSError as error:
    raise InputError(f'{path}: {error.strerror}') from None


def write(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes arrays under their names, in place of what was there.

  Raises:
    InputError: if the file can't be written.
    ValueError: if the format does not have an array's dtype.
  """
  names = {dtype: name for name, dtype in _DTYPES.items()}
  header: dict[str, Any] = {'__metadata__': {'format': 'pt'}}
  contents = []
  offset = 0
  for name, value in arrays.items():
    array = np.ascontiguousarray(value)
    dtype = array.dtype.newbyteorder('<') if array.dtype.kind != 'V' else array.dtype
    if dtype not in names:
      raise ValueError(f'{name!r} is {array.dtype}, which safetensors does not have')
    content = array.astype(dtype, copy=False).tobytes()
    header[name] = {
      'dtype': names[dtype],
      'shape': list(np.shape(value)),
      'data_offsets': [offset, offset + len(content)],
    }
    offset += len(content)
    contents.append(content)
  text = json.dumps(header, separators=(',', ':')).encode()
  text += b' ' * (-len(text) % 8)
  part = path.with_name(f'.{path.name}.{os.getpid()}.part')
  try:
    with open(part, 'wb') as file:
      file.write(struct.pack('<Q', len(text)) + text)
      file.writelines(contents)
    os.replace(part, path)
  except OSError as error:
    raise InputError(f'{path}: cannot be written: {error.strerror}') from None
  finally:
    part.unlink(missing_ok=True)


def _entries(
  path: pathlib.Path, text: bytes, size: int
) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
  """Checked dtypes and shapes, in the order of the data, which they cover exactly."""
  try:
    header = json.loads(text, object_pairs_hook=_unique)
  except (ValueError, RecursionError) as error:
    raise InputError(f'{path}: its header is not readable: {error}') from None
  if not isinstance(header, dict):
    raise InputError(f'{path}: its header is not a JSON object')
  header.pop('__metadata__', None)
  found = {}
  for name, entry in header.items():
    where = f'{path}: {name!r}'
    if not isinstance(entry, dict) or entry.keys() != {
      'dtype',
      'shape',
      'data_offsets',
    }:
      raise InputError(f'{where} needs dtype, shape and data_offsets')
    dtype = _DTYPES.get(entry['dtype']) if isinstance(entry['dtype'], str) else None
    if dtype is None:
      raise InputError(f'{where} has dtype {str(entry["dtype"])[:40]!r}')
    shape, offsets = entry['shape'], entry['data_offsets']
    # Next to a 0 any other size is free in the file, but not in NumPy.
    free = _sizes(shape) and 0 in shape and math.prod(filter(None, shape)) >= 1 << 59
    if not _sizes(shape) or free or not _sizes(offsets) or len(offsets) != 2:
      raise InputError(f'{where} has a shape or data_offsets that are no sizes')
    start, end = offsets
    if end - start != math.prod(shape) * dtype.itemsize or end > size:
      raise InputError(
        f'{where} is {shape} of {dtype}, which is not what lies at {start} to {end} '
        f'of {size} bytes'
      )
    found[name] = (start, end, dtype, tuple(shape))
  order = sorted(found, key=lambda name: found[name][:2])
  position = 0
  for name in order:
    start, position_after = found[name][:2]
    if start != position:
      raise InputError(f'{path}: {name!r} leaves a gap or overlaps at {start}')
    position = position_after
  if position != size:
    raise InputError(f'{path}: {size - position} bytes belong to no array')
  return {name: found[name][2:] for name in order}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  names = dict(pairs)
  if len(names) != len(pairs):
    raise ValueError('a name occurs twice')
  return names


def _sizes(values: Any) -> bool:
  return (
    isinstance(values, list)
    and len(values) <= MAX_RANK
    and all(type(value) is int and 0 <= value < 1 << 63 for value in values)
  )
