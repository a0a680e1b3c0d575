"""SIGTERM and Ctrl-C as a wish that the loop grants when its state is whole."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

# 75 is EX_TEMPFAIL of sysexits.h: not an error, start the job again.
EXIT_CODES = {signal.SIGTERM: 75, signal.SIGINT: 130}


class Stop:
  """Holds the first signal that asked this process to stop."""

  def __init__(self) -> None:
    self.signal: signal.Signals | None = None

  def __bool__(self) -> bool:
    return self.signal is not None

  @property
  def exit_code(self) -> int:
    """75 after SIGTERM (start the same command again), 130 after Ctrl-C."""
    return EXIT_CODES[self.signal] if self.signal else 0

  @property
  def name(self) -> str:
    """'SIGTERM' or 'SIGINT'; '' if there was none."""
    return self.signal.name if self.signal else ''


@contextlib.contextmanager
def catch() -> Iterator[Stop]:
  """Notes SIGTERM and SIGINT instead of dying by them; a second Ctrl-C interrupts.

  The handlers from before are put back at the end. Outside the main thread signals
  can't be caught: the Stop then never comes.
  """
  stop = Stop()

  def note(number: int, frame: FrameType | None) -> None:
    if stop and number == signal.SIGINT:
      raise KeyboardInterrupt
    stop.signal = stop.signal or signal.Signals(number)

  if threading.current_thread() is not threading.main_thread():
    yield stop
    return
  before = {number: signal.signal(number, note) for number in EXIT_CODES}
  try:
    yield stop
  finally:
    for number, handler in before.items():
      if handler is not None:  # None: it was not installed from Python
        signal.signal(number, handler)
