"""Claim: from the command line to the first step in seconds.

python -m benchmarks.startup

Each sample is a fresh process: import, build, compile, one step of training.
"""

import dataclasses
import json
import subprocess
import sys

from benchmarks import cli, ours, peers
from benchmarks.report import Row
from benchmarks.timing import Runner, interleave
from benchmarks.workload import Workload

_MAKERS = {'seqjax auto': ours.seqjax_runner, **peers.PEERS}


def rows(options: cli.Options) -> list[Row]:
  """The LSTM and the GRU of the reference step, with embedding."""
  done = []
  for cell in ('lstm', 'gru'):
    workload = Workload(cell, embedding=True)
    runners = [_process(name, workload) for name in _MAKERS]
    timings = interleave(
      runners, seconds=options.seconds, least_rounds=3, untimed=0, timed=1
    )
    row = Row(f'process to first step: {workload.title}', timings)
    options.show(row)
    done.append(row)
  return done


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
