"""Arrays in a folder, through Orbax: several processes write it together.

Orbax is imported at the first save or restore: the first step comes before it.
"""

from __future__ import annotations

import contextlib
import logging as python_logging
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping, Set
from importlib import metadata
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

if TYPE_CHECKING:
  import orbax.checkpoint as ocp

VERSION = f'Orbax {metadata.version("orbax-checkpoint")}'
_BARRIER_SECONDS = 600  # a process that is lost or stuck ends the others before


def write(folder: pathlib.Path, values: Mapping[str, Any]) -> None:
  """Writes arrays by path, but those of size 0, which Orbax refuses.

  All processes call it, each with all values. Of an array that lives on the devices of
  all of them each process writes a part, where its shape can be cut; the rest is
  written by process 0, NumPy's arrays too.
  """
  full = {path: value for path, value in values.items() if value.size}
  if full:
    import orbax.checkpoint as ocp

    everyone = set(range(jax.process_count()))
    with _orbax(everyone) as checkpointer, _hushed_late_writes():
      checkpointer.save(folder, args=ocp.args.PyTreeSave(full))


def read(folder: pathlib.Path, like: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Reads the arrays by path that `write` wrote, of the shapes of `like`.

  For one process alone, whoever wrote them.
  """
  full = [k for k, v in like.items() if 0 not in np.shape(v)]
  values = {k: np.zeros(v.shape, v.dtype) for k, v in like.items() if k not in full}
  if full:
    import orbax.checkpoint as ocp

    to_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
    args = ocp.args.PyTreeRestore(restore_args=dict.fromkeys(full, to_numpy))
    with _orbax({jax.process_index()}) as checkpointer:
      values |= checkpointer.restore(folder, args=args)
  return values


def barrier(name: str) -> None:
  """Waits until all processes are here; no name twice.

  They meet over their own connection, not over the devices: a thread may wait here
  while the devices are at work.
  """
  if jax.process_count() > 1:
    import orbax.checkpoint as ocp

    wait = ocp.multihost.get_barrier_sync_fn()
    wait(key=name, timeout_ms=_BARRIER_SECONDS * 1000)


@contextlib.contextmanager
def _hushed_late_writes() -> Iterator[None]:
  """Keeps writes that end after one that failed from printing a traceback each.

  Each tells a loop of asyncio that it is done, which Orbax has closed by then.
  """
  before = sys.unraisablehook

  def hook(unraisable: Any) -> None:
    error = unraisable.exc_value
    if not (isinstance(error, RuntimeError) and str(error) == 'Event loop is closed'):
      before(unraisable)

  sys.unraisablehook = hook
  yield
  sys.unraisablehook = before  # after a failure it stays: some of them are under way


@contextlib.contextmanager
def _orbax(processes: Set[int]) -> Iterator[ocp.Checkpointer]:
  """A silent Checkpointer of some processes; what fails is raised all the same."""
  import orbax.checkpoint as ocp

  # Orbax meets over the processes' connection only where they are named.
  options = ocp.options.MultiprocessingOptions(
    primary_host=min(processes), active_processes=set(processes)
  )

  def not_orbax(record: python_logging.LogRecord) -> bool:
    return f'{os.sep}orbax{os.sep}' not in record.pathname

  logger = python_logging.getLogger('absl')
  logger.addFilter(not_orbax)
  try:
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=options)
    with ocp.Checkpointer(handler, multiprocessing_options=options) as checkpointer:
      yield checkpointer
  finally:
    logger.removeFilter(not_orbax)
