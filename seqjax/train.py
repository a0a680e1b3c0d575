"""`run`: a command's run, from a config to result.json and a picture."""

import contextlib
import dataclasses
import importlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax

from seqjax import workdir
from seqjax.cluster import compilation_cache, mesh, processes, signals
from seqjax.config import ClusterConfig, TrainConfig
from seqjax.files import whole
from seqjax.loop import DivergedError, Show, train
from seqjax.training.plan import Data, Task, choose_monitor, make_plan
from seqjax.types import InputError, PyTree
from seqjax.view import report
from seqjax.workdir import modules
from seqjax.workdir.record import OnDisk

__all__ = ['FREE_FIELDS', 'DivergedError', 'disk_record', 'run']

# Fields that do not change what is computed: a resumed run may have others.
FREE_FIELDS = frozenset(
  ['data_dir', 'cache_dir', 'workdir', 'save_every', 'keep']
  + [spec.name for spec in dataclasses.fields(ClusterConfig)]
) - {
  'data_parallel', 'accumulate_steps',  # these draw other dropout
  'steps_per_dispatch', 'resident',  # other programs: the last bits may differ
}  # fmt: skip

# (tested params on the host, result) -> more of the result
Finish = Callable[[PyTree, Mapping[str, Any]], Mapping[str, Any]]


def run(
  config: TrainConfig,
  task: Task,
  data: Data,
  *,
  name: str,
  title: str,
  facts: Mapping[str, Any] | None = None,
  published: Mapping[str, float] | None = None,
  finish: Finish | None = None,
  test_last: bool = False,
  files: Mapping[str, Callable[[Path], None]] | None = None,
) -> dict[str, Any]:
  """A command's run, from its config to its result, in a workdir.

  The workdir holds config.json, metrics.jsonl, timing.jsonl, tb/, checkpoints/, in the
  end curves.png and result.json.

  Args:
    config: Everything that flags can say. With `distributed` all processes call this.
    task: What is learned.
    data: From what.
    name: Of the experiment, as in its command.
    title: What is trained on what, for readers.
    facts: Names and values to show at the start, such as sizes of the data.
    published: Metric -> published validation value, for the picture.
    finish: Called at the end as (tested params, result), in process 0: what it returns
      comes into result.json too, and it may leave more in the workdir.
    test_last: Test the last epoch's parameters, not the best one's.
    files: Name -> what writes it at a path: what is needed to use the model later and
      follows from config and data, such as its vocabulary. Written at every start.

  Returns:
    What result.json holds.

  Raises:
    InputError: config and workdir do not fit, or the workdir cannot be written.
    DivergedError: a loss or a gradient is not finite.
    SystemExit: 75 after SIGTERM, 130 after Ctrl-C; the state is saved.
  """
  with processes.session(config):
    record = disk_record(config, name, task.model, files)
    shown = Show(name, facts, config.log_every, config.save_every, test_last=test_last)
    plan = make_plan(config, data.feed)
    compilation_cache.use_compilation_cache(config.compilation_cache)
    with signals.catch() as stop:
      outcome = train(choose_monitor(config, task), data, plan, record, shown, stop)
    if outcome.stop:
      sys.exit(outcome.stop.exit_code)
    folder = record.folder

    def write_result() -> None:
      params, result = outcome.params, outcome.result
      more = finish(jax.device_get(params), result) if finish is not None else {}
      workdir.write_result(folder, {**result, **more})
      report.draw(title, folder, config, outcome.progress, published)

    processes.on_first(write_result)
    result: dict[str, Any] = json.loads((folder / 'result.json').read_text())
    report.show_end(folder, result)
    return result


def warm_up(config: TrainConfig) -> None:
  """Does what each run needs, whatever its data: for a thread, while they are read."""
  # JAX lowers the draw of an orthogonal matrix by its LAPACK.
  importlib.import_module('scipy.linalg')
  if config.distributed:  # no device may be asked for before all processes are there
    return
  mesh.lend_cpu_cores(config.num_devices)
  with contextlib.suppress(InputError):  # `run` says so, once the data are there
    compilation_cache.use_compilation_cache(config.compilation_cache)
  jax.random.split(jax.random.key(config.seed))


def disk_record(
  config: TrainConfig,
  name: str,
  model: nn.Module,
  files: Mapping[str, Callable[[Path], None]] | None = None,
  arguments: Mapping[str, Any] | None = None,
) -> OnDisk:
  """The workdir that a config names, for runs of this config and model.

  `arguments` are what else makes the run, which its model then does, too: a later start
  with others is refused.
  """
  described = modules.describe(model)
  more = {} if arguments is None else {**arguments, 'model': json.dumps(described)}
  data = workdir.to_json(described, indent=2).encode() + b'\n'
  fields = dataclasses.fields(config)
  return OnDisk(
    Path(config.workdir or f'runs/{name}'),
    {'experiment': name, **dataclasses.asdict(config), **more},
    FREE_FIELDS,
    {**{spec.name: spec.default for spec in fields}, **more},
    config.keep,
    {**(files or {}), modules.FILE: lambda path: whole.write(path, data)},
  )
