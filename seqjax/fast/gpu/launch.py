"""From the kernels' source to a launch: compiled for exact sizes, called by XLA.

NVRTC makes PTX of `recur.cu` at run time, for the sizes and options of a call; XLA
loads it for the device at hand and launches it. That is XLA's own custom call for
kernels in PTX (openxla/xla #26236), no promise of its FFI: this file alone knows it.
"""

import contextlib
import functools
import hashlib
import logging
import math
import pathlib
import re
from typing import Any, NamedTuple

import jax
import numpy as np

from seqjax.files import whole
from seqjax.types import Array

_FOLDER = pathlib.Path(__file__).parent
_HEADER = _FOLDER.parent / 'cells.h'
LARGEST = 128  # units of a layer
MOST_MODELS = 65_535  # of a launch: what the second axis of a grid can have
_PTX_VERSION = '7.8'  # of CUDA 11.8: every driver that JAX runs on knows it
_FLAGS = [b'--std=c++17', b'--gpu-architecture=compute_80', b'-DSEQJAX_CUDA']
INSTALL = 'pip install cuda-bindings nvidia-cuda-nvrtc'


class Sizes(NamedTuple):
  """Of a block: the state padded, and what of a column of it lies in registers."""

  padded: int  # units: HP
  in_registers: int  # values of a thread's column; the others are in shared memory
  ahead: int  # steps between a load and its use

  def shared_bytes(self, gates: int) -> int:
    """Of the columns' other values, by which a block's memory is given."""
    return (self.padded - self.in_registers) * gates * self.padded * 4


def sizes(H: int, gates: int, room: int) -> Sizes:
  """Those for H units, where a block has `room` bytes of shared memory."""
  padded = -(-H // 8) * 8
  if padded <= 64:
    return Sizes(padded, padded, 4)
  held = min(64, padded)
  while Sizes(padded, held, 2).shared_bytes(gates) > room and held < padded:
    held += 4
  return Sizes(padded, held, 2)


@functools.cache
def has_gpu() -> bool:
  """Whether this process sees a GPU of NVIDIA's."""
  try:
    return bool(jax.devices('cuda'))
  except RuntimeError:
    return False


@functools.cache
def missing() -> str:
  """Why there are no kernels for the GPUs of this process; '' if there are.

  What can be mended is logged as a warning, once.
  """
  reason = _lacks()
  if reason:
    logging.getLogger('seqjax').warning(
      '%s; recurrent layers take the slower reference path', reason
    )
  return reason


def _lacks() -> str:
  capability = _capability()
  if capability < (8, 0):
    return f'the kernels need compute capability 8.0, the GPU has {capability}'
  try:
    _ptx(b'extern "C" __global__ void nothing() {}', _FLAGS)
  except Exception as error:  # whatever a half installed package ends in
    return f'the compiler of the GPU kernels is missing or fails ({error}): {INSTALL}'
  return ''


def _ptx(source: bytes, options: list[bytes], header: bytes = b'') -> str:
  """What NVRTC makes of a source, which may include `header` as cells.h."""
  from cuda.bindings import nvrtc

  def call(function: Any, *arguments: Any) -> Any:
    error, *results = function(*arguments)
    if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
      raise RuntimeError(f'{function.__name__}: {error}: {log()}')
    return results[0] if results else None

  def log() -> str:
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    text = b' ' * size
    nvrtc.nvrtcGetProgramLog(program, text)
    return text.decode()

  error, program = nvrtc.nvrtcCreateProgram(
    source, b'recur.cu', 1, [header], [b'cells.h']
  )
  if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
    raise RuntimeError(f'nvrtcCreateProgram: {error}')
  call(nvrtc.nvrtcCompileProgram, program, len(options), options)
  ptx = b' ' * call(nvrtc.nvrtcGetPTXSize, program)
  call(nvrtc.nvrtcGetPTX, program, ptx)
  return ptx.rstrip(b'\0').decode()


def _capability() -> tuple[int, int]:
  """The least of this process's own GPUs."""
  capabilities = [
    d.compute_capability.split('.') for d in jax.local_devices(backend='cuda')
  ]
  return min((int(major), int(minor)) for major, minor in capabilities)


def shared_memory() -> int:
  """Bytes that a block may have, less what the kernels take without being asked.

  CUDA C++ Programming Guide, table of technical specifications per compute capability.
  """
  capabilities = [d.compute_capability for d in jax.local_devices(backend='cuda')]
  most = {'8.0': 163, '8.7': 163, '9.0': 227, '10.0': 227, '10.3': 227, '11.0': 227}
  return (min(most.get(name, 99) for name in capabilities) - 10) * 1024


@functools.cache
def memory() -> float:
  """Bytes that JAX may have of the least of this process's own GPUs."""
  of_devices = [d.memory_stats() or {} for d in jax.local_devices(backend='cuda')]
  return min(
    (stats.get('bytes_limit', math.inf) for stats in of_devices), default=math.inf
  )


@functools.cache
def compile_ptx(macros: tuple[tuple[str, Any], ...]) -> str:
  """The kernels for these sizes and options as PTX, kept in the process and on disk.

  On disk beside the programs that XLA keeps: `jax_compilation_cache_dir`.
  """
  from cuda.bindings import nvrtc

  source = (_FOLDER / 'recur.cu').read_bytes()
  header = _HEADER.read_bytes()
  options = [*_FLAGS, *(f'-D{k}={v}'.encode() for k, v in macros)]
  kept = None
  if folder := jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
    key = hashlib.sha256(repr((nvrtc.nvrtcVersion(), options)).encode())
    key.update(source + header)
    kept = pathlib.Path(folder, f'seqjax-{key.hexdigest()}.ptx')
    with contextlib.suppress(OSError):  # it is not there, or no folder of this machine
      return kept.read_text()

  text = _ptx(source, options, header)
  # NVRTC names its own version, which an older driver refuses, though the kernels need
  # nothing of it.
  text = re.sub(r'\.version \d+\.\d+', f'.version {_PTX_VERSION}', text, count=1)
  if kept is not None and '://' not in str(folder):
    try:
      kept.parent.mkdir(parents=True, exist_ok=True)
      with whole.replacing(kept) as part:
        part.write_text(text)
    except OSError as error:
      logging.getLogger('seqjax').warning('%s is not kept: %s', kept, error)
  return text


def launch(
  name: str,
  macros: tuple[tuple[str, Any], ...],
  grid: tuple[int, int],
  block: int,
  shared_bytes: int,
  results: list[Any],
  *operands: Array,
) -> list[Array]:
  """Runs a kernel: a block of threads for each place of a grid."""
  call = jax.ffi.ffi_call('__gpu$xla.gpu.ptx', results)
  (x, y), one = map(np.int32, grid), np.int32(1)
  outputs: Any = call(
    *operands,
    name=name,
    kernel_type='ptx',
    kernel_data=compile_ptx(macros),
    grid_x=x,
    grid_y=y,
    grid_z=one,
    block_x=np.int32(block),
    block_y=one,
    block_z=one,
    shared_mem_bytes=np.int32(shared_bytes),
  )
  return outputs
