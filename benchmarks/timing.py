"""Interleaved timings: every runner once a round, medians over the rounds."""

import dataclasses
import statistics
import time
from collections.abc import Callable


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
  least: float
  quartiles: tuple[float, float]
  rounds: int
  temp_mib: float | None
  compile_seconds: float | None


def interleave(
  runners: list[Runner], *, seconds: float, least_rounds: int = 5
) -> list[Timing]:
  """Times runners in turn, so that a slow minute of the machine is everybody's.

  Args:
    runners: Each is run twice first, untimed.
    seconds: How long to go on, for all runners together.
    least_rounds: Rounds to do even if that takes longer.
  """
  samples: dict[str, list[float]] = {runner.name: [] for runner in runners}
  for runner in runners:
    runner.run()
    runner.run()
  end = time.perf_counter() + seconds
  rounds = 0
  while rounds < least_rounds or time.perf_counter() < end:
    for runner in runners:
      start = time.perf_counter()
      runner.run()
      samples[runner.name].append(1e3 * (time.perf_counter() - start))
    rounds += 1
  return [_timing(runner, samples[runner.name]) for runner in runners]


def _timing(runner: Runner, samples: list[float]) -> Timing:
  low, median, high = statistics.quantiles(samples, n=4)
  return Timing(
    name=runner.name,
    median=median,
    least=min(samples),
    quartiles=(low, high),
    rounds=len(samples),
    temp_mib=None if runner.temp_bytes is None else runner.temp_bytes / 2**20,
    compile_seconds=runner.compile_seconds,
  )
