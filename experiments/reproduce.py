"""Runs a suite of experiments with several seeds, and tabulates what comes out.

python -m experiments.reproduce --suite=text --seeds=3 --data_dir=DIR --workdir=DIR

Each run is the command a user would give, in a process of its own; where it is faster
one trains all seeds of a row. Nothing of one can reach the next, and one that fails
takes nothing else with it. Kill the suite and start it again: finished runs are
skipped, what was cut goes on. After each, table.md and table.json are written anew, and
a picture of each experiment's curves; its output is in console.log of its folder.
"""

import dataclasses
import pathlib

from experiments.suites import rows as suites
from experiments.suites import runs
from seqjax import config as config_lib
from seqjax.config import field
from seqjax.types import InputError

_QUICK = ('--dataset=synthetic', '--num_epochs=1', '--warmup_steps=0')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config_lib.DataConfig):
  """See --help."""

  suite: str = field('text', f'Which experiments: {", ".join(suites.SUITES)}.')
  seeds: int = field(3, 'Seeds 0, 1, ... of each experiment.', at_least=1)
  seeds_at_once: bool | None = field(
    None, 'Train the seeds of a row at once; default where that was measured faster.'
  )
  only: str = field('', 'Rows of the suite to run, by name, with commas; default all.')
  workdir: str = field(
    '', 'Folder of runs and tables; default runs/<suite>.', path=True
  )
  quick: bool = field(False, 'One epoch on generated data: to try the suite.')


def run(config: Config) -> None:
  """Runs what is not finished, and writes the tables.

  Raises:
    InputError: The suite or a row is unknown, or a folder holds a run of other
      settings.
    CommandError: Runs failed; the others are done and tabulated.
    SystemExit: 75 after SIGTERM, 130 after Ctrl-C; the run under way is saved.
  """
  if config.suite not in suites.SUITES:
    known = ', '.join(suites.SUITES)
    raise InputError(f'--suite must be one of {known}, got {config.suite!r}')
  rows = suites.SUITES[config.suite]
  names = config.only.split(',') if config.only else [row.name for row in rows]
  for name in names:
    if name not in {row.name for row in rows}:
      known = ', '.join(row.name for row in rows)
      raise InputError(f'--only: {name!r} is no row of {config.suite}; it has {known}')
  places = {
    name: value and str(pathlib.Path(value).absolute())
    for name, value in (('data_dir', config.data_dir), ('cache_dir', config.cache_dir))
  }

  def num_seeds(row: suites.Row) -> int:
    seeds = max(config.seeds, row.fewest)
    return min(seeds, row.most or seeds) if row.name in names else 0

  def arguments(row: suites.Row) -> list[str]:
    return [
      f'--flagfile={runs.FLAGS / row.name}.flags',
      *row.flags,
      *(_QUICK if config.quick else ()),
      *(f'--{name}={value}' for name, value in places.items()),
    ]

  folder = pathlib.Path(config.workdir or f'runs/{config.suite}').absolute()
  at_once = config.seeds_at_once
  runs.run(folder, config.suite, rows, num_seeds, arguments, at_once)


if __name__ == '__main__':
  config_lib.main(Config, run)
