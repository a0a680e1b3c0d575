"""Known collections of piano rolls, from a folder of the user's; and made-up ones."""

from __future__ import annotations

import pathlib
from typing import NamedTuple

import numpy as np

from seqjax.data.music import LOWEST_NOTE, NUM_KEYS, Roll
from seqjax.types import InputError

FILES = {'jsb': 'JSB_Chorales.mat', 'nottingham': 'Nottingham.mat'}
_PARTS = ('traindata', 'validdata', 'testdata')

_CHORDS = [(0, 4, 7), (5, 9, 12), (7, 11, 14), (9, 12, 16), (2, 5, 9)]  # above C
_NEXT = [(1, 2, 3, 4), (0, 2), (0, 3), (1, 4), (2,)]  # which chords follow which
_MOTIFS = [(0, 1, 2, 1), (2, 2, 1, 0), (0, 2, 1, 2)]  # which of its notes is the tune's


class Rolls(NamedTuple):
  """A collection in its three parts."""

  train: list[Roll]
  validation: list[Roll]
  test: list[Roll]


def load(data_dir: str, name: str) -> Rolls:
  """A collection of Boulanger-Lewandowski et al. 2012, as Bai et al. 2018 hand it on.

  Args:
    data_dir: Folder that holds the MATLAB 5 file, or a folder music/ with it.
    name: 'jsb', chorales in quarter notes; 'nottingham', folk tunes in eighths.

  Raises:
    InputError: The file is missing, or no such file.
  """
  file = FILES[name]
  if not data_dir:
    raise InputError(f'`data_dir` must name the folder that holds music/{file}')
  paths = [pathlib.Path(data_dir, 'music', file), pathlib.Path(data_dir, file)]
  path = next((path for path in paths if path.is_file()), None)
  if path is None:
    raise InputError(f'`data_dir={data_dir}`: expected music/{file} in it')
  import scipy.io  # half a second that other data does without

  try:
    variables = scipy.io.loadmat(path)
  except Exception as error:  # a damaged file raises what its bytes happen to mean
    raise InputError(f'{path}: cannot be read as a MATLAB 5 file: {error}') from error
  return Rolls(*(_part(path, variables, part) for part in _PARTS))


def _part(path: pathlib.Path, variables: dict, part: str) -> list[Roll]:
  cells = variables.get(part)
  if cells is None or cells.dtype != object or not cells.size:
    raise InputError(f'{path}: expected cells {part}, found {", ".join(variables)}')
  rolls = []
  for i, cell in enumerate(cells.ravel()):
    roll = np.asarray(cell)
    if roll.ndim != 2 or roll.shape[1] != NUM_KEYS or not np.isin(roll, (0, 1)).all():
      raise InputError(
        f'{path}: {part} {i} must be [T, {NUM_KEYS}] of 0 and 1, got {roll.dtype} '
        f'{roll.shape}'
      )
    rolls.append(roll.astype(bool))
  return rolls


def synthetic(seed: int, number: int) -> Rolls:
  """Made-up tunes: a chord every four frames, and one of its notes an octave higher.

  Which chord follows is drawn, the tune within a chord is the piece's motif. Drawn from
  RandomState, whose stream NumPy promises for all times.
  """
  rng = np.random.RandomState(seed)
  rolls = []
  for _ in range(number):
    roll = np.zeros((4 * rng.randint(5, 11), NUM_KEYS), bool)
    motif = _MOTIFS[rng.randint(len(_MOTIFS))]
    chord = 0
    for t in range(len(roll)):
      if t and t % 4 == 0:
        chord = _NEXT[chord][rng.randint(len(_NEXT[chord]))]
      notes = np.array(_CHORDS[chord]) + 48 - LOWEST_NOTE
      roll[t, notes] = True
      roll[t, notes[motif[t % 4]] + 12] = True
    rolls.append(roll)
  cuts = int(0.7 * number), int(0.85 * number)
  return Rolls(rolls[: cuts[0]], rolls[cuts[0] : cuts[1]], rolls[cuts[1] :])
