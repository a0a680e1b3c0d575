"""Checkpoints that survive a kill at any moment and never restore a wrong bit."""

from __future__ import annotations

import concurrent.futures
import json
import operator
import os
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
from absl import logging
from flax import traverse_util
from jax.experimental import multihost_utils

from seqjax.files.sealed import DamagedError
from seqjax.types import InputError, PyTree
from seqjax.workdir import integrity, leaves, storage
from seqjax.workdir.integrity import LostError, Restored, SaveError, one_line

_MEAN = '/mean_params/'  # in the paths of a running mean; see `optim.with_mean`


class Checkpoints:
  """The checkpoints of one run: the newest intact one wins, the best is kept.

  A save is a folder, `000012-step3400`: the 12th of this directory, of step 3400. Orbax
  writes the values into its `state/`; a manifest follows with the checksums of all
  leaves (from memory) and files, and the progress; then the folder gets its name.
  Newest is what was saved last, so a run that went back to an older step is nothing
  special, nor is saving a step again.

  Orbax's plain Checkpointer in a thread of ours, as CheckpointManager and
  AsyncCheckpointer commit before the files can be checksummed, and the manager neither
  falls back nor keeps both latest and best.

  Several processes write the values together; number 0 adds the manifest, and looks
  after the directory. Each restores all values. They must call the same methods in the
  same order. An object is for one thread.
  """

  def __init__(self, directory: str | os.PathLike, *, keep: int = 3):
    """Opens or makes `directory`, and removes what a kill left half done.

    Args:
      directory: Folder for the checkpoints of this run alone, which holds the lock of
        its workdir.
      keep: How many of the last saves stay; the best stays besides.

    Raises:
      InputError: the directory cannot be made or written.
    """
    if keep < 1:
      raise ValueError(f'keep must be at least 1, got {keep}')
    self.directory = pathlib.Path(directory).absolute()
    self.rejected: list[str] = []  # 'folder: reason', by the last restore, newest first
    self._keep = keep
    self._damaged: set[str] = set()  # names of folders that the next save may remove
    self._is_first = jax.process_index() == 0
    self._number = 0
    if self._is_first:
      integrity.prepare(self.directory)
      self._number = max(integrity.saves(self.directory), default=0)
    if jax.process_count() > 1:
      number = multihost_utils.broadcast_one_to_all(np.int32(self._number))
      self._number = int(number)
    # All Orbax calls go to this thread: they replace the event loop of the thread they
    # run in, and fail inside a running one (a notebook's).
    self._thread = concurrent.futures.ThreadPoolExecutor(1, 'checkpoint')
    self._pending: concurrent.futures.Future[None] | None = None

  def save(
    self, step: int, state: PyTree, progress: dict[str, Any], *, best: bool = False
  ) -> None:
    """Copies `state` to host memory, then writes it while the caller goes on.

    Waits for the save before this one. A step may be saved again: the later save wins.

    Args:
      step: Number of training steps taken, >= 0.
      state: Tree of arrays and numbers; each process must hold all of each array.
      progress: What JSON can hold, to come back with the state.
      best: Whether this is the best state so far: it stays until another save is
        called best. The caller sees to it that no metric but a finite one counts.

    Raises:
      SaveError: the save before this one failed; this one was not begun.
      TypeError: a leaf, or a value of `progress`, is of a kind that cannot be saved.
    """
    step = operator.index(step)
    if step < 0:
      raise ValueError(f'step must be at least 0, got {step}')
    self.wait()
    # Copied: NumPy leaves may change, and on the CPU a fetched array is a view of JAX's
    # memory, which keeps the next step from reusing what it is donated.
    values = {path: value.copy() for path, value in leaves.fetch(state).items()}
    placed: dict[str, Any] = dict(values)
    for path, leaf in leaves.by_path(state).items():
      if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        placed[path] = leaves.put_like(values[path], leaf)  # so each writes a part
    manifest = {
      'format': integrity.FORMAT,
      'step': step,
      'best': bool(best),
      'progress': json.loads(json.dumps(progress)),  # as of now: the caller goes on
    }
    self._number += 1
    name = f'{self._number:06d}-step{step}'
    self._pending = self._thread.submit(self._write, name, values, placed, manifest)

  def restore(self, template: PyTree) -> Restored | None:
    """Returns the newest intact save, or None where there is none.

    Args:
      template: Tree like the saved one; its leaves say what to return: arrays and
        jax.ShapeDtypeStructs an array of their sharding, NumPy arrays and numbers such.

    Raises:
      InputError: an intact save has leaves of other paths, shapes or dtypes.
      SaveError: a save that was under way failed.
      RuntimeError: no save could be restored, and of one the files are intact.
    """
    return self._restore(template, only_best=False)

  def restore_best(self, template: PyTree) -> Restored | None:
    """Does as `restore` with the saves called best; damage to them is in `rejected`."""
    return self._restore(template, only_best=True)

  def wait(self) -> None:
    """Blocks until the last save is on disk; raises its SaveError if it failed."""
    if self._pending is not None:
      error = self._pending.exception()  # after a Ctrl-C here it is still pending
      self._pending = None
      if error is not None:
        raise error

  def close(self) -> None:
    """Waits as `wait` does, then ends the thread."""
    try:
      self.wait()
    finally:
      self._thread.shutdown()

  def __enter__(self) -> Checkpoints:
    return self

  def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
    try:
      self.close()
    except OSError as write_error:
      if error is None:
        raise
      logging.error('%s', write_error)  # the error under way is the one to raise

  def folders(self) -> list[pathlib.Path]:
    """Returns the folders of all saves on disk; see `integrity.saves`."""
    return list(integrity.saves(self.directory).values())

  def _write(
    self,
    name: str,
    values: dict[str, np.ndarray],
    placed: dict[str, Any],
    manifest: dict[str, Any],
  ) -> None:
    """Writes one save, then removes old ones. Runs in the thread."""
    unfinished = self.directory / f'{name}{integrity.UNFINISHED}'
    outcome = 'was not saved'
    try:
      if self._is_first:
        manifest['leaves'] = {
          k: [leaves.describe(v), leaves.array_digest(v)] for k, v in values.items()
        }
        unfinished.mkdir()
      storage.write(unfinished / 'state', placed)
      if self._is_first:
        integrity.commit(unfinished, self.directory / name, manifest)
        outcome = 'was saved, but an older one cannot be removed'
        self._remove_old()
      # One that failed does not come here: it ends, and that ends those who wait.
      storage.barrier(f'{self.directory}/{name}')
    except Exception as error:
      if self._is_first:
        # What stays is removed at the next open.
        shutil.rmtree(unfinished, ignore_errors=True)
      reason = f'step {manifest["step"]} {outcome}: {one_line(error)}'
      lost = isinstance(error, jax.errors.JaxRuntimeError)
      kind = LostError if lost else SaveError
      raise kind(f'{self.directory}: {reason}') from error

  def _remove_old(self) -> None:
    """Removes all but the best and the last `keep` saves. The newest is on disk."""
    folders = self.folders()
    intact = [path for path in folders if path.name not in self._damaged]
    best = [path for path in intact if integrity.is_best(path)]
    for path in folders:
      if path not in intact[-self._keep :] + best[-1:]:
        integrity.remove(path)

  def _restore(self, template: PyTree, *, only_best: bool) -> Restored | None:
    self.wait()
    self.rejected = []
    unreadable: list[Exception] = []

    def reject(name: str, error: Exception) -> None:
      reason = one_line(error)
      logging.warning('%s: not used for restoring: %s', self.directory / name, reason)
      self.rejected.append(f'{name}: {reason}')
      if isinstance(error, DamagedError):
        self._damaged.add(name)
      else:
        unreadable.append(error)

    restored = integrity.newest(
      self.directory,
      lambda kinds: (template, ''),
      self._thread,
      reject,
      only_best=only_best,
    )
    if restored is None and unreadable:  # to begin anew would in time remove it
      raise RuntimeError(f'{self.directory}: {unreadable[-1]}') from unreadable[-1]
    return restored


