"""Makes faults and writes what came of them to docs/faults.md.

python -m faults [FAMILY ...]  # in tests/, where its jobs and states are

A family's rows replace those that the table has of it. Exit code 1 if one is not good.
"""

import datetime
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import logging as absl_logging

from faults.jobs import ROOT, Row

_TABLE = ROOT / 'docs' / 'faults.md'
_FAMILIES = (
  ('kill', 'kills', 'single', 'One process killed'),
  ('lost', 'kills', 'pair', 'One of two processes lost'),
  ('sigterm', 'kills', 'sigterm', 'Asked to end'),
  ('damage', 'disks', 'damage', 'Damaged saves'),
  ('disk', 'disks', 'disks', 'Disk, clock, folder'),
  ('devices', 'numbers', 'devices', 'Devices and processes'),
  ('restore', 'disks', 'other_numbers', 'Restored elsewhere'),
  ('hostile', 'hostile', 'inputs', 'Hostile input'),
  ('numbers', 'numbers', 'bad_numbers', 'Bad numbers'),
)


def main(wanted: list[str]) -> int:
  """Runs families, all by default; returns the exit code."""
  known = [family[0] for family in _FAMILIES]
  if unknown := [name for name in wanted if name not in known]:
    print(f'faults: no family {unknown[0]!r}; there are {", ".join(known)}')
    return 2
  os.environ['JAX_PLATFORMS'] = 'cpu'
  absl_logging.set_verbosity(absl_logging.ERROR)  # each refused save is a warning
  folder = pathlib.Path(tempfile.mkdtemp(prefix='faults-'))
  os.environ['JAX_COMPILATION_CACHE_DIR'] = str(folder / 'programs')
  start, record = time.monotonic(), ROOT / 'runs' / 'faults.json'
  record.parent.mkdir(exist_ok=True)
  stored = json.loads(record.read_text()) if record.exists() and wanted else {}
  for name, module, function, _ in _FAMILIES:
    if wanted and name not in wanted:
      continue
    run = getattr(__import__(f'faults.{module}', fromlist=[function]), function)
    own = folder / name
    own.mkdir()
    began = time.monotonic()
    rows: list[Row] = run(own)
    for row in rows:
      print(f'{"ok " if row.good else "BAD"} {row.fault}: {row.outcome}', flush=True)
    print(f'    {name}: {time.monotonic() - began:.0f} s', flush=True)
    stored[name] = {'commit': _commit(), 'rows': rows}
    record.write_text(json.dumps(stored))
  _write(stored)
  bad = [
    row for family in stored.values() for row in family['rows'] if not Row(*row).good
  ]
  print(f'{time.monotonic() - start:.0f} s; {_TABLE}')
  if bad:
    print(f'not as promised: {len(bad)}; what the runs left is in {folder}')
    return 1
  shutil.rmtree(folder)
  return 0


def _commit() -> str:
  command = ['git', 'rev-parse', '--short', 'HEAD']
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  return done.stdout.strip()


def _write(stored: dict[str, dict[str, Any]]) -> None:
  import jax
  import orbax.checkpoint as ocp

  commits = ' and '.join(dict.fromkeys(family['commit'] for family in stored.values()))
  lines = [
    '# Faults, and what a run does',
    '',
    'Written by `make faults`, which makes each of them and compares the outcome with',
    'that of a run without a fault. The job is the toy of the tests: 300 steps of an',
    'LSTM with dropout, saved every 2 steps.',
    '',
    f'{datetime.date.today()}, commit {commits}, Python {platform.python_version()}, '
    f'JAX {jax.__version__}, Orbax {ocp.__version__}, {os.cpu_count()} CPU cores.',
    '',
    '| | fault | tries | outcome |',
    '|---|---|---|---|',
  ]
  for name, _, _, title in _FAMILIES:
    for row in (Row(*row) for row in stored.get(name, {'rows': []})['rows']):
      outcome = row.outcome if row.good else f'**{row.outcome}**'
      lines.append(f'| {title} | {row.fault} | {row.tries} | {outcome} |')
  _TABLE.write_text('\n'.join(lines) + '\n')


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
