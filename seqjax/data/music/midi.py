"""Piano rolls as Standard MIDI Files, and back.

Source: The Complete MIDI 1.0 Detailed Specification, MIDI Manufacturers Association.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import numpy as np

from seqjax.data.music import LOWEST_NOTE, NUM_KEYS, Roll
from seqjax.files import whole
from seqjax.types import InputError

TICKS = 480  # of a beat, a quarter note
_VELOCITY = 80
_MOST_FRAMES = 1 << 20  # of a piece: a damaged file may name any time
_DRUMS = 9  # the channel whose notes are no keys
_SIZES = {0x8: 2, 0x9: 2, 0xA: 2, 0xB: 2, 0xC: 1, 0xD: 1, 0xE: 2}  # bytes of an event


def write(
  path: pathlib.Path, roll: Roll, *, frames_per_beat: int, beats_per_minute: int = 100
) -> None:
  """Writes a roll [T, 88] as a file of one track.

  A key that sounds in frames one after the other is one long note. Frames that are no
  whole ticks begin at the nearest one.

  Raises:
    InputError: The file cannot be written, or frames are shorter than a tick.
  """
  if frames_per_beat > TICKS:
    raise InputError(
      f'`frames_per_beat` must be at most {TICKS}, the ticks of a beat, got '
      f'{frames_per_beat}'
    )
  silence = np.zeros((1, NUM_KEYS), bool)
  change = np.diff(np.concatenate([silence, roll, silence]).astype(np.int8), axis=0)
  track = bytearray(b'\x00\xff\x51\x03')
  track += (60_000_000 // beats_per_minute).to_bytes(3, 'big')
  track += b'\x00\xc0\x00'  # a grand piano
  last = 0
  for frame, key in np.argwhere(change).tolist():
    on = change[frame, key] > 0
    now = round(frame * TICKS / frames_per_beat)
    track += _number(now - last)
    track += bytes([0x90 if on else 0x80, key + LOWEST_NOTE, _VELOCITY if on else 0])
    last = now
  track += b'\x00\xff\x2f\x00'
  header = b''.join(n.to_bytes(2, 'big') for n in (0, 1, TICKS))  # format, tracks
  chunks = ((b'MThd', header), (b'MTrk', bytes(track)))
  content = b''.join(kind + len(c).to_bytes(4, 'big') + c for kind, c in chunks)
  try:
    whole.write(path, content)
  except OSError as error:
    raise InputError(f'{path}: {error.strerror}') from error


def read(path: pathlib.Path, *, frames_per_beat: int) -> Roll:
  """Reads the notes of all tracks, but for drums, as a roll bool [T, 88].

  Beginnings and ends are rounded to whole frames; a note has one at least. What is
  outside of the 88 keys is left out.

  Raises:
    InputError: The file cannot be read, is no MIDI file, or holds no note.
  """
  try:
    content = path.read_bytes()
  except OSError as error:
    raise InputError(f'{path}: {error.strerror}') from error
  try:
    ticks, tracks = _chunks(content)
    notes = [note for track in tracks for note in _notes(track)]
  except (IndexError, KeyError) as error:
    raise InputError(f'{path}: no MIDI file, or a damaged one') from error
  frame = ticks / frames_per_beat
  spans = []
  for key, start, end in notes:
    if LOWEST_NOTE <= key < LOWEST_NOTE + NUM_KEYS:
      first = round(start / frame)
      spans.append((key - LOWEST_NOTE, first, max(round(end / frame), first + 1)))
  if not spans:
    raise InputError(f'{path}: holds no note of the {NUM_KEYS} keys')
  length = max(end for _, _, end in spans)
  if length > _MOST_FRAMES:
    raise InputError(f'{path}: {length:,} frames are more than {_MOST_FRAMES:,}')
  roll = np.zeros((length, NUM_KEYS), bool)
  for key, first, end in spans:
    roll[first:end, key] = True
  return roll


def _number(value: int) -> bytes:
  """In sevens of bits, the highest first, all but the last marked."""
  septets = [value & 0x7F]
  while value := value >> 7:
    septets.append(value & 0x7F | 0x80)
  return bytes(reversed(septets))


def _take_number(data: bytes, at: int) -> tuple[int, int]:
  """The number at a place, and the place behind it.

  Raises:
    KeyError: It has more than the four bytes that the format allows.
  """
  value = 0
  for place in range(at, at + 4):
    value = value << 7 | data[place] & 0x7F
    if data[place] < 0x80:
      return value, place + 1
  raise KeyError


def _chunks(content: bytes) -> tuple[int, list[bytes]]:
  """Ticks of a beat, and the tracks.

  Raises:
    KeyError: It is no such file, or time is in SMPTE frames.
    IndexError: It is cut short.
  """
  ticks, tracks, at = 0, [], 0
  while at < len(content):
    kind, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], 'big')
    chunk = content[at + 8 : at + 8 + size]
    if len(chunk) < size:
      raise IndexError
    if not at:
      ticks = int.from_bytes(chunk[4:6], 'big')
      if kind != b'MThd' or not 0 < ticks < 0x8000:
        raise KeyError(kind)
    elif kind == b'MTrk':
      tracks.append(chunk)
    at += 8 + size
  return ticks, tracks


def _notes(track: bytes) -> Iterator[tuple[int, int, int]]:
  """Yields (MIDI's number, first tick, last tick) of each note of a track."""
  at, now, status = 0, 0, 0
  sounding: dict[tuple[int, int], int] = {}
  while at < len(track):
    passed, at = _take_number(track, at)
    now += passed
    if track[at] >= 0x80:  # else the status of the event before holds on
      status = track[at]
      at += 1
    if status >= 0xF0:  # of the file or of a device: 0xFF has a kind, all have a size
      size, at = _take_number(track, at + (status == 0xFF))
      at += size
      continue
    kind, channel = divmod(status, 16)
    key, velocity = track[at], track[at + _SIZES[kind] - 1]
    at += _SIZES[kind]
    if kind not in (0x8, 0x9) or channel == _DRUMS:
      continue
    begun = sounding.pop((channel, key), None)
    if begun is not None:
      yield key, begun, now
    if kind == 0x9 and velocity:
      sounding[channel, key] = now
  for (_, key), begun in sounding.items():
    yield key, begun, now
