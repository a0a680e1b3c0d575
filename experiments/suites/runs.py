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


def run(
  folder: pathlib.Path,
  suite: str,
  rows: Sequence[Row],
  wanted: Callable[[Row], int],
  arguments: Callable[[Row], Sequence[str]],
) -> None:
  """Runs what is not finished, and writes the tables and pictures.

  Args:
    folder: Of the runs, ROW/seedS, and the tables.
    suite: Its name.
    rows: All of them, for the tables.
    wanted: Row -> how many seeds, 0 for none now.
    arguments: Row -> flags of its runs, but for seed and workdir.

  Raises:
    InputError: A folder holds a run of other settings.
    CommandError: Runs failed; the others are done and tabulated.
    SystemExit: 75 after SIGTERM, 130 after Ctrl-C; the run under way is saved.
  """
  failed = []
  with workdir.lock(folder):
    for row in rows:
      for seed in range(wanted(row)):
        place = folder / row.name / f'seed{seed}'
        if not _run(row, seed, place, arguments(row)):
          failed.append(str(place.relative_to(folder)))
        tables.write(folder, suite, rows)
      tables.draw(folder, row)
  print((folder / tables.MARKDOWN).read_text())
  console.facts_table({'table': folder / tables.MARKDOWN, 'pictures': folder / '*.png'})
  if failed:
    raise CommandError(f'failed: {", ".join(failed)}; see console.log there')


def _run(row: Row, seed: int, place: pathlib.Path, flags: Sequence[str]) -> bool:
  """Runs one experiment unless it is finished; returns whether it ended well."""
  arguments = [*flags, f'--seed={seed}', f'--workdir={place}']
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
  defaults = {spec.name: spec.default for spec in dataclasses.fields(wanted)}
  found = {**defaults, **workdir.read_config(place)['config']}
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


def _numbers(row: Row, place: pathlib.Path) -> str:
  result: dict[str, Any] = json.loads((place / 'result.json').read_text())
  return ', '.join(
    f'{tables.label(number.metric)} '
    f'{console.format_value(tables.value(result, number.metric))}'
    for number in row.numbers
  )
