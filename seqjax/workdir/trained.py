"""The best parameters of a run, read without a lock: the run may still be going on."""

from __future__ import annotations

import concurrent.futures
import json
import os
import pathlib

import jax
import numpy as np

from seqjax.types import InputError, PyTree
from seqjax.workdir import checkpoint, integrity, leaves, storage


def best_params(workdir: str | os.PathLike[str], template: PyTree) -> PyTree:
  """Returns the parameters of the best epoch; nothing is written.

  Args:
    workdir: Of the run.
    template: Tree of the parameters' shapes and dtypes; `jax.eval_shape` gives one.

  Returns:
    The tree with arrays, each compared with the checksum it was saved with.

  Raises:
    InputError: There is no intact save of a best epoch, or its parameters are not
      those of the template.
  """
  directory = pathlib.Path(workdir, 'checkpoints')
  refused = []
  for folder in reversed(checkpoint.saves(directory).values()):
    try:
      manifest = integrity.read_manifest(folder)
      if manifest['best']:
        return _read(folder, manifest, template)
    except (integrity.DamagedError, OSError) as error:
      refused.append(f'{folder.name}: {integrity.one_line(error)}')
  reason = f' ({"; ".join(refused)})' if refused else ''
  raise InputError(f'{directory} holds no intact checkpoint of a best epoch{reason}')


def _read(folder: pathlib.Path, manifest: dict, template: PyTree) -> PyTree:
  """Loads the parameters of one save."""
  integrity.check_files(folder, manifest['files'])
  wanted = leaves.by_path({'params': template})
  kinds = {path: kind for path, (kind, _) in manifest['leaves'].items()}
  ours = {path: kind for path, kind in kinds.items() if path.startswith('params/')}
  if wrong := leaves.mismatches(ours, wanted):
    raise InputError(f'{folder}: the model has changed: {wrong}')
  like = {path: _shape(kind) for path, kind in kinds.items()}
  # A thread of its own: Orbax replaces the event loop of the one it runs in.
  with concurrent.futures.ThreadPoolExecutor(1) as thread:
    values = thread.submit(storage.read, folder / 'state', like).result()
  for path in wanted:
    if leaves.array_digest(values[path]) != manifest['leaves'][path][1]:
      raise integrity.DamagedError(f'leaf {path} differs from what was saved (SHA-256)')
  arrays = [jax.numpy.array(values[path]) for path in wanted]
  return jax.tree.unflatten(jax.tree.structure(template), arrays)


def _shape(kind: str) -> jax.ShapeDtypeStruct:
  """'float32[3, 4]', as `leaves.describe` writes it, as a shape."""
  dtype, _, axes = kind.partition('[')
  return jax.ShapeDtypeStruct(tuple(json.loads(f'[{axes}')), np.dtype(dtype))
