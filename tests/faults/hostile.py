"""Family 8: files made by somebody who means harm."""

import os
import pathlib
import resource
import subprocess
import sys

from faults.jobs import ROOT, Job, Row, same

_TESTS = {
  'tar and zip: traversal, links, bombs, lies about sizes': [
    'tests/data/test_archives.py',
    'tests/interop/keras/test_files_hostile.py',
  ],
  'HDF5 and .pt files, pickles that run code': [
    'tests/interop/keras/test_files.py',
  ],
}
_MEMORY = 6 << 30  # bytes of address space that a reader may take


def inputs(folder: pathlib.Path) -> list[Row]:
  """Nothing outside the workdir is written, nothing executed, memory is bounded."""
  rows = [_checkpoint(folder), _flagfile(folder)]
  for name, files in _TESTS.items():
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:xdist', *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    last = done.stdout.strip().splitlines()[-1]
    count = int(last.split()[0]) if done.returncode == 0 else 0
    text = f'refused, each in one line that names the file ({count} cases)'
    good = done.returncode == 0
    rows.append(Row(name, count, text if good else f'FAILED: {last}', good))
  return rows


def _checkpoint(folder: pathlib.Path) -> Row:
  """Saves with a true seal that name files elsewhere, links, code, and huge arrays."""
  from seqjax.workdir import integrity

  outside = folder / 'outside'
  outside.mkdir()
  (outside / 'precious').write_text('precious')
  whole, workdir = folder / 'whole', folder / 'crafted'
  Job(whole).wait()
  Job(workdir).wait()
  ran = folder / 'ran'
  code = f'import os\nos.system("touch {ran}")\n'
  records = [
    {'files': {'../../../outside/precious': [8, 'x']}},
    {'leaves': {'params/huge': ['float32[1000000000000]', 'x']}},
    {'progress': {'window': {'__reduce__': code}}},
  ]
  for number, record in enumerate(records, 90):
    crafted = workdir / 'checkpoints' / f'0000{number}-step{number}'
    (crafted / 'state').mkdir(parents=True)
    (crafted / 'state' / 'manifest.ocdbt').write_bytes(os.urandom(1000))
    (crafted / 'state' / '_METADATA').write_text(code)
    (crafted / 'state' / 'sitecustomize.py').write_text(code)
    full = {'format': 1, 'step': number, 'best': True, 'leaves': {}, 'progress': {}}
    unfinished = crafted.rename(f'{crafted}.unfinished')
    integrity.commit(unfinished, crafted, {**full, **record})
  # The record of the first names its own files; this one names a file elsewhere.
  link = workdir / 'checkpoints' / '000099-step99'
  link.symlink_to(outside, target_is_directory=True)
  job = Job(workdir, 'keep=1')
  exit_code = job.wait()
  safe = (outside / 'precious').read_text() == 'precious' and not ran.exists()
  safe = safe and sorted(os.listdir(outside)) == ['precious']
  text = f'exit code {exit_code}: {_reason(job.text())}; nothing run, nothing touched'
  good = safe and (exit_code == 2 or (exit_code == 0 and same(workdir, whole)))
  return Row('crafted checkpoint folders', 4, text if good else job.text()[-300:], good)


def _reason(text: str) -> str:
  """What a run says of the saves that it does not take."""
  line = text.strip().splitlines()[-1]
  return line.partition(': ')[2].split('/')[-1][:90] if 'toy:' in line else 'refused'


def _flagfile(folder: pathlib.Path) -> Row:
  """Files of flags that include themselves, name secrets, or are no text."""
  files = {
    'itself': '--flagfile={path}\n',
    'a password file': '--flagfile=/etc/passwd\n',
    'unknown': '--eval=__import__("os").system("touch {ran}")\n',
    'no number': '--batch_size=$(touch {ran})\n',
    'binary': '\x00\x01\ufffd' * 500,
    'huge': '--workdir=' + 'x' * 10_000_000 + '\n',
  }
  ran, bad = folder / 'ran-flags', []
  for name, text in files.items():
    path = folder / f'{name.replace(" ", "-")}.flags'
    path.write_text(text.replace('{path}', str(path)).replace('{ran}', str(ran)))
    command = [sys.executable, '-m', 'experiments.imdb_lstm', f'--flagfile={path}']
    command += ['--dataset=synthetic', '--synthetic_size=80', '--num_steps=1']
    command += [f'--workdir={folder / "run"}'] if name != 'huge' else []
    done = subprocess.run(
      command,
      cwd=ROOT,
      capture_output=True,
      text=True,
      preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY)),
    )
    expected = (0, 2) if name == 'itself' else (2,)
    if done.returncode not in expected or ran.exists():
      bad.append(f'{name}: {done.returncode} {done.stderr[-150:]}')
  text = '; '.join(bad) or 'exit code 2 and one line each; nothing run'
  return Row('hostile flagfiles', len(files), text, not bad)
