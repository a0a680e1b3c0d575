"""The kernels' shared library: which build can run here, and its handlers for XLA.

`build.py` makes it where seqjax is installed. It knows nothing of Python: it is loaded
by ctypes, and XLA calls its handlers.
"""

import ctypes
import functools
import logging
import sys

import jax

from seqjax.fast.cpu import build

FORWARD, BACKWARD = 'SeqjaxForward', 'SeqjaxBackward'


@functools.cache
def loaded() -> tuple[str | None, str]:
  """(the build that XLA has now, as 'x86-64-v4', ''), or (None, why there is none).

  The reason is logged as a warning, once.
  """
  paths = {name: build.FOLDER / build.file_name(name) for name in build.builds()}
  there = {name: path for name, path in paths.items() if path.exists()}
  build_them = f'run `{sys.executable} {build.FOLDER / "build.py"}`'
  reason = (
    'this processor is none that the CPU kernels are built for, x86-64 with AVX2 or '
    "aarch64: take another machine, or implementation='reference', which is silent"
  )
  if len(there) < len(paths):
    reason = (
      f'the CPU kernels are not built: {build_them}, which needs g++, clang or the '
      'package ziglang'
    )
  for name, path in there.items():
    try:
      library = ctypes.CDLL(str(path))
    except OSError as error:
      again = f'delete it and {build_them}'
      reason = f'the CPU kernels in {path} cannot be loaded: {error}; {again}'
      break
    if library.SeqjaxRunsHere():
      for symbol in (FORWARD, BACKWARD):
        handler = jax.ffi.pycapsule(getattr(library, symbol))
        jax.ffi.register_ffi_target(symbol, handler, platform='cpu')
      return name, ''
  logging.getLogger('seqjax').warning(
    '%s; recurrent layers take the slower reference path', reason
  )
  return None, reason
