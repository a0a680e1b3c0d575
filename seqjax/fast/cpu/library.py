"""The kernels' shared library: which build can run here, and its handlers for XLA.

`build.py` makes it where seqjax is installed. It knows nothing of Python: it is loaded
by ctypes, and XLA calls its handlers.
"""

import ctypes
import functools
import logging
import pathlib

import jax

from seqjax.fast.cpu import build

_FOLDER = pathlib.Path(__file__).parent
FORWARD, BACKWARD = 'SeqjaxForward', 'SeqjaxBackward'


@functools.cache
def loaded() -> tuple[str | None, str]:
  """(the build that XLA has now, as 'x86-64-v4', ''), or (None, why there is none).

  The reason is logged as a warning, once.
  """
  there, reason = False, ''
  for name in build.builds():
    path = _FOLDER / build.file_name(name)
    if not path.exists() or reason:
      continue
    try:
      library = ctypes.CDLL(str(path))
    except OSError as error:
      reason = f'the CPU kernels in {path} cannot be loaded: {error}'
      continue
    if library.SeqjaxRunsHere():
      for symbol in (FORWARD, BACKWARD):
        handler = jax.ffi.pycapsule(getattr(library, symbol))
        jax.ffi.register_ffi_target(symbol, handler, platform='cpu')
      return name, ''
    there = True
  if there or not build.builds():
    reason = reason or 'this processor is none that the CPU kernels are built for'
  reason = reason or (
    f'the CPU kernels are not built: run `python {_FOLDER / "build.py"}`, which needs '
    'g++, clang or the package ziglang'
  )
  logging.getLogger('seqjax').warning(
    '%s; recurrent layers take the slower reference path', reason
  )
  return None, reason
