"""Claim: time and memory grow with T, B and H as they must, up to T = 4,000.

python -m benchmarks.growth [--quick]

A training step keeps the carry once every K steps: its temporary memory, as the
compiled executable tells it, is a line in T, B H / K floats a step for each part of it.
"""

from collections.abc import Iterator

from benchmarks import cli
from benchmarks.ours import seqjax_runner
from benchmarks.report import Row
from benchmarks.steps import time_workload
from benchmarks.timing import interleave
from benchmarks.workload import Workload

_STEPS = (125, 250, 500, 1000, 2000, 4000)
_BATCHES = (1, 8, 32, 512)
_UNITS = (8, 64, 128, 256)


def rows(options: cli.Options) -> Iterator[Row]:
  """seqjax's two paths over T for each cell; with peers over B and H for the LSTM."""
  for cell in ('lstm', 'gru', 'simple_rnn'):
    for T in _STEPS[:: 5 if options.quick else 1]:
      workload = Workload(cell, B=32, T=T)
      runners = [seqjax_runner(workload), seqjax_runner(workload, 'reference')]
      yield Row(workload.title, interleave(runners, seconds=options.seconds / 4))
  if not options.quick:
    shapes = [(B, 32) for B in _BATCHES] + [(64, H) for H in _UNITS]
    for B, H in shapes:
      yield time_workload(Workload('lstm', B=B, T=100, H=H), options)


if __name__ == '__main__':
  cli.main('growth', __doc__, rows)
