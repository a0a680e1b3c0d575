"""Runs an experiment over a grid of settings, with several seeds, and names the best.

python -m experiments.sweep --experiment=imdb_lstm --grid=learning_rate=1e-3,3e-3 \
  --grid=features=16,32 --seeds=3 --data_dir=DIR --workdir=DIR

Each combination is a folder of runs, started, skipped and resumed as those of
`reproduce`; table.md holds mean and spread of each, and sweep.png draws them.
"""

import dataclasses
import importlib
import itertools
import json
import pathlib

import numpy as np

from experiments.suites import runs, tables
from experiments.suites.rows import Number, Row
from seqjax import config as config_lib
from seqjax.config import field
from seqjax.training.plan import is_higher_better
from seqjax.types import InputError
from seqjax.view import comparisons

_MOST = 1_000  # combinations: more are a slip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config_lib.DataConfig):
  """See --help."""

  experiment: str = field('', 'The experiment, as in its command: imdb_lstm.')
  grid: tuple[str, ...] = field((), 'FLAG=VALUE,VALUE,...; may be given again.')
  flags: tuple[str, ...] = field(
    (), 'FLAG=VALUE of all runs, on top of the flag file of the experiment; again.'
  )
  metric: str = field(
    '',
    "Of result.json; default the best epoch's validation accuracy, else its loss."
    ' min: or max: in front says which is better, where its name does not.',
  )
  seeds: int = field(3, 'Seeds 0, 1, ... of each combination.', at_least=1)
  seeds_at_once: bool | None = field(
    None, 'Train the seeds of a combination at once; default on accelerators.'
  )
  workdir: str = field('', 'Folder of runs and tables; default runs/sweep.', path=True)


def run(config: Config) -> None:
  """Runs what is not finished, and writes the table and the picture.

  Raises:
    InputError: The experiment or a flag of the grid is unknown, or a value is refused.
    CommandError: Runs failed; the others are done and tabulated.
  """
  try:
    module = importlib.import_module(f'experiments.{config.experiment}')
    kind = module.Config
  except (ModuleNotFoundError, AttributeError, ValueError) as error:
    raise InputError(
      f'`experiment` must be one of experiments/, got {config.experiment!r}'
    ) from error
  base = [f'--{flag}' for flag in config.flags]
  file = runs.FLAGS / f'{config.experiment}.flags'
  if file.exists():
    base.insert(0, f'--flagfile={file}')
  for name in ('data_dir', 'cache_dir'):
    if value := getattr(config, name):
      base.append(f'--{name}={pathlib.Path(value).absolute()}')
  parsed = config_lib.parse(kind, base)
  metric = config.metric or (
    'best.val_accuracy' if hasattr(parsed, 'vocab_size') else 'best.val_loss'
  )
  with_direction, metric = metric, metric.removeprefix('min:').removeprefix('max:')
  name = metric.split('.')[-1].removeprefix('val_').removeprefix('test_')
  higher = is_higher_better(name if with_direction == metric else with_direction)
  rows = []
  for choice in combinations(config.grid):
    flags = tuple(f'--{name}={value}' for name, value in choice)
    config_lib.parse(kind, [*base, *flags])  # all are looked at before any runs
    name = ','.join(f'{name}={value}' for name, value in choice).replace('/', '_')
    rows.append(Row(name, config.experiment, (Number(metric),), flags))
  folder = pathlib.Path(config.workdir or 'runs/sweep').absolute()
  try:
    runs.run(
      folder,
      f'{config.experiment} sweep',
      rows,
      lambda row: config.seeds,
      lambda row: [*base, *row.flags],
      config.seeds_at_once,
    )
  finally:
    _show(folder, metric, higher)


def combinations(grid: tuple[str, ...]) -> list[tuple[tuple[str, str], ...]]:
  """('a=1,2', 'b=3') -> [(('a', '1'), ('b', '3')), (('a', '2'), ('b', '3'))].

  Raises:
    InputError: A part is no FLAG=VALUE,..., or a flag comes twice.
  """
  axes: dict[str, list[tuple[str, str]]] = {}
  for part in grid:
    name, equals, values = part.partition('=')
    chosen = values.split(',')
    if not (name and equals and all(chosen)) or name in axes:
      raise InputError(f'`grid` must be FLAG=VALUE,VALUE,... once a flag, got {part!r}')
    axes[name] = [(name, value) for value in chosen]
  if not axes:
    raise InputError('`grid` is empty: give FLAG=VALUE,VALUE,...')
  choices = list(itertools.product(*axes.values()))
  if len(choices) > _MOST:
    raise InputError(f'`grid` has {len(choices)} combinations, more than {_MOST}')
  return choices


def _show(folder: pathlib.Path, metric: str, higher: bool) -> None:
  """Draws the combinations, and prints which is the best so far."""
  path = folder / tables.JSON
  entries = json.loads(path.read_text())['rows'] if path.exists() else []
  if not entries:
    return
  values = {entry['name']: list(entry['values'].values()) for entry in entries}
  label = tables.label(metric)
  comparisons.groups(values, folder / 'sweep.png', title=folder.name, xlabel=label)
  sign = 1 if higher else -1
  best = max(values, key=lambda name: sign * float(np.mean(values[name])))
  print(f'best {label}: {best}, {np.mean(values[best]):.4f}', flush=True)


if __name__ == '__main__':
  config_lib.main(Config, run)
