"""Several processes as one run: they meet, agree to stop, and are not waited for."""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from seqjax.cluster import mesh as mesh_lib
from seqjax.config import ClusterConfig, as_flags
from seqjax.types import CommandError, InputError

_MESSAGE_BYTES = 1000


@contextlib.contextmanager
def session(config: ClusterConfig) -> Iterator[None]:
  """Meets the other processes, if there are any, and prints in process 0 alone.

  An error that the others do not have ends this process at once, with its exit code:
  they wait for it, and it must not wait for them.

  Raises:
    InputError: the flags and the environment do not say who this process is.
  """
  if config.distributed and not jax.distributed.is_initialized():
    _initialize(config)
    mesh_lib.lend_cpu_cores(config.num_devices)
  if not jax.distributed.is_initialized() or jax.process_count() == 1:
    yield
    return
  if jax.process_index():
    # For good: experiments print at the end, too.
    sys.stdout = open(os.devnull, 'w')  # noqa: SIM115
  try:
    yield
  except SystemExit:
    raise
  except CommandError as error:
    if error.everywhere:
      raise
    print(f'process {jax.process_index()}: {as_flags(str(error))}', file=sys.stderr)
    _leave_at_once(error.exit_code)
  except BaseException:
    print(f'process {jax.process_index()}:', file=sys.stderr)
    traceback.print_exc()
    _leave_at_once(1)


def is_first() -> bool:
  """Whether this process is the one that writes logs, pictures and tables."""
  return jax.process_index() == 0


def on_first(act: Callable[[], None]) -> None:
  """Calls `act` in process 0 while the others wait; its InputError is raised in all."""
  message = np.zeros(_MESSAGE_BYTES, np.uint8)
  if is_first():
    try:
      act()
    except InputError as error:
      if jax.process_count() == 1:
        raise
      text = str(error).encode()[:_MESSAGE_BYTES]
      message[: len(text)] = np.frombuffer(text, np.uint8)
  if jax.process_count() > 1:
    message = np.asarray(multihost_utils.broadcast_one_to_all(message))
    if message.any():
      shared = InputError(message.tobytes().rstrip(b'\0').decode(errors='replace'))
      shared.everywhere = True
      raise shared


def all_agree(yes: bool) -> bool:
  """Whether all processes say yes."""
  if jax.process_count() == 1:
    return yes
  return bool(np.all(multihost_utils.process_allgather(np.bool_(yes))))


def check_shared(path: Path) -> None:
  """Raises InputError unless this process sees what process 0 has just written."""
  if not path.exists():
    raise InputError(
      f'`workdir` {path.parent}: process {jax.process_index()} does not see '
      f'{path.name}; expected a folder that all processes share'
    )


def check_same(number: int, what: str) -> None:
  """Raises CommandError if process 0 has another number."""
  if jax.process_count() > 1:
    first = int(multihost_utils.broadcast_one_to_all(np.int32(number)))
    if first != number:
      raise CommandError(f'{what} is {number}, in process 0 it is {first}')


def _initialize(config: ClusterConfig) -> None:
  count = _number(config.num_processes, 'SEQJAX_NUM_PROCESSES')
  process = _number(config.process_id, 'SEQJAX_PROCESS_ID')
  try:
    jax.distributed.initialize(
      config.coordinator,
      count,
      process,
      initialization_timeout=config.start_timeout,
      heartbeat_timeout_seconds=config.heartbeat_timeout,
      shutdown_timeout_seconds=config.end_timeout,
    )
  except ValueError as error:
    raise InputError(
      f'`distributed`: {" ".join(str(error).split())} Where there is no Slurm, Open '
      'MPI, GKE or Cloud TPU, give `coordinator=HOST:PORT`, `num_processes` and '
      '`process_id`'
    ) from error


def _number(flag: int | None, variable: str) -> int | None:
  value = os.environ.get(variable)
  if flag is not None or not value:
    return flag
  if not value.isdecimal():
    raise InputError(f'${variable} must be a number, got {value!r}')
  return int(value)


def _leave_at_once(exit_code: int) -> NoReturn:
  """Exits without the handshake at the end, which would wait for `end_timeout`."""
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(exit_code)
