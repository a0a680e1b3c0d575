"""Picture of music: which keys sound when, or how likely each is to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from seqjax.view import plots

if TYPE_CHECKING:
  from matplotlib.figure import Figure

_NAMES = ['C', 'C#', 'D', 'D#', 'E', 'F', 'F#', 'G', 'G#', 'A', 'A#', 'B']
_MARGIN = 2  # keys shown beside those that sound


def draw(
  rolls: Mapping[str, np.ndarray],
  path: str | os.PathLike[str],
  *,
  title: str,
  lowest_note: int = 21,
) -> Figure:
  """Draws piano rolls one under the other, on the same keys.

  Args:
    rolls: Name -> [T, K] of 0 to 1.
    path: PNG file to write, whole or not at all.
    title: Of what model.
    lowest_note: MIDI's number of the first key; 60 is C4.

  Raises:
    ValueError: There is no roll, or they have not as many keys.
    InputError: The file cannot be written.
  """
  if len({roll.shape[1] for roll in rolls.values()}) != 1:
    shapes = [roll.shape for roll in rolls.values()]
    raise ValueError(f'rolls must be [T, K], at least one, got {shapes}')
  loudest = np.max([roll.max(0) for roll in rolls.values()], axis=0)  # [K]
  keys = np.flatnonzero(loudest >= 0.05)
  K = len(loudest)
  low, high = (keys[0], keys[-1]) if len(keys) else (0, K - 1)
  low, high = max(low - _MARGIN, 0), min(high + _MARGIN, K - 1)
  figure = plots.new_figure(title, width=9.0, height=0.6 + 2.4 * len(rolls))
  panels = figure.subplots(len(rolls), 1, squeeze=False).flat
  for (name, roll), axes in zip(rolls.items(), panels, strict=True):
    axes.imshow(
      roll.T, origin='lower', aspect='auto', cmap='Blues', vmin=0, vmax=1,
      interpolation='nearest',
    )  # fmt: skip
    octaves = [k for k in range(low, high + 1) if (k + lowest_note) % 12 == 0]
    axes.set_yticks(octaves, [note_name(k + lowest_note) for k in octaves])
    axes.set_ylim(low - 0.5, high + 0.5)
    axes.set_title(name, loc='left', fontsize=9)
  axes.set_xlabel('Frame')
  return plots.save(figure, path)


def note_name(note: int) -> str:
  """MIDI's number of a note -> its name: 60 -> 'C4'."""
  return f'{_NAMES[note % 12]}{note // 12 - 1}'
