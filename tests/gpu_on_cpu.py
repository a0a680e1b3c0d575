"""`launch` of the GPU's kernels on a CPU: their source, compiled by g++."""

import ctypes
import functools
import pathlib
import subprocess
import tempfile

import jax
import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
_FOLDER = tempfile.TemporaryDirectory(prefix='gpu_on_cpu')  # for this process
# In the order of `options` in gpu_on_cpu.cc; other macros need a build of their own.
_CHOSEN = (
  'MASK', 'RESET', 'BACKWARDS', 'ZERO_OUTPUT', 'SAVE', 'YS', 'DYS', 'H_MASKS',
)  # fmt: skip


_FLAGS = ('-std=c++20', '-w', '-pthread')
_SHARED = ('-O1', '-shared', '-fPIC')


def flags(macros, *more):
  """Arguments of g++ for these sizes."""
  own = [f'-D{k}={v}' for k, v in macros if k not in _CHOSEN]
  source = str(ROOT / 'tests' / 'fast' / 'gpu_on_cpu.cc')
  include = f'-I{ROOT / "seqjax" / "fast"}'
  return [*_FLAGS, *more, *own, include, source]


@functools.cache
def _headers():
  """A file of the standard headers, compiled: two thirds of each build are theirs."""
  path = pathlib.Path(_FOLDER.name, 'standard.h')
  names = ('cmath', 'cstdint', 'cstring', 'functional', 'memory', 'vector')
  path.write_text(''.join(f'#include <{name}>\n' for name in (*names, 'ucontext.h')))
  command = ['g++', *_FLAGS, *_SHARED, '-x', 'c++-header', str(path)]
  subprocess.run([*command, '-o', f'{path}.gch'], check=True)
  return str(path)


@functools.cache
def _built(macros):
  own = flags(macros, *_SHARED, '-include', _headers())
  path = pathlib.Path(_FOLDER.name)
  path /= str(len(list(path.iterdir())))
  command = ['g++', *own, '-o', str(path)]
  subprocess.run(command, check=True)
  return ctypes.CDLL(str(path))


def launch(name, macros, grid, block, shared_bytes, results, *operands):
  """As `seqjax.fast.gpu.launch.launch`. What a kernel does not write stays NaN."""
  assert block <= 1024
  values = dict(macros)
  chosen = (ctypes.c_int * 8)(*(int(values[k]) for k in _CHOSEN))
  own = tuple((k, v) for k, v in macros if k not in _CHOSEN)
  function = getattr(_built(own), f'run_{name}')

  def run(*operands):
    arrays = [np.ascontiguousarray(a) for a in operands]
    out = [np.full(r.shape, np.nan, r.dtype) for r in results]
    pointers = (ctypes.c_void_p * 16)(*(a.ctypes.data for a in (*arrays, *out)))
    function(chosen, *grid, pointers)
    return out

  return jax.pure_callback(run, results, *operands)
