"""Claim: a step of training or inference takes a fraction of the best peer's time.

python -m benchmarks.steps [--quick] [--only=TEXT]
"""

from collections.abc import Iterator
from typing import Any

from benchmarks import cli
from benchmarks.ours import seqjax_runner
from benchmarks.peers import PEERS
from benchmarks.report import Row
from benchmarks.timing import Timing, interleave, sgemm
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
  # Adding over 600 steps.
  (Workload('gru', B=64, T=600, D=2, H=64), None),
  (Workload('lstm', B=64, T=600, D=2, H=64), None),
]


def rows(options: cli.Options) -> Iterator[Row]:
  """Times all workloads, or those whose title contains `options.only`."""
  for workload, target in WORKLOADS:
    if options.only in workload.title:
      yield time_workload(workload, options, target=target)


def time_workload(
  workload: Workload, options: cli.Options, *, target: float | None = None
) -> Row:
  """One workload: seqjax's two paths and all peers that can do it."""
  timings = cli.in_new_process(_time, workload, options.seconds)
  return Row(workload.title, timings, target, flops=workload.flops)


def _time(workload: Workload, seconds: float) -> list[Timing]:
  runners = [seqjax_runner(workload), seqjax_runner(workload, 'reference'), sgemm()]
  runners += [runner for peer in PEERS.values() if (runner := peer(workload))]
  return interleave(runners, seconds=seconds)


if __name__ == '__main__':
  cli.main('steps', __doc__, rows)
