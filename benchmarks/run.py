"""Timings of seqjax and its peers.

python -m benchmarks.run [--quick]

Every benchmark, one table: results/all.md and .json. With --quick
one workload of each kind, in less than three minutes.
"""

from collections.abc import Iterator

from benchmarks import (
  agents,
  cli,
  epoch,
  growth,
  language_model,
  small,
  startup,
  steps,
)
from benchmarks.report import Row
from benchmarks.workload import Workload

_QUICK = [
  (Workload('lstm', embedding=True), 0.45),
  (Workload('gru', embedding=True), 0.45),
  (Workload('lstm', embedding=True, dropout=0.2), 0.35),
  (Workload('simple_rnn', B=32, T=80, D=128), 1.0),
]


def rows(options: cli.Options) -> Iterator[Row]:
  if options.quick:
    for workload, target in _QUICK:
      yield steps.time_workload(workload, options, target=target)
    return
  for part in (epoch, startup, steps, language_model, agents, small, growth):
    yield from part.rows(options)


if __name__ == '__main__':
  cli.main('all', __doc__, rows)
