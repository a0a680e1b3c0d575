"""Composes with a trained model of music, from nothing or from where a piece ends.

python -m experiments.compose --workdir=RUN --out=FILE.mid
python -m experiments.compose --workdir=RUN --begin=FILE.mid --out=FILE.mid

Beside FILE.mid it leaves FILE.png, the piano roll.
"""

import dataclasses
import math
import pathlib
from typing import Any

import numpy as np

from experiments import experiment
from experiments.sequences import music
from seqjax import config as config_lib
from seqjax.cluster import compilation_cache
from seqjax.config import field
from seqjax.data.music import LOWEST_NOTE, NUM_KEYS, midi
from seqjax.types import InputError
from seqjax.view import console, piano_roll

_PICTURE = '.png'  # beside the music, of the same name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config_lib.Flags):
  """See --help."""

  workdir: str = field('', 'Folder of a run of music.', path=True)
  out: str = field('composed.mid', 'File to write, of MIDI.', path=True)
  begin: str = field('', 'File of MIDI to go on from; default silence.', path=True)
  num_frames: int = field(128, 'Frames to add.', at_least=1)
  temperature: float = field(
    1.0, 'Lower is safer; 0 is the most likely.', at_least=0, below=math.inf
  )
  seed: int = field(0, 'Of the draws.', at_least=0)

  def __post_init__(self) -> None:
    super().__post_init__()
    if pathlib.Path(self.out).suffix.lower() == _PICTURE:
      raise InputError(
        f'`out={self.out}` must not end in {_PICTURE}, as the picture beside it does'
      )


def run(config: Config) -> None:
  """Writes the file and its picture.

  Raises:
    InputError: The run cannot compose, or a file cannot be read or written.
  """
  compilation_cache.use_compilation_cache(None)
  trained = experiment.open_run(config.workdir)
  if not isinstance(trained.task, music.Of):
    raise InputError(
      f'--workdir={config.workdir} is a run of {trained.experiment}, which cannot '
      'compose'
    )
  settings: Any = trained.config
  begin, per_beat = np.zeros((1, NUM_KEYS), bool), settings.frames_per_beat
  if config.begin:
    begin = midi.read(pathlib.Path(config.begin), frames_per_beat=per_beat)
  params = experiment.best_params(trained, begin[None].astype(np.float32))
  made = music.compose(
    settings,
    params,
    begin,
    config.num_frames,
    seed=config.seed,
    temperature=config.temperature,
  )
  roll = np.concatenate([begin, made]) if config.begin else made
  path = pathlib.Path(config.out)
  midi.write(path, roll, frames_per_beat=per_beat)
  picture = path.with_suffix(_PICTURE)
  title = f'{trained.experiment}, {config.num_frames} frames from seed {config.seed}'
  piano_roll.draw({'': roll}, picture, title=title, lowest_note=LOWEST_NOTE)
  console.facts_table({'music': path, 'picture': picture})


if __name__ == '__main__':
  config_lib.main(Config, run)
