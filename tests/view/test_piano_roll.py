"""Piano rolls: names of notes, which keys are shown, and what is refused."""

import numpy as np
import pytest

from seqjax.view import piano_roll


def test_notes_have_the_names_of_the_keys():
  found = [piano_roll.note_name(note) for note in (21, 59, 60, 61, 69, 108)]
  assert found == ['A0', 'B3', 'C4', 'C#4', 'A4', 'C8']


def test_all_rolls_show_the_keys_that_sound_in_one(tmp_path):
  high, low = np.zeros((5, 88)), np.zeros((9, 88))
  high[2, 51], low[3, 39], low[4, 20] = 1, 0.5, 0.04  # the last is too soft to see
  rolls = {'a': high, 'b': low}
  figure = piano_roll.draw(rolls, tmp_path / 'a.png', title='Test')
  for axes, roll in zip(figure.axes, (high, low), strict=True):
    assert axes.get_ylim() == (36.5, 53.5)
    assert [label.get_text() for label in axes.get_yticklabels()] == ['C4', 'C5']
    np.testing.assert_array_equal(axes.get_images()[0].get_array(), roll.T)


def test_rolls_of_other_keys_are_refused(tmp_path):
  for rolls in ({}, {'a': np.zeros((3, 88)), 'b': np.zeros((3, 87))}):
    with pytest.raises(ValueError, match=r'rolls must be \[T, K\]'):
      piano_roll.draw(rolls, tmp_path / 'a.png', title='Test')
  piano_roll.draw({'': np.zeros((3, 88))}, tmp_path / 'a.png', title='Silence')
  assert (tmp_path / 'a.png').read_bytes()[:4] == b'\x89PNG'
