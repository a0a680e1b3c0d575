"""Families 4, 5 and 7: damaged saves, disks that fail, other numbers of processes."""

import os
import pathlib
import random
import shutil
import time

from faults.jobs import LONG, Job, Row, kill, newest, result, same


def damage(folder: pathlib.Path) -> list[Row]:
  """A hundred random corruptions of the saves of a folder."""
  from saves import DAMAGES, bits, files_of, make_state, save_steps

  from seqjax.workdir.checkpoint import Checkpoints

  whole = folder / 'whole'
  save_steps(whole, [1, 2, 3], best=[1])
  wrong = lost = 0
  for seed in range(100):
    rng, workdir, hit = random.Random(seed), folder / str(seed), set()
    shutil.copytree(whole, workdir)
    for _ in range(rng.randrange(1, 5)):
      path = rng.choice([path for path in files_of(workdir) if path.stat().st_size])
      rng.choice(DAMAGES)(path, rng)
      hit.add(int(path.relative_to(workdir).parts[0].partition('-step')[2]))
    with Checkpoints(workdir) as checkpoints:
      restored = checkpoints.restore(make_state(0))
    if restored is not None:
      wrong += bits(restored.state) != bits(make_state(restored.step))
    newest_intact = max({1, 2, 3} - hit, default=None)
    lost += newest_intact is not None and (restored is None)
    shutil.rmtree(workdir)
  text = f'silently wrong {wrong}; unrecoverable beside an intact save {lost}'
  kinds = 'flipped, cut, zeroed, lengthened, deleted'
  return [Row(f'files of saves {kinds}', 100, text, wrong == lost == 0)]


def disks(folder: pathlib.Path) -> list[Row]:
  """A full and a read-only disk, two runs at once, a clock set back, a moved folder."""
  whole = folder / 'whole'
  Job(whole, *LONG).wait()
  rows = [_mounted(folder, whole, full=True), _mounted(folder, whole, full=False)]
  pair = folder / 'pair'
  Job(pair, *LONG, processes=2).wait()
  rows.append(_mounted(folder, pair, full=True, processes=2))

  workdir = folder / 'twice'
  first = Job(workdir, *LONG)
  first.wait_for_step(20)
  code = Job(workdir, *LONG).wait()
  good = code == 2 and 'is in use by' in first.text()
  good = good and first.wait() == 0 and same(workdir, whole)
  text = f'the second is refused (exit code {code}); the first ends, same digest'
  rows.append(Row('two runs on one workdir', 1, text if good else 'FAILED', good))

  for name in ('clock set back by ten years', 'workdir moved'):
    workdir = folder / name.replace(' ', '-')
    job = Job(workdir, *LONG)
    job.wait_for_step(100)
    kill(job.process.pid)
    job.wait()
    saved = newest(workdir)
    if name == 'workdir moved':
      workdir = workdir.rename(folder / 'elsewhere')
    else:  # the clock is the machine's: instead, all that exists is of the future
      future = time.time() + 10 * 365 * 86_400
      for path in [workdir, *workdir.rglob('*')]:
        os.utime(path, (future, future))
    job = Job(workdir, *LONG)
    good = job.wait() == 0 and same(workdir, whole)
    good = good and f'resumed from step {saved}' in job.text()
    text = f'resumed from step {saved}, same digest' if good else 'FAILED'
    rows.append(Row(name, 1, text, good))
  return rows


def _mounted(
  folder: pathlib.Path, whole: pathlib.Path, *, full: bool, processes: int = 1
) -> Row:
  """A run in a mount namespace where the disk is small, or not to be written to."""
  name = 'disk full' if full else 'read-only workdir'
  name = f'{name}, 2 processes' if processes == 2 else name
  workdir = folder / name.replace(', ', '-').replace(' ', '-')
  workdir.mkdir()
  mount = (
    f'mount -t tmpfs -o size=200k none {workdir}'
    if full
    else (f'mount --bind {workdir} {workdir} && mount -o remount,bind,ro {workdir}')
  )
  around = ('unshare', '--mount', 'sh', '-c', f'{mount} || exit 99; exec "$@"', '-')
  job = Job(workdir, *LONG, around=around, processes=processes)
  code = job.wait()
  if code in (1, 99) and 'unshare' in job.text() + 'unshare' * (code == 99):
    return Row(name, 0, 'this machine allows no mounts', True)
  lines = job.text().strip().splitlines()
  if processes > 1:  # whatever the lost peer prints may come behind
    lines = [line for line in lines if str(workdir) in line] or lines
  line, reason = lines[-1], 'No space' if full else 'cannot write'
  good = code == 2 and str(workdir) in line and reason in line
  again = Job(workdir, *LONG, processes=processes).wait() == 0 and same(workdir, whole)
  text = f'exit code {code}, one line that names the workdir; with room, same digest'
  return Row(name, 1, text if good and again else f'FAILED: {line}', good and again)


def other_numbers(folder: pathlib.Path) -> list[Row]:
  """Saves of 2 processes and of 8 devices, restored by 1."""
  rows = []
  for name, how in (
    ('2 processes', {'processes': 2}),
    ('8 devices', {'devices': 8}),
  ):
    workdir = folder / name.replace(' ', '-')
    count = 'num_devices=8' if 'devices' in how else 'num_devices=2'
    Job(workdir, count, **how).wait()  # type: ignore[arg-type]
    before = result(workdir)['params_sha256']
    os.remove(workdir / 'result.json')
    job = Job(workdir, 'num_devices=1')
    good = job.wait() == 0 and result(workdir)['params_sha256'] == before
    good = good and 'resumed from step 20' in job.text()
    text = 'restored by 1 process on 1 device, same digest' if good else 'FAILED'
    rows.append(Row(f'saved by {name}', 1, text, good))
  return rows
