"""SIGTERM and Ctrl-C as a wish that the loop grants when its state is whole.

After the step under way `loop` writes the log and a save of that step, and no result;
the process ends with 75 or 130. A SIGKILL leaves what was saved last.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import jax
from jax.experimental import multihost_utils

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


class AgreedStop(Stop):
  """One of several processes: a signal to any is a wish of all, at the same look.

  Each process must look equally often. JAX's runtime passes the notice on and finds the
  first look that none of them has made yet; a look is a comparison of two numbers.
  """

  def __init__(self) -> None:
    super().__init__()
    self.interrupted = False
    self._looks = 0

  def __bool__(self) -> bool:
    if self.signal is None:
      self._looks += 1
      if multihost_utils.reached_preemption_sync_point(self._looks):
        self.signal = signal.SIGINT if self.interrupted else signal.SIGTERM
    return self.signal is not None


@contextlib.contextmanager
def catch(*, terminates: bool = True) -> Iterator[Stop]:
  """Notes SIGTERM and SIGINT instead of dying by them; a second Ctrl-C interrupts.

  SIGTERM stays the caller's business unless `terminates`.

  The handlers from before are put back at the end. Outside the main thread signals
  can't be caught: the Stop then never comes. Among several processes it is an
  AgreedStop, and SIGTERM stays with JAX's runtime, which has taken it over.
  """
  if jax.distributed.is_initialized():
    with _catch_agreed() as agreed:
      yield agreed
    return
  stop = Stop()

  def note(number: int, frame: FrameType | None) -> None:
    if stop and number == signal.SIGINT:
      raise KeyboardInterrupt
    stop.signal = stop.signal or signal.Signals(number)

  if threading.current_thread() is not threading.main_thread():
    yield stop
    return
  numbers = EXIT_CODES if terminates else [signal.SIGINT]
  with _handlers(dict.fromkeys(numbers, note)):
    yield stop


@contextlib.contextmanager
def _catch_agreed() -> Iterator[AgreedStop]:
  stop = AgreedStop()

  def pass_on(number: int, frame: FrameType | None) -> None:
    if stop.interrupted:
      raise KeyboardInterrupt
    stop.interrupted = True
    os.kill(os.getpid(), signal.SIGTERM)  # the one that JAX's runtime tells the others

  with _handlers({signal.SIGINT: pass_on}):
    yield stop


@contextlib.contextmanager
def _handlers(actions: dict[signal.Signals, Callable]) -> Iterator[None]:
  before = {number: signal.signal(number, act) for number, act in actions.items()}
  try:
    yield
  finally:
    for number, handler in before.items():
      if handler is not None:  # None: it was not installed from Python
        signal.signal(number, handler)
