"""Claim: from the command line to the first step in seconds.

[SEQJAX_TEST_DATA=DIR] python -m benchmarks.startup

Each sample is a fresh process: import, build, compile, one step of training. With DIR,
which holds aclImdb_v1.tar.gz, first the command of the chapter's LSTM on real reviews,
up to its first line of the log, beside the same step in a plain script; it has been
started before, so data and programs are cached. Then imports. The CPU seconds of each
start are told too: a machine that others share says little by its clock.
"""

import dataclasses
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

from benchmarks import cli, ours, peers
from benchmarks.report import Row
from benchmarks.timing import Runner, interleave
from benchmarks.workload import Workload

_MAKERS = {'seqjax auto': ours.seqjax_runner, **peers.PEERS}


def rows(options: cli.Options) -> Iterator[Row]:
  """The command, imports, and the reference steps of LSTM and GRU with embedding."""

  def time_starts(title: str, runners: list[Runner]) -> Row:
    cpu: dict[str, list[float]] = {}
    counted = [Runner(r.name, _counting(r.run, cpu, r.name)) for r in runners]
    timings = interleave(
      counted, seconds=options.seconds, least_rounds=5, untimed=0, timed=1
    )
    for name, seconds in cpu.items():
      print(f'  {name}: {statistics.median(seconds):.2f} s of CPU', file=sys.stderr)
    return Row(title, timings)

  folder = os.environ.get('SEQJAX_TEST_DATA')
  if folder:
    scan = _process('naive', Workload('lstm', embedding=True))
    with tempfile.TemporaryDirectory() as scratch:
      command = Runner('seqjax auto', lambda: _command(folder, scratch))
      command.run()  # prepares the reviews, compiles
      yield time_starts('command to first step: imdb_lstm', [command, scan])
  names = 'import seqjax; [getattr(seqjax, name) for name in seqjax.__all__]'
  imports = {
    'jax, flax': 'import jax, flax.linen',
    'seqjax': 'import jax, flax.linen, seqjax',
    'seqjax auto': f'import jax, flax.linen; {names}',
  }
  yield time_starts('import', [_python(k, code) for k, code in imports.items()])
  for cell in ('lstm', 'gru'):
    workload = Workload(cell, embedding=True)
    runners = [_process(name, workload) for name in _MAKERS]
    timings = interleave(
      runners, seconds=options.seconds, least_rounds=3, untimed=0, timed=1
    )
    yield Row(f'process to first step: {workload.title}', timings)


def _counting(
  run: Callable[[], None], cpu: dict[str, list[float]], name: str
) -> Callable[[], None]:
  """The same, noting what CPU time its processes take."""

  def counted() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    cpu.setdefault(name, []).append(used)

  return counted


def _command(data_dir: str, scratch: str) -> None:
  """Starts the chapter's LSTM with caches in `scratch`, and ends it after a step."""
  command = [sys.executable, '-m', 'experiments.imdb_lstm', '--log_every=1']
  command += ['--flagfile=experiments/flags/imdb_lstm.flags']
  with tempfile.TemporaryDirectory(dir=scratch) as workdir:
    process = subprocess.Popen(
      [*command, f'--data_dir={data_dir}', f'--workdir={workdir}'],
      env={**os.environ, 'XDG_CACHE_HOME': scratch},
      stdout=subprocess.DEVNULL,
    )
    log = pathlib.Path(workdir, 'timing.jsonl')
    while not (log.exists() and log.stat().st_size):
      if process.poll() is not None:
        raise RuntimeError(f'the command ended with {process.returncode}')
      time.sleep(0.002)
    process.kill()
    process.wait()


def _python(name: str, code: str) -> Runner:
  return Runner(name, lambda: subprocess.run([sys.executable, '-c', code], check=True))


def _process(name: str, workload: Workload) -> Runner:
  arguments = json.dumps([name, dataclasses.asdict(workload)])

  def run() -> None:
    command = [sys.executable, '-m', 'benchmarks.startup', arguments]
    subprocess.run(command, check=True)

  return Runner(name, run)


def _one_step(arguments: str) -> None:
  name, fields = json.loads(arguments)
  runner = _MAKERS[name](Workload(**fields))
  if runner is not None:
    runner.run()


if __name__ == '__main__':
  if len(sys.argv) == 2 and sys.argv[1].startswith('['):
    _one_step(sys.argv[1])
  else:
    cli.main('startup', __doc__, rows)
