"""Runs a suite of experiments with several seeds, and tabulates what comes out.

python -m experiments.reproduce --suite=text --seeds=3 --data_dir=DIR --workdir=DIR

Each run is the command a user would give, in a process of its own: nothing of one run
can reach the next, and one that fails takes nothing else with it. Kill the suite and
start it again: finished runs are skipped, the one that was cut goes on. After each run
table.md and table.json are written anew, with a picture of each experiment's curves;
the output of a run is in console.log of its folder.
"""

import dataclasses
import importlib
import json
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

from experiments.suites import rows as suites
from experiments.suites import tables
from seqjax import config as config_lib
from seqjax import workdir
from seqjax.cluster import signals
from seqjax.config import TrainConfig, field
from seqjax.train import FREE_FIELDS
from seqjax.types import CommandError, InputError
from seqjax.view import console

_FLAGS = pathlib.Path(__file__).parent / 'flags'
_QUICK = ('--dataset=synthetic', '--num_epochs=1')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config_lib.Flags):
  """See --help."""

  suite: str = field('text', f'Which experiments: {", ".join(suites.SUITES)}.')
  seeds: int = field(3, 'Seeds 0, 1, ... of each experiment.', at_least=1)
  only: str = field('', 'Rows of the suite to run, by name, with commas; default all.')
  data_dir: str = field('', 'Folder of the real data.')
  cache_dir: str = field('', 'Folder of prepared data, as for the experiments.')
  workdir: str = field('', 'Folder of runs and tables; default runs/<suite>.')
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
  folder = pathlib.Path(config.workdir or f'runs/{config.suite}').absolute()
  failed = []
  with workdir.lock(folder):
    for row in rows:
      seeds = max(config.seeds, row.fewest)
      for seed in range(seeds if row.most is None else min(seeds, row.most)):
        place = folder / row.name / f'seed{seed}'
        if row.name in names and not _run(config, row, seed, place):
          failed.append(str(place.relative_to(folder)))
        tables.write(folder, config.suite, rows)
      tables.draw(folder, row)
  print((folder / tables.MARKDOWN).read_text())
  console.facts_table({'table': folder / tables.MARKDOWN, 'pictures': folder / '*.png'})
  if failed:
    raise CommandError(f'failed: {", ".join(failed)}; see console.log there')


def _run(config: Config, row: suites.Row, seed: int, place: pathlib.Path) -> bool:
  """Runs one experiment unless it is finished; returns whether it ended well."""
  arguments = [
    f'--flagfile={_FLAGS / row.name}.flags',
    *row.flags,
    *(_QUICK if config.quick else ()),
    f'--seed={seed}',
    f'--data_dir={config.data_dir and pathlib.Path(config.data_dir).absolute()}',
    f'--cache_dir={config.cache_dir and pathlib.Path(config.cache_dir).absolute()}',
    f'--workdir={place}',
  ]
  label = f'{row.name} seed {seed}'
  if (place / 'result.json').exists():
    module = importlib.import_module(f'experiments.{row.experiment}')
    _check_settings(place, config_lib.parse(module.Config, arguments))
    print(f'{label}: {_numbers(row, place)}, done before', flush=True)
    return True
  place.mkdir(parents=True, exist_ok=True)
  command = [sys.executable, '-m', f'experiments.{row.experiment}', *arguments]
  start = time.monotonic()
  code = _wait(command, place, label)
  seconds = console.format_seconds(time.monotonic() - start)
  if code == 0:
    print(f'{label}: {_numbers(row, place)}, {seconds}', flush=True)
    return True
  last = (place / 'console.log').read_text(errors='replace').strip().splitlines()[-1:]
  print(f'{label}: exit code {code} after {seconds}: {"".join(last)}', flush=True)
  return False


def _wait(command: list[str], place: pathlib.Path, label: str) -> int:
  """Runs a command to its end; hands SIGTERM and Ctrl-C on, and then exits itself."""
  with signals.catch() as stop, (place / 'console.log').open('ab') as log:
    # A session of its own: Ctrl-C reaches the run once, by us.
    process = subprocess.Popen(
      command,
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.STDOUT,
      start_new_session=True,
      env={**os.environ, 'PYTHONUNBUFFERED': '1'},
    )
    try:
      while process.poll() is None:
        time.sleep(0.1)
        if stop:
          process.terminate()
          process.wait()
    except KeyboardInterrupt:  # a second Ctrl-C: the run is not to be waited for
      process.kill()
      process.wait()
    if stop:
      print(f'{stop.name}: {label} is cut; the same command goes on from there')
      sys.exit(stop.exit_code)
    return process.returncode


def _check_settings(place: pathlib.Path, wanted: TrainConfig) -> None:
  """Raises InputError if a finished run had other settings than it would have now."""
  found = workdir.read_config(place)['config']
  changed = [
    f'{name} {json.dumps(found.get(name))} -> {json.dumps(value)}'
    for name, value in dataclasses.asdict(wanted).items()
    if name not in FREE_FIELDS and found.get(name) != value
  ]
  if changed:
    raise InputError(
      f'{place} holds a run of other settings: {", ".join(changed)}; remove it, or use '
      'another --workdir'
    )


def _numbers(row: suites.Row, place: pathlib.Path) -> str:
  result: dict[str, Any] = json.loads((place / 'result.json').read_text())
  return ', '.join(
    f'{tables.label(number.metric)} '
    f'{console.format_value(tables.value(result, number.metric))}'
    for number in row.numbers
  )


if __name__ == '__main__':
  config_lib.main(Config, run)
