"""Memory of the host that a step gives back, kept for the next one."""

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # as in malloc.h


def keep_freed() -> None:
  """Makes glibc keep what this process frees, of whatever size, in its first thread.

  An array of 32 MiB and more it gives back to the system, which then has to find and
  clear each page of the next one: on two cores of an AMD EPYC a third of the time of a
  step of four stacked SimpleRNNs, B 128, T 500, H 32. What a process has once used it
  now holds to its end, so that is for commands. Elsewhere, and where the environment
  says what malloc is to do, all stays as it is.
  """
  told = any(name.startswith(('MALLOC_', 'GLIBC_TUNABLES')) for name in os.environ)
  if sys.platform != 'linux' or told:
    return
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
  if mallopt is not None:  # other C libraries have none
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, -1)
