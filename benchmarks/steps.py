"""Claim: a step of training or inference takes a fraction of the best peer's time.

python -m benchmarks.steps [--quick] [--only=TEXT]
"""

import concurrent.futures
import dataclasses
import multiprocessing

from benchmarks import cli
from benchmarks.ours import seqjax_runner
from benchmarks.peers import PEERS
from benchmarks.report import Row
from benchmarks.timing import Timing, interleave
from benchmarks.workload import Workload
from seqjax.cluster import mesh as mesh_lib

_CELLS = ('lstm', 'gru', 'simple_rnn')
_TARGETS = {
  'given inputs': (0.75, 0.75, 0.70),
  'embedding': (0.62, 0.62, 0.55),
  'both cores': (0.45, 0.42, 0.42),
  'dropout': (0.30, 0.35, 0.50),
}
_OTHER_SHAPES = [
  (Workload('gru', T=120, D=14), 0.8),
  (Workload('lstm', B=64, T=100, D=256, H=256), 1.0),
  (Workload('simple_rnn', B=32, T=80, D=128), 1.0),
]

# Workloads and the ratio to the best peer each should reach; None: no claim.
WORKLOADS: list[tuple[Workload, float | None]] = [
  *zip(map(Workload, _CELLS), _TARGETS['given inputs'], strict=True),
  *(
    (Workload(cell, embedding=True), target)
    for cell, target in zip(_CELLS, _TARGETS['embedding'], strict=True)
  ),
  *(
    (Workload(cell, embedding=True, devices=2), target)
    for cell, target in zip(_CELLS, _TARGETS['both cores'], strict=True)
  ),
  *(
    (Workload(cell, embedding=True, dropout=0.2, devices=2), target)
    for cell, target in zip(_CELLS, _TARGETS['dropout'], strict=True)
  ),
  *(
    (dataclasses.replace(workload, devices=devices), target)
    for workload, target in _OTHER_SHAPES
    for devices in (1, 2)
  ),
  *((Workload(cell, embedding=True, training=False), None) for cell in _CELLS),
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
  row = Row(workload.title, timings, target)
  options.show(row)
  return row


def _time(workload: Workload, seconds: float) -> list[Timing]:
  mesh_lib.make_mesh(None, 2)  # shows the CPU's cores as devices
  runners = [seqjax_runner(workload), seqjax_runner(workload, 'reference')]
  runners += [runner for peer in PEERS.values() if (runner := peer(workload))]
  return interleave(runners, seconds=seconds)


if __name__ == '__main__':
  cli.main('steps', __doc__, rows)
