"""Claim: a step of training or inference takes a fraction of the best peer's time.

python -m benchmarks.steps [--quick] [--only=TEXT]
"""

import concurrent.futures
import multiprocessing
from typing import Any

from benchmarks import cli
from benchmarks.ours import seqjax_runner
from benchmarks.peers import PEERS
from benchmarks.report import Row
from benchmarks.timing import Timing, interleave
from benchmarks.workload import Workload

_CELLS = ('lstm', 'gru', 'simple_rnn')


def _each(targets: tuple[float | None, ...], **sizes: Any) -> list[Any]:
  return [(Workload(c, **sizes), t) for c, t in zip(_CELLS, targets, strict=False)]


_PPO = {'B': 256, 'T': 128, 'D': 128, 'H': 128, 'resets': True}
# Workloads and the ratio to the best peer each should reach; None: no claim.
WORKLOADS: list[tuple[Workload, float | None]] = [
  *_each((0.45, 0.45, 0.45), embedding=True),
  *_each((0.35, 0.35, 0.45), embedding=True, dropout=0.2),
  *_each((0.75, 0.75, 0.75), embedding=True, H=128),
  *_each((0.40, 0.40, 0.45), embedding=True, training=False),
  *_each((0.6, 0.6), **_PPO),
  *_each((0.75, 0.75, 0.70)),
  (Workload('gru', T=120, D=14), 0.8),
  (Workload('lstm', B=64, T=100, D=256, H=256), 1.0),
  (Workload('simple_rnn', B=32, T=80, D=128), 1.0),
]


def rows(options: cli.Options) -> list[Row]:
  """Times all workloads, or those whose title contains `options.only`."""
  return [
    time_workload(workload, options, target=target)
    for workload, target in WORKLOADS
    if options.only in workload.title
  ]


def time_workload(
  workload: Workload, options: cli.Options, *, target: float | None = None
) -> Row:
  """One workload: seqjax's two paths and all peers that can do it.

  In a process of its own: what earlier workloads left in the heap decides how much
  memory a step gives back to the system and faults in again. A step of torch's LSTM
  takes 73 to 105 ms for it; where nothing is given back, 50.
  """
  spawn = multiprocessing.get_context('spawn')
  with concurrent.futures.ProcessPoolExecutor(1, spawn) as pool:
    timings = pool.submit(_time, workload, options.seconds).result()
  row = Row(workload.title, timings, target, flops=workload.flops)
  options.show(row)
  return row


def _time(workload: Workload, seconds: float) -> list[Timing]:
  runners = [seqjax_runner(workload), seqjax_runner(workload, 'reference')]
  runners += [runner for peer in PEERS.values() if (runner := peer(workload))]
  return interleave(runners, seconds=seconds)


if __name__ == '__main__':
  cli.main('steps', __doc__, rows)
