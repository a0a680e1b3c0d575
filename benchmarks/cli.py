"""The command line that all benchmarks share."""

import argparse
import concurrent.futures
import dataclasses
import multiprocessing
import sys
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks import report


@dataclasses.dataclass(frozen=True)
class Options:
  seconds: float  # for one workload, all its runners together
  only: str = ''  # part of a title
  quick: bool = False


def main(
  name: str,
  title: str | None,
  rows: Callable[[Options], Iterable[report.Row]],
  seconds: float = 20.0,
) -> None:
  """Parses the flags, prints `rows` as they come, and writes the table `name`.

  A workload is timed for `seconds` unless they are given.
  """
  parser = argparse.ArgumentParser(description=title)
  parser.add_argument('--seconds', type=float, help='timing of one workload')
  parser.add_argument('--only', default='', help='only titles that contain this')
  parser.add_argument('--quick', action='store_true', help='a few seconds a workload')
  args = parser.parse_args()
  seconds = args.seconds or (2.0 if args.quick else seconds)
  about = report.machine()
  first_line = (title or name).strip().splitlines()[0]
  file_name = name + ('-quick' if args.quick else '')
  done: list[report.Row] = []
  for row in rows(Options(seconds, args.only, args.quick)):
    _print(row)
    done.append(row)
    report.write(file_name, first_line, about, done)  # what comes later may fail
  print(report.write(file_name, first_line, about, done))


def in_new_process(work: Callable[..., Any], *arguments: Any) -> Any:
  """What a function of a module returns, called in a process of its own.

  What earlier workloads left in the heap decides how much memory a step gives back to
  the system and faults in again. A step of torch's LSTM takes 73 to 105 ms for it;
  where nothing is given back, 50.
  """
  spawn = multiprocessing.get_context('spawn')
  with concurrent.futures.ProcessPoolExecutor(1, spawn) as pool:
    return pool.submit(work, *arguments).result()


def _print(row: report.Row) -> None:
  """One line of progress on the error stream."""
  medians = ', '.join(f'{t.name} {t.median:.1f}' for t in row.timings)
  ratio = row.ratio()
  shown = '' if ratio is None else f': ratio {ratio:.2f}'
  print(f'{row.title}{shown} ({medians})', file=sys.stderr, flush=True)
