"""The command line that all benchmarks share."""

import argparse
import dataclasses
import sys
from collections.abc import Callable

from benchmarks import report


@dataclasses.dataclass(frozen=True)
class Options:
  seconds: float = 20.0  # for one workload, all its runners together
  only: str = ''  # part of a title
  quick: bool = False
  show: Callable[[report.Row], None] = lambda row: None  # what is done with each row


def main(
  name: str, title: str | None, rows: Callable[[Options], list[report.Row]]
) -> None:
  """Parses the flags, runs `rows`, prints and writes the table `name`."""
  parser = argparse.ArgumentParser(description=title)
  parser.add_argument('--seconds', type=float, help='timing of one workload')
  parser.add_argument('--only', default='', help='only titles that contain this')
  parser.add_argument('--quick', action='store_true', help='a few seconds a workload')
  args = parser.parse_args()
  seconds = args.seconds or (2.0 if args.quick else 20.0)
  about = report.machine()
  first_line = (title or name).strip().splitlines()[0]
  file_name = name + ('-quick' if args.quick else '')
  done: list[report.Row] = []

  def show(row: report.Row) -> None:
    _print(row)
    done.append(row)
    report.write(file_name, first_line, about, done)  # what comes later may fail

  rows(Options(seconds, args.only, args.quick, show))
  print(report.write(file_name, first_line, about, done))


def _print(row: report.Row) -> None:
  """One line of progress on the error stream."""
  medians = ', '.join(f'{t.name} {t.median:.1f}' for t in row.timings)
  ratio = row.ratio()
  shown = '' if ratio is None else f': ratio {ratio:.2f}'
  print(f'{row.title}{shown} ({medians})', file=sys.stderr, flush=True)
