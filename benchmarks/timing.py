"""Interleaved timings: all runners take turns, medians over the turns."""

import dataclasses
import statistics
import time
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass
class Runner:
  """One way to do a piece of work."""

  name: str
  run: Callable[[], None]  # does it once and waits for it
  temp_bytes: int | None = None  # of the compiled executable, where it tells
  compile_seconds: float | None = None


@dataclasses.dataclass
class Timing:
  """Milliseconds of one runner."""

  name: str
  median: float
  first: float | None  # median of the first runs of its turns, where those don't count
  least: float
  quartiles: tuple[float, float]
  runs: int  # that count
  temp_mib: float | None
  compile_seconds: float | None


SGEMM, _SIZE = 'sgemm of NumPy', 2048
SGEMM_FLOPS = 2 * _SIZE**3


def sgemm() -> Runner:
  """A product of two square matrices, by turns with what is compared with it."""
  a = np.random.default_rng(0).standard_normal((_SIZE, _SIZE), np.float32)
  out = np.empty_like(a)

  def run() -> None:
    np.matmul(a, a, out)

  return Runner(SGEMM, run)


def interleave(
  runners: list[Runner],
  *,
  seconds: float,
  least_rounds: int = 5,
  untimed: int = 1,
  timed: int = 2,
) -> list[Timing]:
  """Times runners in turn, so that a slow minute of the machine is everybody's.

  Args:
    runners: What to time; runs that compile or start something have been done.
    seconds: How long to go on, for all runners together.
    least_rounds: Rounds to do even if that takes longer; everyone has a turn in each.
    untimed: Runs at the start of a turn that do not count. The first finds its data out
      of the caches, and has to fault in memory that the runner before it gave back to
      the system: 15 of 70 ms for an LSTM with dropout after Keras. A step of training
      follows its own like. The first is reported apart.
    timed: Runs of a turn that count.
  """
  samples: dict[str, list[float]] = {runner.name: [] for runner in runners}
  firsts: dict[str, list[float]] = {runner.name: [] for runner in runners}
  end = time.perf_counter() + seconds
  rounds = 0
  while rounds < least_rounds or time.perf_counter() < end:
    for runner in runners:
      turn = [_milliseconds(runner) for _ in range(untimed + timed)]
      firsts[runner.name] += turn[: min(untimed, 1)]
      samples[runner.name] += turn[untimed:]
    rounds += 1
  return [
    _timing(runner, samples[runner.name], firsts[runner.name]) for runner in runners
  ]


def _milliseconds(runner: Runner) -> float:
  start = time.perf_counter()
  runner.run()
  return 1e3 * (time.perf_counter() - start)


def _timing(runner: Runner, samples: list[float], firsts: list[float]) -> Timing:
  low, median, high = statistics.quantiles(samples, n=4)
  return Timing(
    name=runner.name,
    median=median,
    first=statistics.median(firsts) if firsts else None,
    least=min(samples),
    quartiles=(low, high),
    runs=len(samples),
    temp_mib=None if runner.temp_bytes is None else runner.temp_bytes / 2**20,
    compile_seconds=runner.compile_seconds,
  )
