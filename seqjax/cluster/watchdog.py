"""Ends a process whose step takes too long: a stuck peer still sends heartbeats."""

import faulthandler
import os
import sys
import threading
import time
from typing import Self

from seqjax.config import as_flags

EXIT_CODE = 124  # as timeout(1)
COMPILE_SECONDS = 600.0  # more for a step that is compiled first
_GRACE = 10.0  # seconds after which the last resort follows
_STDERR = 2  # the descriptor, whatever sys.stderr is by now


class Watchdog:
  """Exits with code 124, and all stacks on stderr, if nobody calls `beat` for too long.

  with Watchdog(config.step_timeout) as watchdog:
    for ...:
      watchdog.beat()

  The clock is looked at by a thread of Python. Should code that holds Python's lock
  keep it from running, faulthandler, which needs no lock, ends the process with code 1.
  """

  def __init__(self, limit: float | None):
    """Takes the seconds between two beats; with None nothing is ever done."""
    self._limit = limit
    self._deadline = float('inf')
    self._end = threading.Event()
    self._thread = threading.Thread(target=self._watch, name='watchdog', daemon=True)

  def __bool__(self) -> bool:
    return self._limit is not None

  def beat(self, *, compiles: bool = False, steps: int = 1) -> None:
    """Says that so many steps begin; `compiles` if they are to be compiled first."""
    if self._limit is not None:
      extra = COMPILE_SECONDS if compiles else 0.0
      self._deadline = time.monotonic() + steps * self._limit + extra

  def __enter__(self) -> Self:
    if self._limit is not None:
      self.beat(compiles=True)
      self._thread.start()
    return self

  def __exit__(self, *error: object) -> None:
    if self._limit is not None:
      self._end.set()
      self._thread.join()
      faulthandler.cancel_dump_traceback_later()

  def _watch(self) -> None:
    assert self._limit is not None
    while not self._end.wait(min(1.0, self._limit / 4)):
      remaining = self._deadline - time.monotonic()
      if remaining > 0:
        faulthandler.dump_traceback_later(remaining + _GRACE, exit=True, file=_STDERR)
        continue
      limit = as_flags(f'`step_timeout={self._limit:g}`')
      print(
        f'watchdog: a step takes longer than {limit} s, here or in another process',
        file=sys.__stderr__,
        flush=True,
      )
      faulthandler.dump_traceback(file=_STDERR, all_threads=True)
      os._exit(EXIT_CODE)
