"""A run that was trained before, as its workdir has it: experiment, config, model."""

import dataclasses
import functools
import importlib
import pathlib
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from seqjax import workdir
from seqjax.config import TrainConfig
from seqjax.types import InputError, PyTree
from seqjax.workdir import trained


class Run(NamedTuple):
  """What config.json names."""

  folder: pathlib.Path
  experiment: str
  config: TrainConfig
  model: nn.Module


def open_run(folder: str) -> Run:
  """Reads what a run was started with, and builds its model.

  Raises:
    InputError: The folder is no workdir of an experiment of this package.
  """
  if not folder:
    raise InputError('--workdir must name the folder of a run')
  record = workdir.read_config(pathlib.Path(folder))['config']
  name = record.get('experiment')
  if not isinstance(name, str) or not name.isidentifier():
    raise InputError(f'--workdir={folder}: config.json names no experiment')
  try:
    module: Any = importlib.import_module(f'experiments.{name}')
  except ModuleNotFoundError as error:
    raise InputError(
      f'--workdir={folder}: a run of {name!r}, which is no experiment of this package'
    ) from error
  if not hasattr(module, 'make_model'):
    raise InputError(f'--workdir={folder}: a run of {name}, which has no model')
  fields = {spec.name for spec in dataclasses.fields(module.Config)}
  config = module.Config(**{k: v for k, v in record.items() if k in fields})
  return Run(pathlib.Path(folder), name, config, module.make_model(config))


def best_params(run: Run, x: Any) -> PyTree:
  """Parameters of the best epoch, for inputs like x [B, ...]; errors as `trained`'s."""
  init = functools.partial(run.model.init, train=False)
  variables = jax.eval_shape(init, jax.random.key(0), x)
  return trained.best_params(run.folder, variables['params'])
