"""Claim: time and memory grow with T, B and H as they must, up to T = 4,000.

python -m benchmarks.growth [--quick]

A training step keeps the carry once every K steps: its temporary memory, as the
compiled executable tells it, is a line in T, B H / K floats a step for each part of it.
"""

from benchmarks import cli
from benchmarks.ours import seqjax_runner
from benchmarks.report import Row
from benchmarks.steps import time_workload
from benchmarks.timing import interleave
from benchmarks.workload import Workload

_STEPS = (125, 250, 500, 1000, 2000, 4000)
_BATCHES = (1, 8, 32, 512)
_UNITS = (8, 64, 128, 256)


def rows(options: cli.Options) -> list[Row]:
  """seqjax's two paths over T for each cell; with peers over B and H for the LSTM."""
  done = []
  for cell in ('lstm', 'gru', 'simple_rnn'):
    for T in _STEPS[:: 5 if options.quick else 1]:
      workload = Workload(cell, B=32, T=T)
      runners = [seqjax_runner(workload), seqjax_runner(workload, 'reference')]
      row = Row(workload.title, interleave(runners, seconds=options.seconds / 4))
      options.show(row)
      done.append(row)
  if not options.quick:
    shapes = [(B, 32) for B in _BATCHES] + [(64, H) for H in _UNITS]
    workloads = [Workload('lstm', B=B, T=100, H=H) for B, H in shapes]
    done += [time_workload(workload, options) for workload in workloads]
  return done


if __name__ == '__main__':
  cli.main('growth', __doc__, rows)
