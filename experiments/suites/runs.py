"""Runs many experiments, each in a process of its own, and tabulates what comes out.

What is finished is skipped, and what was cut goes on: `reproduce` and `sweep` differ in
the rows that they hand over.
"""

import dataclasses
import importlib
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from experiments.suites import tables
from experiments.suites.rows import Row
from seqjax import config as config_lib
from seqjax import workdir
from seqjax.cluster import signals
from seqjax.config import TrainConfig
from seqjax.train import FREE_FIELDS
from seqjax.types import CommandError, InputError
from seqjax.view import console

FLAGS = pathlib.Path(__file__).parents[1] / 'flags'  # what an experiment is run with


def run(
  folder: pathlib.Path,
  suite: str,
  rows: Sequence[Row],
  num_seeds: Callable[[Row], int],
  arguments: Callable[[Row], Sequence[str]],
  at_once: bool | None = None,
) -> None:
  """Runs what is not finished, and writes the tables and pictures.

  Args:
    folder: Of the runs, ROW/seedS or ROW/seeds/S, and the tables.
    suite: Its name.
    rows: All of them, for the tables.
    num_seeds: Row -> how many seeds, 0 for none now.
    arguments: Row -> flags of its runs, but for seed and workdir.
    at_once: Whether the seeds of a row are trained at once; None: on accelerators, and
      on a CPU those of rows that say so.

  Raises:
    InputError: A folder holds a run of other settings.
    CommandError: Runs failed; the others are done and tabulated.
    SystemExit: 75 after SIGTERM, 130 after Ctrl-C; the run under way is saved.
  """
  failed = []
  everywhere = _has_accelerator() if at_once is None else at_once
  with workdir.lock(folder):
    for row in rows:
      together = everywhere or (at_once is None and row.at_once)
      for seeds in _groups(folder, row, num_seeds(row), arguments(row), together):
        failed += _run(folder, row, seeds, arguments(row))
        tables.write(folder, suite, rows)
      tables.draw(folder, row)
  print((folder / tables.MARKDOWN).read_text())
  console.facts_table({'table': folder / tables.MARKDOWN, 'pictures': folder / '*.png'})
  if failed:
    raise CommandError(f'failed: {", ".join(failed)}; see console.log there')


def _groups(
  folder: pathlib.Path, row: Row, number: int, flags: Sequence[str], at_once: bool
) -> list[list[int]]:
  """The seeds that are not finished, those in a list that are trained at once.

  Raises:
    InputError: A finished run had other settings.
  """
  done = tables.finished(folder, row.name)
  groups: list[list[int]] = []
  kind = importlib.import_module(f'experiments.{row.experiment}').Config
  try:
    config_lib.parse(kind, [*flags, '--num_seeds=2'])
  except InputError:  # the run says it, too, where it is no matter of seeds
    at_once = False

  def is_alone(seed: int) -> bool:
    return (folder / row.name / f'seed{seed}').exists()

  for seed in range(number):
    if seed in done:
      _check_settings(done[seed], config_lib.parse(kind, [*flags, f'--seed={seed}']))
      numbers = _numbers(row, done[seed])
      print(f'{row.name} seed {seed}: {numbers}, done before', flush=True)
    elif (
      at_once
      and groups
      and groups[-1][-1] == seed - 1
      and not is_alone(seed - 1)  # what was begun alone goes on alone
      and not is_alone(seed)
    ):
      groups[-1].append(seed)
    else:
      groups.append([seed])
  return groups


def _has_accelerator() -> bool:
  """Asked of another process: this one must leave a device's memory to the runs."""
  code = 'import jax; print(jax.default_backend())'
  command = [sys.executable, '-c', code]
  process = subprocess.run(command, capture_output=True, text=True)
  if process.returncode:
    raise InputError(
      f'JAX cannot start here: {process.stderr.strip().splitlines()[-1]}'
    )
  return process.stdout.split()[-1] != 'cpu'


def _run(
  folder: pathlib.Path, row: Row, seeds: Sequence[int], flags: Sequence[str]
) -> list[str]:
  """Runs an experiment with some seeds, at once; returns the folders of those it fails.

  They lie in ROW/seeds/S; one by itself, unless it was begun there, in ROW/seedS.
  """
  first, count = seeds[0], len(seeds)
  of = folder / row.name
  places = {seed: of / workdir.SEEDS / str(seed) for seed in seeds}
  run_folder, label = of, f'{row.name} seeds {first} to {seeds[-1]}'
  if count == 1:
    if not places[first].exists():
      places[first] = of / f'seed{first}'
    run_folder, label = places[first], f'{row.name} seed {first}'
  arguments = [*flags, f'--seed={first}', f'--workdir={run_folder}']
  if count > 1:
    arguments.append(f'--num_seeds={count}')
  run_folder.mkdir(parents=True, exist_ok=True)
  command = [sys.executable, '-m', f'experiments.{row.experiment}', *arguments]
  start = time.monotonic()
  code = _wait(command, run_folder, label)
  seconds = console.format_seconds(time.monotonic() - start)
  done = tables.finished(folder, row.name)
  for seed in sorted(done.keys() & places.keys()):
    print(f'{row.name} seed {seed}: {_numbers(row, done[seed])}', flush=True)
  if code == 0:
    print(f'{label}: {seconds}', flush=True)
    return []
  last = (
    (run_folder / 'console.log').read_text(errors='replace').strip().splitlines()[-1:]
  )
  print(f'{label}: exit code {code} after {seconds}: {"".join(last)}', flush=True)
  return [str(p.relative_to(folder)) for n, p in places.items() if n not in done]


def _wait(command: list[str], run_folder: pathlib.Path, label: str) -> int:
  """Runs a command to its end; hands SIGTERM and Ctrl-C on, and then exits itself."""
  with signals.catch() as stop, (run_folder / 'console.log').open('ab') as log:
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


def _check_settings(run_folder: pathlib.Path, expected: TrainConfig) -> None:
  """Raises InputError if a finished run had other settings than it would have now."""
  defaults = {spec.name: spec.default for spec in dataclasses.fields(expected)}
  recorded = {**defaults, **workdir.read_config(run_folder)['config']}
  changed = [
    f'{name} {json.dumps(recorded.get(name))} -> {json.dumps(value)}'
    for name, value in dataclasses.asdict(expected).items()
    if name not in FREE_FIELDS and recorded.get(name) != value
  ]
  if changed:
    raise InputError(
      f'{run_folder} holds a run of other settings: {", ".join(changed)}; remove it, '
      'or use another --workdir'
    )


def _numbers(row: Row, run_folder: pathlib.Path) -> str:
  result: dict[str, Any] = json.loads((run_folder / 'result.json').read_text())
  return ', '.join(
    f'{tables.label(number.metric)} '
    f'{console.format_value(tables.value(result, number.metric))}'
    for number in row.numbers
  )
