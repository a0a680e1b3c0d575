"""A run's workdir: one run at a time, one config, a result, and files that are whole.

| in the workdir             | what it is                             | written by   |
|----------------------------|----------------------------------------|--------------|
| config.json                | flags, and the environment at starts   | folder       |
| checkpoints/               | saves: state, progress, a manifest     | checkpoint   |
| metrics.jsonl              | numbers by step and epoch              | log          |
| timing.jsonl, tb/          | seconds and rates; TensorBoard's files | log          |
| result.json                | best epoch, test, digest of parameters | folder       |
| curves.png                 | the curves                             | view.report  |
| tokenizer.json and others  | what a task needs to predict           | the task     |

config.json holds `config`, as the run was started with it, and `starts`, the
environment of every start. Another environment is recorded, another config refused.
Paths and disks that fail are the user's to mend: they raise InputError naming
`workdir`.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import socket
import subprocess
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np

from seqjax.files import sealed, whole
from seqjax.types import InputError

SEEDS = 'seeds'  # where a workdir has those of several seeds, each by its number

_PACKAGES = ('seqjax', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
_RUN_FILES = ('metrics.jsonl', 'timing.jsonl', 'result.json', 'tb', 'checkpoints')


@contextlib.contextmanager
def lock(workdir: str | os.PathLike[str]) -> Iterator[None]:
  """Holds the workdir, made if need be; the kernel lets go when the process dies.

  Raises:
    InputError: Another run holds it, or the folder cannot be made or written.
  """
  if not os.fspath(workdir):
    raise InputError('`workdir` is empty; it must name a folder')
  folder = Path(workdir)
  with naming(folder, '.lock'):
    if folder.exists() and not folder.is_dir():
      raise InputError(f'`workdir` {folder} is a file; it must name a folder')
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / '.lock', os.O_RDWR | os.O_CREAT, 0o644)
  try:
    with naming(folder, '.lock'):
      try:
        sealed.lock(descriptor)
      except BlockingIOError as error:
        holder = os.pread(descriptor, 300, 0).decode(errors='replace').strip()
        raise InputError(
          f'`workdir` {folder} is in use by {holder or "another process"}; '
          f'wait for it or use another `workdir`'
        ) from error
      os.ftruncate(descriptor, 0)
      os.pwrite(descriptor, f'pid {os.getpid()} on {socket.gethostname()}'.encode(), 0)
    yield
    with naming(folder, '.lock'):
      os.ftruncate(descriptor, 0)
  finally:
    os.close(descriptor)


def start_config(
  workdir: str | os.PathLike[str],
  config: Mapping[str, Any],
  environment: Mapping[str, Any],
  ignore: Set[str] = frozenset(),
  defaults: Mapping[str, Any] | None = None,
) -> bool:
  """Writes config.json on the first start; on a later one checks it and adds the start.

  Returns:
    True if a run was started here before.

  Raises:
    InputError: As `check_config`, or files of a run lie here without config.json.
  """
  folder = Path(workdir)
  if not (folder / 'config.json').exists():
    left = [name for name in _RUN_FILES if (folder / name).exists()]
    if left:
      raise InputError(
        f'{folder / "config.json"} is missing, but {left[0]} of a run is there; '
        f'use an empty `workdir`'
      )
    write_config(folder, config, environment)
    return False
  changed = check_config(folder, config, ignore, defaults)
  stored = read_config(folder)
  start = {**environment, 'config': changed} if changed else dict(environment)
  _write_json(folder, 'config.json', {**stored, 'starts': [*stored['starts'], start]})
  return True


def write_config(
  workdir: str | os.PathLike[str],
  config: Mapping[str, Any],
  environment: Mapping[str, Any],
) -> None:
  """Writes config.json with this first start; see `start_config` for the others."""
  record = {'config': dict(config), 'starts': [dict(environment)]}
  _write_json(Path(workdir), 'config.json', record)


def check_config(
  workdir: str | os.PathLike[str],
  config: Mapping[str, Any],
  ignore: Set[str] = frozenset(),
  defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """Compares a config with the one that the run was started with.

  Args:
    workdir: Folder of the run.
    config: The config of this start.
    ignore: Fields that may differ, as they do not change what is computed.
    defaults: Values of fields that the run was started without, as they are younger.

  Returns:
    The ignored fields that differ, with their new values (None: no longer there).

  Raises:
    InputError: Other fields differ, or config.json is missing or damaged.
  """
  stored = read_config(Path(workdir))['config']
  old = {**json.loads(to_json(dict(defaults or {}))), **stored}
  new = json.loads(to_json(dict(config)))  # as the file has it: tuples are lists
  names = [k for k in {**old, **new} if old.get(k, ...) != new.get(k, ...)]
  refused = [
    f'{k} {_show(old, k)} -> {_show(new, k)}' for k in names if k not in ignore
  ]
  if refused:
    raise InputError(
      f'the run in {workdir} was started with another config: {", ".join(refused)}; '
      f'use another `workdir`'
    )
  return {k: new.get(k) for k in names}


# What the bits of a run depend on.
_DECISIVE = (
  'devices_used', 'seeds_at_once', 'steps_per_dispatch', 'resident', 'device_kind',
  'cpu', 'jax', 'jaxlib', 'numpy',
)  # fmt: skip


def changes(workdir: str | os.PathLike[str]) -> dict[str, str]:
  """What the bits of a result depend on, and differs between first and last start."""
  starts = read_config(Path(workdir))['starts']
  first, last = starts[0], starts[-1]
  return {
    name: f'{first[name]} -> {last.get(name)}'
    for name in _DECISIVE
    if name in first and first[name] != last.get(name)
  }


def write_result(workdir: str | os.PathLike[str], result: Mapping[str, Any]) -> None:
  """Writes result.json, keys in the order given.

  Raises:
    ValueError: A float is not finite.
    InputError: The disk refuses; an older result.json is then still whole.
  """
  _write_json(Path(workdir), 'result.json', dict(result))


def seed_folders(folder: Path, prefix: str = '') -> dict[int, Path]:
  """Seed -> what is named by it, behind a prefix; by number, whatever else is there."""
  numbers = {path.name.removeprefix(prefix): path for path in folder.glob(f'{prefix}*')}
  found = {int(name): path for name, path in numbers.items() if name.isdecimal()}
  return dict(sorted(found.items()))


def environment() -> dict[str, Any]:
  """What this process runs on: versions, machine, devices, and the commit if known."""
  import jax  # here: who only reads the files of a run needs no devices

  devices = jax.devices()
  return {
    'started': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'commit': _commit(),
    'python': platform.python_version(),
    **{name: version(name) for name in _PACKAGES},
    'platform': platform.platform(),
    'cpu': _cpu_model(),
    'cpu_cores': num_cores(),
    'backend': jax.default_backend(),
    'device_kind': devices[0].device_kind,
    'device_count': len(devices),
    'process_count': jax.process_count(),
  }


def num_cores() -> int:
  """CPU cores that this process may use."""
  affinity = getattr(os, 'sched_getaffinity', None)  # on Linux alone
  return len(affinity(0)) if affinity else os.cpu_count() or 1


@contextlib.contextmanager
def naming(folder: Path, name: str, verb: str = 'write') -> Iterator[None]:
  """Turns an OSError into an InputError of one line that names `workdir` and the cause.

  Args:
    folder: The workdir.
    name: The file in it.
    verb: What could not be done with it.
  """
  try:
    yield
  except OSError as error:
    cause = error.strerror or str(error)
    raise InputError(f'`workdir` {folder}: cannot {verb} {name}: {cause}') from error


def to_json(record: Any, indent: int | None = None) -> str:
  """JSON in ASCII, NumPy scalars as numbers; floats keep every bit (repr round trip).

  Raises:
    ValueError: A float is not finite: JSON has no word for it.
    TypeError: A value has no JSON form; arrays of devices must be fetched first.
  """
  return json.dumps(record, indent=indent, allow_nan=False, default=_scalar)


def _scalar(value: Any) -> Any:
  if isinstance(value, np.generic | np.ndarray) and value.ndim == 0:
    return value.item()
  raise TypeError(f'a JSON value must be a number, text or None, got {type(value)}')


def _show(config: dict[str, Any], name: str) -> str:
  return to_json(config[name]) if name in config else '(none)'


def _write_json(folder: Path, name: str, record: dict[str, Any]) -> None:
  data = to_json(record, indent=2).encode() + b'\n'
  with naming(folder, name):
    whole.write(folder / name, data)


def read_config(folder: Path) -> dict[str, Any]:
  """What config.json holds; raises InputError where it is missing or damaged."""
  path = folder / 'config.json'
  with naming(folder, path.name, 'read'):
    data = path.read_bytes()
  try:
    record = json.loads(data)
    whole = isinstance(record['config'], dict) and isinstance(record['starts'], list)
  except (ValueError, KeyError, TypeError):
    whole = False
  if not whole:
    raise InputError(
      f'{path} is damaged: it must hold the config and the starts of a run; '
      f'restore it or use another `workdir`'
    )
  return record


def settings(folder: Path) -> dict[str, Any]:
  """What a run was started with; raises InputError where it is of several seeds."""
  stored: dict[str, Any] = read_config(folder)['config']
  if places := seed_folders(folder / SEEDS):
    raise InputError(
      f'{folder} holds the runs of many seeds: name one of them, such as '
      f'{next(iter(places.values()))}'
    )
  return stored


def version(name: str) -> str | None:
  """That of a package; None where it is not installed."""
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return None


def _cpu_model() -> str:
  with contextlib.suppress(OSError):  # Linux only
    for line in Path('/proc/cpuinfo').read_text().splitlines():
      if line.startswith('model name'):
        return line.partition(':')[2].strip()
  return platform.processor()


def _commit(folder: Path = Path(__file__).parent) -> str | None:
  """Commit that `folder` is checked out at, '+dirty' if changed; None if unknown."""
  # Without GIT_DIR and the like, which a hook sets: they name another repository.
  names = {k: v for k, v in os.environ.items() if not k.startswith('GIT_')}

  def git(*arguments: str) -> str:
    command = ['git', '--no-optional-locks', '-C', os.fspath(folder), *arguments]
    done = subprocess.run(
      command, env=names, capture_output=True, text=True, timeout=5, check=True
    )
    return done.stdout.strip()

  try:
    # An installed package may lie inside a repository that does not track it.
    git('ls-files', '--error-unmatch', Path(__file__).name)
    head = git('rev-parse', 'HEAD')
    changes = git('status', '--porcelain', '--untracked-files=no')
  except (OSError, subprocess.SubprocessError):
    return None
  return f'{head}+dirty' if changes else head
