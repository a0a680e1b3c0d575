"""Collections of piano rolls: the real ones, made-up ones, and files that are none."""

import numpy as np
import pytest
import scipy.io

from seqjax.data.music import rolls
from seqjax.types import InputError


def _save(path, **parts):
  cells = {}
  for name, pieces in parts.items():
    cells[name] = np.empty((1, len(pieces)), object)
    cells[name][0] = [*pieces]
  scipy.io.savemat(path, cells)


def _pieces(seed, *lengths):
  rng = np.random.default_rng(seed)
  return [(rng.random((T, 88)) < 0.1).astype(np.uint8) for T in lengths]


def test_a_file_is_read_piece_by_piece(tmp_path):
  (tmp_path / 'music').mkdir()
  parts = {'traindata': _pieces(0, 5, 3), 'validdata': _pieces(1, 4)}
  parts['testdata'] = _pieces(2, 6, 2, 7)
  for folder in (tmp_path / 'music', tmp_path):
    _save(folder / 'JSB_Chorales.mat', **parts)
    found = rolls.load(str(tmp_path), 'jsb')
    (tmp_path / 'music' / 'JSB_Chorales.mat').unlink(missing_ok=True)
    for got, wanted in zip(found, parts.values(), strict=True):
      assert [roll.dtype for roll in got] == [bool] * len(wanted)
      for a, b in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_no_collection_is_refused_by_name(tmp_path):
  with pytest.raises(
    InputError, match=r'`data_dir` must name .* music/Nottingham\.mat'
  ):
    rolls.load('', 'nottingham')
  with pytest.raises(InputError, match=r'expected music/Nottingham\.mat in it'):
    rolls.load(str(tmp_path), 'nottingham')
  path = tmp_path / 'Nottingham.mat'
  path.write_bytes(b'no such file')
  with pytest.raises(InputError, match='cannot be read as a MATLAB 5 file'):
    rolls.load(str(tmp_path), 'nottingham')
  _save(path, traindata=_pieces(0, 5, 3))
  with pytest.raises(InputError, match='expected cells validdata'):
    rolls.load(str(tmp_path), 'nottingham')
  for odd in (np.ones((3, 87)), np.full((3, 88), 2), np.full((3, 88), np.nan)):
    _save(path, traindata=[*_pieces(0, 5), odd])
    with pytest.raises(InputError, match=r'traindata 1 must be \[T, 88\] of 0 and 1'):
      rolls.load(str(tmp_path), 'nottingham')


def test_made_up_pieces_follow_from_the_seed():
  found, again = rolls.synthetic(0, 20), rolls.synthetic(0, 20)
  assert [len(part) for part in found] == [14, 3, 3]
  for a, b in zip(found.train, again.train, strict=True):
    np.testing.assert_array_equal(a, b)
  assert not np.array_equal(found.train[0][:20], found.train[1][:20])
  for roll in found.train:
    assert set(roll.sum(1)) <= {3, 4}  # a chord, and a note that may be one of it


@pytest.mark.real_data
def test_the_real_collections_have_their_published_sizes(real_data):
  jsb, tunes = (rolls.load(str(real_data), name) for name in ('jsb', 'nottingham'))
  assert [len(part) for part in jsb] == [229, 76, 77]
  assert [len(part) for part in tunes] == [694, 173, 170]
  assert sum(map(len, jsb.train)) == 13_807
  assert max(map(len, tunes.test)) == 1_793