def best_params(
  workdir: str | os.PathLike[str], template: PyTree | None = None
) -> PyTree:
  """Returns the parameters of the best epoch; without a lock: the run may be going on.

  Where the run kept a running mean of them it is that: what it evaluated.

  Args:
    workdir: Of the run; nothing is written there.
    template: Tree of the parameters' shapes and dtypes; `jax.eval_shape` gives one.
      None: nested dicts, as they were saved.

  Returns:
    The tree with arrays, each compared with the checksum it was saved with.

  Raises:
    InputError: There is no intact save of a best epoch, or its parameters are not
      those of the template.
  """
  directory = pathlib.Path(workdir, 'checkpoints').absolute()
  rejected: list[str] = []
  parents: list[str] = []

  def reject(name: str, error: Exception) -> None:
    rejected.append(f'{name}: {one_line(error)}')

  def choose(kinds: dict[str, str]) -> tuple[PyTree, str]:
    means = [path for path in kinds if _MEAN in path]
    prefix = means[0].partition(_MEAN)[0] + _MEAN if means else 'params/'
    expected = template
    if expected is None:
      shapes = {
        path.removeprefix(prefix): leaves.described(kind)
        for path, kind in kinds.items()
        if path.startswith(prefix)
      }
      expected = traverse_util.unflatten_dict(shapes, sep='/')
    parents[:] = prefix.split('/')[:-1]
    for name in reversed(parents):
      expected = {name: expected}
    return expected, prefix

  with concurrent.futures.ThreadPoolExecutor(1) as thread:
    best = integrity.newest(directory, choose, thread, reject, only_best=True)
  if best is None:
    reason = f' ({"; ".join(rejected)})' if rejected else ''
    raise InputError(f'{directory} holds no intact checkpoint of a best epoch{reason}')
  params = best.state
  for parent in parents:
    params = params[parent]
  return params
