"""MIDI files against bytes written by hand after the specification."""

import numpy as np
import pytest

from seqjax.data.music import midi
from seqjax.types import InputError


def _file(*tracks, division=b'\x00\x60', form=1):
  header = bytes([0, form, 0, len(tracks)]) + division
  chunks = [(b'MThd', header), *((b'MTrk', track) for track in tracks)]
  return b''.join(kind + len(data).to_bytes(4, 'big') + data for kind, data in chunks)


_END = b'\x00\xff\x2f\x00'


def test_what_is_written_is_the_specification_s_bytes(tmp_path):
  roll = np.zeros((3, 88), bool)
  roll[:2, 39] = True  # C4 = 60, two frames
  roll[1, 43] = True  # E4 = 64, the second
  midi.write(tmp_path / 'a.mid', roll, frames_per_beat=2, beats_per_minute=120)
  track = (
    b'\x00\xff\x51\x03\x07\xa1\x20'  # 500,000 microseconds a beat
    b'\x00\xc0\x00'
    b'\x00\x90\x3c\x50'  # C4 on at 0
    b'\x81\x70\x90\x40\x50'  # 240 ticks later E4 on
    b'\x81\x70\x80\x3c\x00\x00\x80\x40\x00'  # both off
  )
  wanted = _file(track + _END, division=b'\x01\xe0', form=0)
  assert (tmp_path / 'a.mid').read_bytes() == wanted


@pytest.mark.parametrize('frames_per_beat', [1, 4, 7, 479, 480])
def test_a_roll_comes_back(tmp_path, frames_per_beat):
  roll = np.random.default_rng(0).random((90, 88)) < 0.3
  roll[-1, 0] = True
  midi.write(tmp_path / 'a.mid', roll, frames_per_beat=frames_per_beat)
  again = midi.read(tmp_path / 'a.mid', frames_per_beat=frames_per_beat)
  np.testing.assert_array_equal(again, roll)


def test_frames_shorter_than_a_tick_are_refused(tmp_path):
  with pytest.raises(InputError, match='`frames_per_beat` must be at most 480, the'):
    midi.write(tmp_path / 'a.mid', np.ones((2, 88), bool), frames_per_beat=481)
  assert not (tmp_path / 'a.mid').exists()


def test_tracks_running_status_and_what_is_no_note(tmp_path):
  meta = b'\x00\xff\x03\x02Hi\x00\xf0\x03\x01\x02\xf7'  # a name, and for a device
  piano = (
    b'\x00\x90\x3c\x40'  # C4 on
    b'\x30\x3c\x00'  # 48 ticks later, same status, velocity 0: off
    b'\x00\xe0\x00\x40\x00\xc0\x05'  # a bend, another instrument
    b'\x00\x90\x3e\x40\x60\x3e\x40'  # D4, struck again 96 ticks later
    b'\x60\x80\x3e\x00'
    b'\x00\x90\x05\x40\x10\x80\x05\x00'  # below the keys
  )
  drums = b'\x00\x99\x24\x7f\x83\x00\x89\x24\x00'
  short = b'\x60\x91\x43\x40\x01\x81\x43\x00'  # G4 at 96, of one tick
  content = _file(meta + piano + _END, drums + _END, short + _END)
  path = tmp_path / 'a.mid'
  path.write_bytes(content + b'XFIH\x00\x00\x00\x01!')  # a chunk of another kind
  roll = midi.read(path, frames_per_beat=2)  # a frame is 48 ticks
  wanted = np.zeros((5, 88), bool)
  wanted[0, 39] = wanted[1:5, 41] = wanted[2, 46] = True
  np.testing.assert_array_equal(roll, wanted)


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'', 'holds no note'),
    (b'RIFF\x00\x00\x00\x00', 'no MIDI file'),
    (_file(_END), 'holds no note'),
    (_file(_END, division=b'\xe7\x28'), 'no MIDI file'),
    (_file(b'\x00\x90\x3c'), 'a damaged one'),
    (_file(b'\x00\x90\x3c\x40')[:-2], 'a damaged one'),
    (_file(b'\x00\x3c\x40'), 'a damaged one'),
    (_file(b'\xff\xff\xff\xff\x7f\x90\x3c\x40'), 'a damaged one'),
    (
      _file(b'\x00\x90\x3c\x40' + 4 * (b'\xff\xff\xff\x7f\x80\x3c\x40') + _END),
      'frames are more than 1,048,576',
    ),
  ],
)
def test_what_is_no_file_of_notes_is_refused_by_name(tmp_path, content, message):
  path = tmp_path / 'odd.mid'
  path.write_bytes(content)
  with pytest.raises(InputError, match=rf'odd\.mid: .*{message}'):
    midi.read(path, frames_per_beat=1)
  with pytest.raises(InputError, match=r'none\.mid: No such file'):
    midi.read(tmp_path / 'none.mid', frames_per_beat=1)
