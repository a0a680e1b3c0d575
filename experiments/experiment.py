"""What is the same for all experiments: how one is run, and how its run is opened.

An experiment is a module with `Config`, `make_model`, `run` and `task`: the package, or
a module of it, that knows how to `load`, `train` and `predict`. A new task is a package
with these three; nothing here or in `predict` has to know of it. Where a model's sizes
come from the data, what `load` returns has `sizes` for `make_model`, and the task reads
those of a run from its folder.
"""

import dataclasses
import functools
import importlib
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from seqjax import workdir
from seqjax.config import TrainConfig
from seqjax.types import InputError, PyTree
from seqjax.workdir import checkpoint


def training(
  task: Any, name: str, title: str, make_model: Callable[..., nn.Module]
) -> Callable[[Any], dict[str, Any]]:
  """Returns the `run` of an experiment: config -> result.

  Args:
    task: With `load` and `train`.
    name: Of the experiment, as in its command.
    title: The model, for readers; fields of the config in braces.
    make_model: config, and the data's `sizes` where it has such -> model.
  """

  def run(config: Any) -> dict[str, Any]:
    data = task.load(config)
    return task.train(
      config,
      data,
      name=name,
      title=title.format_map(dataclasses.asdict(config)),
      model=make_model(config, *getattr(data, 'sizes', ())),
    )

  return run


class Run(NamedTuple):
  """A run that was trained before: what config.json names."""

  folder: pathlib.Path
  experiment: str
  task: Any  # None: the experiment has none
  config: TrainConfig
  model: nn.Module


def open_run(folder: str) -> Run:
  """Reads what a run was started with, and builds its model.

  Raises:
    InputError: The folder is no workdir of an experiment of this package, or of several
      seeds.
  """
  if not folder:
    raise InputError('--workdir must name the folder of a run')
  record = workdir.settings(pathlib.Path(folder))
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
  task: Any = getattr(module, 'task', None)
  path = pathlib.Path(folder)
  sizes = task.sizes(path) if hasattr(task, 'sizes') else ()
  return Run(path, name, task, config, module.make_model(config, *sizes))


def best_params(run: Run, x: Any) -> PyTree:
  """Parameters of the best epoch, for x [B, ...]; see `checkpoint.best_params`."""
  init = functools.partial(run.model.init, train=False)
  variables = jax.eval_shape(init, jax.random.key(0), x)
  return checkpoint.best_params(run.folder, variables['params'])
