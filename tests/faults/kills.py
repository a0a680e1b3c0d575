"""Families 1 to 3: processes killed, stopped, stuck, asked to end."""

import pathlib
import random
import signal
import time

from faults.jobs import LONG, Job, Row, gone, kill, newest, result, same

_LIMITS = ('heartbeat_timeout=10', 'step_timeout=20')


def single(folder: pathlib.Path) -> list[Row]:
  """SIGKILL at random moments of one process: of one run, and of four at once."""
  return [_killed(folder / 'one', 20), _killed(folder / 'seeds', 10, seeds=4)]


def _killed(folder: pathlib.Path, tries: int, seeds: int = 1) -> Row:
  whole, killed = folder / 'whole', folder / 'killed'
  settings = (*LONG, f'num_seeds={seeds}')
  places = [f'seeds/{seed}' for seed in range(seeds)] if seeds > 1 else ['.']
  Job(whole, *settings).wait()
  rng, lost, during_save = random.Random(0), 0, 0
  for number in range(tries):
    job = Job(killed, *settings)
    job.workdir = killed / places[-1]
    part = 280 // tries
    job.wait_for_step(rng.randrange(part * number + 2, part * (number + 1)))
    time.sleep(rng.uniform(0, 0.1))
    kill(job.process.pid)
    job.wait()
    during_save += any(
      bool(list(killed.glob(f'{p}/checkpoints/*.unfinished'))) for p in places
    )
    lost += max(0, job.step() - newest(job.workdir))
  ended = Job(killed, *settings).wait() == 0
  good = ended and all(same(killed / place, whole / place) for place in places)
  text = (
    f'{"same" if good else "OTHER"} digest and metrics.jsonl; {during_save} fell into '
    f'a save; lost work {lost} of {300 + lost} steps ({lost / (300 + lost):.1%})'
  )
  of = f', {seeds} seeds at once' if seeds > 1 else ''
  return Row(f'SIGKILL at a random moment, 1 process{of}', tries, text, good)


def pair(folder: pathlib.Path) -> list[Row]:
  """One of two processes is lost; the supervised job goes on."""
  whole = folder / 'whole'
  Job(whole, *LONG, *_LIMITS, processes=2).wait()
  faults = {
    'process 1 killed': (1, signal.SIGKILL),
    'process 0, the coordinator, killed': (0, signal.SIGKILL),
    'process 1 stopped (SIGSTOP)': (1, signal.SIGSTOP),
    'process 1 stuck in Python': (1, None),
  }
  rows = []
  for number, (name, (victim, sent)) in enumerate(faults.items()):
    workdir = folder / str(number)
    stuck = ('stuck_at=100',) if sent is None else ()
    job = Job(workdir, *LONG, *_LIMITS, *stuck, processes=2, supervised=True)
    if not job.wait_for_step(98 if sent is None else 60):
      rows.append(Row(f'2 processes: {name}', 1, 'ended too soon', False))
      continue
    workers = job.workers()
    start = time.monotonic() if sent is None else kill(workers[victim], sent)
    seconds = gone(workers[1 - victim], start)
    ended = job.wait() == 0
    good = ended and seconds < 60 and same(workdir, whole)
    digest = 'the same digest' if good else 'ANOTHER digest'
    text = f'the other ends after {seconds:.1f} s; supervised, {digest} at the end'
    rows.append(Row(f'2 processes: {name}', 1, text, good))
  return rows


def sigterm(folder: pathlib.Path) -> list[Row]:
  """SIGTERM to one process: all save the same step and exit with 75."""
  rows = []
  for name, processes, victim in (('1 process', 1, 0), ('process 1 of 2', 2, 1)):
    workdir = folder / f'{processes}-{victim}'
    job = Job(workdir, *LONG, processes=processes)
    job.wait_for_step(60)
    pid = job.workers()[victim] if processes > 1 else job.process.pid
    start = kill(pid, signal.SIGTERM)
    code = job.wait()
    seconds = time.monotonic() - start
    step = newest(workdir)
    told = f'SIGTERM: step {step} of 300 is saved' in job.text()
    again = Job(workdir, *LONG, processes=processes)
    good = code == 75 and told and again.wait() == 0
    good = good and f'resumed from step {step}' in again.text()
    good = good and result(workdir)['steps'] == 300
    text = f'exit code {code}; step {step} saved and resumed; ended in {seconds:.1f} s'
    rows.append(Row(f'SIGTERM to {name}', 1, text, good))
  return rows
