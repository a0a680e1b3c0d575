"""Events of a run as lines: metrics, times, and both for TensorBoard.

| file          | holds                                        | after kill and resume |
|---------------|----------------------------------------------|-----------------------|
| metrics.jsonl | one JSON line per event: no time, no machine | bit-identical         |
| timing.jsonl  | seconds and rates, one line per window       | appended, never cut   |
| tb/           | both of the above for TensorBoard            | redone steps hidden   |
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from seqjax.files import whole
from seqjax.types import InputError
from seqjax.workdir import events
from seqjax.workdir.folder import naming, to_json


class RunLog:
  """Writes metrics.jsonl, timing.jsonl and TensorBoard events of one run.

  A run killed anywhere and resumed ends with the metrics.jsonl of the uninterrupted
  run, bit for bit, if its caller keeps three rules: every line of a step is written
  before `sync`, `sync` before the checkpoint of that step is declared, and what a line
  holds follows from (config, step) alone. A line of the resumed step itself may be
  written once more: if the file already holds it, nothing is added.

  Every line goes to the operating system at once and so survives SIGKILL; `sync` makes
  it survive a power cut.
  """

  def __init__(
    self,
    workdir: str | os.PathLike[str],
    resume_step: int | None,
    *,
    writes: bool = True,
  ):
    """Opens the files.

    Args:
      workdir: An existing folder, locked by the caller.
      resume_step: Step of the restored checkpoint. Lines of later steps, a torn last
        line and all `stop` lines are dropped. None starts metrics.jsonl anew.
      writes: False in a process that is not to write: all is checked, no file touched.

    Raises:
      InputError: The folder cannot be written, or metrics.jsonl is missing or damaged.
    """
    self._folder = Path(workdir)
    self._step = 0 if resume_step is None else resume_step
    self._writes = writes
    if not writes:
      return
    path = self._folder / 'metrics.jsonl'
    kept = []
    if resume_step is not None:
      for line, record in _parse(self._folder):
        if record['step'] <= resume_step and record['event'] != 'stop':
          kept.append((line, record['step']))
    self._replayed = {line for line, step in kept if step == resume_step}
    with naming(self._folder, 'metrics.jsonl'):
      whole.write(path, b''.join(line for line, _ in kept))
      self._metrics = _Appender(path)
    with naming(self._folder, 'timing.jsonl'):
      self._timing = _Appender(self._folder / 'timing.jsonl')
      self._timing.end_torn_line()
    with naming(self._folder, 'tb'):
      (self._folder / 'tb').mkdir(exist_ok=True)
      self._tb = _Appender(self._folder / 'tb' / events.file_name())
      first = 0 if resume_step is None else resume_step + 1
      self._events = events.Events(self._tb.write, first)

  def write(self, event: str, step: int, **values: Any) -> None:
    """Appends one line to metrics.jsonl, and its floats to TensorBoard.

    Args:
      event: Kind of line: 'train', 'epoch', ...; 'stop' says how a process ended early
        and is dropped on resume.
      step: Number of finished training steps, never less than in the line before.
      **values: Numbers, strings or None, written in this order. Floats keep every bit.
        JSON has no nan and inf: a 'stop' line holds them as strings, others refuse.

    Raises:
      ValueError: A float is not finite, or the step runs backwards.
      InputError: The disk refuses; metrics.jsonl is then as it was before the call.
    """
    if step < self._step:
      raise ValueError(f'{event} of step {step} follows a line of step {self._step}')
    record: dict[str, Any] = {'event': event, 'step': int(step)}
    for name, value in values.items():
      number = value.item() if isinstance(value, np.generic | np.ndarray) else value
      if isinstance(number, float) and not math.isfinite(number):
        if event != 'stop':
          raise ValueError(f'{event} of step {step}: {name} is {number}, not finite')
        number = str(number)
      record[name] = number
    line = to_json(record).encode() + b'\n'
    if not self._writes or line in self._replayed:
      return
    with naming(self._folder, 'metrics.jsonl'):
      self._metrics.write(line)
    self._step = int(step)
    self._scalars(event, record)

  def write_timing(self, step: int, **values: float) -> None:
    """Appends seconds, rates, ... of the window that ends at `step` to timing.jsonl.

    Raises:
      ValueError: A value is not a finite number.
      InputError: The disk refuses.
    """
    record = {'step': int(step), **{name: float(v) for name, v in values.items()}}
    line = to_json(record).encode() + b'\n'
    if not self._writes:
      return
    with naming(self._folder, 'timing.jsonl'):
      self._timing.write(line)
    self._scalars('timing', record)

  def sync(self) -> None:
    """Brings all lines to the disk; call it before a checkpoint is declared."""
    if not self._writes:
      return
    with naming(self._folder, 'metrics.jsonl'):
      self._metrics.sync()
      self._timing.sync()

  def close(self) -> None:
    """Closes the files; a second call does nothing."""
    if not self._writes:
      return
    for file in (self._metrics, self._timing, self._tb):
      file.close()

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *error: object) -> None:
    self.close()

  def _scalars(self, group: str, record: Mapping[str, Any]) -> None:
    scalars = {f'{group}/{k}': v for k, v in record.items() if isinstance(v, float)}
    with naming(self._folder, 'tb'):
      self._events.scalars(record['step'], scalars)


def read_metrics(workdir: str | os.PathLike[str]) -> list[dict[str, Any]]:
  """Reads metrics.jsonl, each line with `event` and `step`, without a torn last line.

  Raises:
    InputError: The file is missing, or a line is not one of ours.
  """
  return [record for _, record in _parse(Path(workdir))]


def read_timing(workdir: str | os.PathLike[str]) -> list[dict[str, float]]:
  """Reads timing.jsonl. Steps redone after a kill occur twice; torn lines are left out.

  Raises:
    InputError: The file cannot be read.
  """
  folder, records = Path(workdir), []
  with naming(folder, 'timing.jsonl', 'read'):
    lines = (folder / 'timing.jsonl').read_bytes().splitlines()
  for line in lines:
    # The file is never cut, so a line torn by a kill may stand anywhere in it.
    with contextlib.suppress(ValueError):
      record = json.loads(line)
      if isinstance(record, dict):
        records.append(record)
  return records


class _Appender:
  """Appends whole pieces to a file, past all buffers of this process."""

  def __init__(self, path: Path):
    self._file: int | None = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)

  def write(self, data: bytes) -> None:
    """Writes all of `data`, or nothing and raises OSError."""
    start = os.fstat(self._open()).st_size
    try:
      rest = memoryview(data)
      while rest:
        rest = rest[os.write(self._open(), rest) :]
    except OSError:
      os.ftruncate(self._open(), start)
      raise

  def end_torn_line(self) -> None:
    """Puts what follows on a line of its own."""
    size = os.fstat(self._open()).st_size
    if size and os.pread(self._open(), 1, size - 1) != b'\n':
      self.write(b'\n')

  def sync(self) -> None:
    os.fsync(self._open())

  def close(self) -> None:
    file, self._file = self._file, None
    if file is not None:
      os.close(file)

  def _open(self) -> int:
    if self._file is None:
      raise ValueError('the log is closed')
    return self._file


def _parse(folder: Path) -> list[tuple[bytes, dict[str, Any]]]:
  """Lines of metrics.jsonl, as bytes and decoded, without a torn last line."""
  path = folder / 'metrics.jsonl'
  with naming(folder, path.name, 'read'):
    data = path.read_bytes()
  lines = data.split(b'\n')[:-1]
  return [
    (line + b'\n', _decode(line, f'{path}, line {number}'))
    for number, line in enumerate(lines, 1)
  ]


def _decode(line: bytes, where: str) -> dict[str, Any]:
  try:
    record = json.loads(line.decode())
    whole = isinstance(record['event'], str) and isinstance(record['step'], int)
  except (ValueError, KeyError, TypeError):
    whole = False
  if not whole:
    raise InputError(f'{where}: expected a JSON object with "event" and "step"')
  return record
