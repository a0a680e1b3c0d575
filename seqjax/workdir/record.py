"""Where a run is kept: in a folder that survives it, or in memory.

Both take the same calls from the loop, in this order: `start`, `checkpoints`, `log`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeAlias

import jax

from seqjax.cluster import processes
from seqjax.types import InputError, PyTree
from seqjax.workdir import folder as folder_lib
from seqjax.workdir.checkpoint import Checkpoints
from seqjax.workdir.integrity import Restored
from seqjax.workdir.log import RunLog, read_metrics


@dataclasses.dataclass(frozen=True)
class OnDisk:
  """In a workdir, which one run at a time holds; see `seqjax.workdir`.

  Attributes:
    folder: The workdir.
    config: What config.json is to hold: a later start with another is refused.
    free: Names in `config` that may differ, as they do not change what is computed.
    defaults: What a name stands for that an older config.json does not have.
    keep: Latest checkpoints to keep.
    files: Name -> what writes it at a path; written at every start.
  """

  folder: Path
  config: Mapping[str, Any]
  free: frozenset[str] = frozenset()
  defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  keep: int = 3
  files: Mapping[str, Callable[[Path], None]] = dataclasses.field(default_factory=dict)

  @contextlib.contextmanager
  def start(
    self, environment: Mapping[str, Any], fingerprints: Mapping[str, str]
  ) -> Iterator[None]:
    """Holds the workdir; raises InputError if it is another run's."""
    with contextlib.ExitStack() as held:

      def start_folder() -> None:
        held.enter_context(folder_lib.lock(self.folder))
        record = {**self.config, **fingerprints}
        folder_lib.start_config(
          self.folder, record, environment, self.free, self.defaults
        )
        for name, write in self.files.items():
          with folder_lib.naming(self.folder, name):
            write(self.folder / name)

      processes.on_first(start_folder)
      processes.check_shared(self.folder / 'config.json')
      yield

  def checkpoints(self) -> AbstractContextManager[Saves]:
    return Checkpoints(self.folder / 'checkpoints', keep=self.keep)

  def log(self, resume_step: int | None) -> AbstractContextManager[Log]:
    return RunLog(self.folder, resume_step, writes=processes.is_first())

  def first_start(self) -> Mapping[str, Any]:
    """The environment of the first start; {} before it."""
    if not os.path.exists(self.folder / 'config.json'):  # False for any bad path
      return {}
    try:
      starts: list[Mapping[str, Any]] = folder_lib.read_config(self.folder)['starts']
    except InputError:  # `start` says it, in all processes
      return {}
    return starts[0] if starts else {}

  def changes(self) -> Mapping[str, str]:
    """What the bits depend on and differs from the first start."""
    return folder_lib.changes(self.folder)

  def lines(self) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    return read_metrics(self.folder)


class InMemory:
  """As `OnDisk` in all that a later call in the same process can ask for."""

  folder: Path | None = None

  def __init__(self) -> None:
    self.rejected: list[str] = []
    self._newest: Restored | None = None
    self._best: Restored | None = None
    self._lines: list[dict[str, Any]] = []

  @contextlib.contextmanager
  def start(
    self, environment: Mapping[str, Any], fingerprints: Mapping[str, str]
  ) -> Iterator[None]:
    yield

  def checkpoints(self) -> AbstractContextManager[Saves]:
    return contextlib.nullcontext(self)

  def log(self, resume_step: int | None) -> AbstractContextManager[Log]:
    step = -1 if resume_step is None else resume_step
    kept = [line for line in self._lines if line['event'] != 'stop']
    self._lines = [line for line in kept if line['step'] <= step]
    return contextlib.nullcontext(self)

  def first_start(self) -> Mapping[str, Any]:
    return {}

  def changes(self) -> Mapping[str, str]:
    return {}

  def lines(self) -> list[dict[str, Any]]:
    return self._lines

  def save(
    self, step: int, state: PyTree, progress: dict[str, Any], *, best: bool = False
  ) -> None:
    """Keeps a copy of the state on the host; of the newest and of the best alone."""
    copy = jax.tree.map(lambda a: a.copy(), jax.device_get(state))
    self._newest = Restored(step, copy, progress)
    if best:
      self._best = self._newest

  def restore(self, template: PyTree) -> Restored | None:
    return _placed(self._newest, template)

  def restore_best(self, template: PyTree) -> Restored | None:
    return _placed(self._best, template)

  def wait(self) -> None:
    pass

  def folders(self) -> list[Path]:
    return []

  def write(self, event: str, step: int, **values: Any) -> None:
    line = {'event': event, 'step': step, **values}
    if line not in self._lines[-3:]:  # a line of the resumed step may come once more
      self._lines.append(line)

  def write_timing(self, step: int, **values: float) -> None:
    pass

  def sync(self) -> None:
    pass


Record: TypeAlias = OnDisk | InMemory  # one run's
Log: TypeAlias = RunLog | InMemory  # what the loop tells of itself
Saves: TypeAlias = Checkpoints | InMemory  # what the loop saves and begins from


def _placed(saved: Restored | None, template: PyTree) -> Restored | None:
  """What was saved, on the devices of the template."""
  if saved is None:
    return None
  places = jax.tree.map(lambda leaf: leaf.sharding, template)
  return saved._replace(state=jax.device_put(saved.state, places))
