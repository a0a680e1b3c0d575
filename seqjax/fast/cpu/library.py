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
def missing() -> str | None:
  """Why the kernels can't run in this process; None: they can, and XLA has them.

  The reason is logged as a warning, once.
  """
  loaded, reason = _load()
  if loaded is None:
    logging.getLogger('seqjax').warning(
      '%s; recurrent layers take the slower reference path', reason
    )
    return reason
  for name in (FORWARD, BACKWARD):
    handler = jax.ffi.pycapsule(getattr(loaded, name))
    jax.ffi.register_ffi_target(name, handler, platform='cpu')
  return None


def loaded() -> str | None:
  """The build that is used, as 'x86-64-v4', or None."""
  library, name = _load()
  return name if library is not None else None


@functools.cache
def _load() -> tuple[ctypes.CDLL | None, str]:
  """(the first build that runs here, its name), or (None, why there is none)."""
  there = False
  for name in build.builds():
    path = _FOLDER / build.file_name(name)
    if path.exists():
      try:
        library = ctypes.CDLL(str(path))
      except OSError as error:
        return None, f'the CPU kernels in {path} cannot be loaded: {error}'
      if library.SeqjaxRunsHere():
        return library, name
      there = True
  if there or not build.builds():
    return None, 'this processor is none that the CPU kernels are built for'
  return None, (
    f'the CPU kernels are not built: run `python {_FOLDER / "build.py"}`, which needs '
    'g++, clang or the package ziglang'
  )
