"""TensorBoard's event file: scalars by step, in its format, by the standard library.

A record is its length, its bytes and a CRC32C of each; the bytes are a protocol buffer,
`Event`. Of that are written here the fields below, by their numbers. Source:
tensorflow/core/lib/io/record_writer.h, util/event.proto and framework/summary.proto.
"""

import struct
import time
from collections.abc import Callable, Mapping

_WALL_TIME, _STEP, _FILE_VERSION, _SUMMARY, _SESSION_LOG = 1, 2, 3, 5, 7  # of Event
_VALUE = 1  # of Summary
_TAG, _SIMPLE_VALUE = 1, 2  # of Value
_STATUS, _START = 1, 1  # of SessionLog
_LARGEST = 3.4028234663852886e38  # float32


def file_name() -> str:
  """A name for a new file: TensorBoard reads files in the order of their names."""
  now = time.time_ns()
  return f'events.out.tfevents.{now // 10**9}.{now % 10**9:09d}'


class Events:
  """Events of one start of a run, written in the caller's thread."""

  def __init__(self, write: Callable[[bytes], None], first_step: int):
    """Begins a file.

    Args:
      write: Appends to it.
      first_step: What an earlier start wrote for this step and later ones is hidden.
    """
    self._write = write
    self._add(0, _bytes(_FILE_VERSION, b'brain.Event:2'))
    self._add(first_step, _bytes(_SESSION_LOG, _varint(_STATUS << 3) + _varint(_START)))

  def scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Adds values by their tags."""
    values = b''
    for tag, value in scalars.items():
      value = min(max(value, -_LARGEST), _LARGEST)
      number = _varint(_SIMPLE_VALUE << 3 | 5) + struct.pack('<f', value)
      values += _bytes(_VALUE, _bytes(_TAG, tag.encode()) + number)
    if values:
      self._add(step, _bytes(_SUMMARY, values))

  def _add(self, step: int, field: bytes) -> None:
    now = _varint(_WALL_TIME << 3 | 1) + struct.pack('<d', time.time())
    data = now + _varint(_STEP << 3) + _varint(step) + field
    length = struct.pack('<Q', len(data))
    self._write(b''.join((length, _checksum(length), data, _checksum(data))))


def _varint(number: int) -> bytes:
  """A whole number from 0, seven bits a byte, the lowest first."""
  encoded = bytearray()
  while number > 127:
    encoded.append(number & 127 | 128)
    number >>= 7
  return bytes([*encoded, number])


def _bytes(field: int, data: bytes) -> bytes:
  """A field that holds bytes, or another message."""
  return _varint(field << 3 | 2) + _varint(len(data)) + data


def _crc32c_table() -> list[int]:
  table = []
  for byte in range(256):
    for _ in range(8):
      byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    table.append(byte)
  return table


_TABLE = _crc32c_table()


def _checksum(data: bytes) -> bytes:
  """CRC32C (Castagnoli), rotated and shifted as the record format has it."""
  crc = 0xFFFFFFFF
  for byte in data:
    crc = _TABLE[(crc ^ byte) & 255] ^ crc >> 8
  crc ^= 0xFFFFFFFF
  return struct.pack('<I', ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
