"""The toy of the tests as a job of one or more processes, started, watched, hit."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any, NamedTuple

TESTS = pathlib.Path(__file__).parent.parent
ROOT = TESTS.parent
LONG = ('num_epochs=60', 'log_every=2', 'save_every=2')  # 300 steps, a save each second


class Row(NamedTuple):
  """One line of the table."""

  fault: str
  tries: int
  outcome: str
  good: bool


class Job:
  """A started run; its output is in `log`."""

  def __init__(
    self,
    workdir: pathlib.Path,
    *settings: str,
    processes: int = 1,
    supervised: bool = False,
    devices: int = 1,
    around: tuple[str, ...] = (),
  ):
    """Starts the toy in `workdir`, `devices` a process; `around` is put in front."""
    workdir.parent.mkdir(parents=True, exist_ok=True)
    self.workdir = workdir
    self.log = workdir.with_name(f'{workdir.name}.log')
    command = [sys.executable, '-m', 'toy', str(workdir), *settings]
    if processes > 1:
      script = str(ROOT / 'launch' / 'local.sh')
      command = [script, str(processes), *command[2:], 'distributed=true']
    if supervised:
      command = [str(ROOT / 'launch' / 'supervise.sh'), *command]
    # A CPU device a process, unless said: what users have is not what is tested here.
    environment = {
      **os.environ,
      'PYTHON': sys.executable,
      'JAX_NUM_CPU_DEVICES': str(devices),
      'JAX_PLATFORMS': 'cpu',
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '0',
      'GRACE': '5',
      'XLA_FLAGS': '',
    }
    with self.log.open('ab') as log:
      self.process = subprocess.Popen(
        [*around, *command],
        cwd=TESTS,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
      )

  def wait(self) -> int:
    """Blocks to the end; returns the exit code."""
    return self.process.wait()

  def wait_for_step(self, step: int) -> bool:
    """Blocks until metrics.jsonl tells of `step`; False if the run is over before."""
    while self.process.poll() is None:
      if self.step() >= step:
        return True
      time.sleep(0.005)
    return False

  def step(self) -> int:
    """The last step that metrics.jsonl tells of."""
    path = self.workdir / 'metrics.jsonl'
    lines = path.read_bytes().splitlines() if path.exists() else []
    return json.loads(lines[-1])['step'] if lines and lines[-1].endswith(b'}') else 0

  def workers(self) -> dict[int, int]:
    """Process ids of the workers by their number in the run."""
    pids = {}
    for folder in pathlib.Path('/proc').glob('[0-9]*'):
      try:
        arguments = (folder / 'cmdline').read_bytes().split(b'\0')
        pairs = (folder / 'environ').read_bytes().split(b'\0')
        zombie = ') Z' in (folder / 'stat').read_text()
      except OSError:
        continue
      names = [p for p in pairs if p.startswith(b'SEQJAX_PROCESS_ID=')]
      mine = str(self.workdir).encode() in arguments and b'toy' in arguments
      if names and mine and not zombie and b'python' in arguments[0]:
        pids[int(names[0].split(b'=')[1])] = int(folder.name)
    return pids

  def text(self) -> str:
    return self.log.read_text(errors='replace')


def result(workdir: pathlib.Path) -> dict[str, Any]:
  """result.json of a finished run."""
  return json.loads((workdir / 'result.json').read_text())


def same(workdir: pathlib.Path, other: pathlib.Path) -> bool:
  """Whether two finished runs have the same parameters and the same metrics.jsonl."""
  digests = {result(folder)['params_sha256'] for folder in (workdir, other)}
  metrics = {(folder / 'metrics.jsonl').read_bytes() for folder in (workdir, other)}
  return len(digests) == len(metrics) == 1


def newest(workdir: pathlib.Path) -> int:
  """Step of the newest save."""
  names = sorted(p.name for p in (workdir / 'checkpoints').glob('*-step*[0-9]'))
  return int(names[-1].partition('-step')[2]) if names else 0


def gone(pid: int, since: float, limit: float = 120) -> float:
  """Seconds from `since` until the process is gone; `limit` if it stays."""
  while time.monotonic() - since < limit:
    try:
      if ') Z' in pathlib.Path(f'/proc/{pid}/stat').read_text():
        break
    except OSError:
      break
    time.sleep(0.02)
  return time.monotonic() - since


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> float:
  """Sends a signal; returns when."""
  os.kill(pid, number)
  return time.monotonic()
