"""`run`: a command's run, from a config to result.json and a picture."""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax

from seqjax import workdir
from seqjax.cluster import compilation_cache, memory, processes, signals
from seqjax.config import ClusterConfig, TrainConfig
from seqjax.files import whole
from seqjax.loop import DivergedError, Outcome, Show, train, train_seeds
from seqjax.training.plan import Data, Plan, Task, choose_monitor, make_plan
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

# (tested params on the host, result, workdir) -> more of the result
Finish = Callable[[PyTree, Mapping[str, Any], Path], Mapping[str, Any]]


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
  end curves.png and result.json. With `num_seeds` it holds a folder like that for each
  seed, seeds/S, a result.json with means and spreads, and a picture of all curves.

  Args:
    config: Everything that flags can say. With `distributed` all processes call this.
    task: What is learned.
    data: From what.
    name: Of the experiment, as in its command.
    title: What is trained on what, for readers.
    facts: Names and values to show at the start, such as sizes of the data.
    published: Metric -> published validation value, for the picture.
    finish: Called at the end of each seed as (tested params, result, workdir), in
      process 0: what it returns comes into result.json too, and it may leave more.
    test_last: Test the last epoch's parameters, not the best one's.
    files: Name -> what writes it at a path: what is needed to use the model later and
      follows from config and data, such as its vocabulary. Written at every start.

  Returns:
    What result.json holds.

  Raises:
    InputError: config and workdir do not fit, or the workdir cannot be written.
    DivergedError: a loss or a gradient is not finite; of seeds at once, in the end.
    SystemExit: 75 after SIGTERM, 130 after Ctrl-C; the state is saved.

  Example:
    >>> import contextlib, io
    >>> from seqjax import config, train
    >>> from seqjax.training import plan
    >>> settings = config.TrainConfig(num_epochs=1, workdir=tempfile.mkdtemp() + '/run')
    >>> x = np.ones((128, 5, 3), np.float32)
    >>> data = plan.make_data(settings, (x, x[:, 0, 0]))
    >>> task = plan.Task(sj.SequenceRegressor(sj.GRU(8)), sj.losses.absolute_error)
    >>> with contextlib.redirect_stdout(io.StringIO()):  # which shows how it goes
    ...   result = train.run(settings, task, data, name='mine', title='A GRU')
    >>> result['steps']
    1
  """
  shown = Show(name, facts, config.log_every, config.save_every, test_last=test_last)

  def end(config: TrainConfig, folder: Path, outcome: Outcome) -> None:
    params, result = outcome.params, outcome.result
    extra = {} if finish is None else finish(jax.device_get(params), result, folder)
    workdir.write_result(folder, {**result, **extra})
    report.draw(title, folder, config, outcome.progress, published)

  with processes.session(config):
    task, plan = choose_monitor(config, task), make_plan(config, data.feed)
    compilation_cache.use_compilation_cache(config.compilation_cache)
    memory.keep_freed()
    if config.num_seeds > 1:
      return _run_seeds(config, task, data, plan, shown, files, end, title, published)
    record = disk_record(config, name, task.model, files)
    with signals.catch() as stop:
      outcome = train(task, data, plan, record, shown, stop)
    if outcome.stop:
      sys.exit(outcome.stop.exit_code)
    processes.on_first(lambda: end(config, record.folder, outcome))
    result: dict[str, Any] = json.loads((record.folder / 'result.json').read_text())
    report.show_end(record.folder, result)
    return result


def _run_seeds(
  config: TrainConfig,
  task: Task,
  data: Data,
  plan: Plan,
  shown: Show,
  files: Mapping[str, Callable[[Path], None]] | None,
  end: Callable[[TrainConfig, Path, Outcome], None],
  title: str,
  published: Mapping[str, float] | None,
) -> dict[str, Any]:
  """The runs of all seeds, each in a workdir in this one, and what they make together.

  More seeds may be added later: what the others have left counts too.
  """
  folder, name = _folder(config, shown.name), shown.name
  own, records = {}, {}
  for seed in range(config.seed, config.seed + config.num_seeds):
    seed_folder = str(folder / workdir.SEEDS / str(seed))
    own[seed] = dataclasses.replace(config, seed=seed, num_seeds=1, workdir=seed_folder)
    records[seed] = disk_record(own[seed], name, task.model, files)
  with contextlib.ExitStack() as held:

    def begin() -> None:
      held.enter_context(workdir.lock(folder))
      if (folder / 'metrics.jsonl').exists():
        raise InputError(
          f'`workdir` {folder} holds a run of one seed; use another for `num_seeds`'
        )
      workdir.start_config(
        folder,
        {'experiment': name, **dataclasses.asdict(config)},
        workdir.environment(),
        FREE_FIELDS | {'seed', 'num_seeds'},
        {spec.name: spec.default for spec in dataclasses.fields(config)},
      )

    with signals.catch() as stop:
      outcomes = train_seeds(task, data, plan, records, shown, stop, begin)
    diverged = {}
    for seed, outcome in outcomes.items():
      if isinstance(outcome, DivergedError):
        diverged[seed] = outcome
      elif outcome.stop:
        sys.exit(outcome.stop.exit_code)
      else:
        end(own[seed], records[seed].folder, outcome)
    places = workdir.seed_folders(folder / workdir.SEEDS)
    ended = {n: path for n, path in places.items() if (path / 'result.json').exists()}
    results = {n: json.loads((ended[n] / 'result.json').read_text()) for n in ended}
    reasons = _diverged_before(folder, outcomes.keys() | ended.keys())
    reasons |= {n: str(error) for n, error in diverged.items()}
    result = report.make_summary(name, results, reasons)
    workdir.write_result(folder, result)
    if ended:
      report.draw_seeds(title, folder, ended, config, published)
      report.show_seeds(folder, results, result)
  if diverged:
    raise DivergedError(
      f'{len(diverged)} of {len(outcomes)} seeds diverged: '
      + '; '.join(f'seed {seed}, {error}' for seed, error in diverged.items())
    )
  return result


def _diverged_before(folder: Path, seeds: Set[int]) -> dict[int, str]:
  """Seed -> how it diverged, of those of earlier starts beside these."""
  path = folder / 'result.json'
  diverged = json.loads(path.read_text())['diverged'] if path.exists() else {}
  return {int(n): reason for n, reason in diverged.items() if int(n) not in seeds}


def _folder(config: TrainConfig, name: str) -> Path:
  return Path(config.workdir or f'runs/{name}')


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
  extra = {} if arguments is None else {**arguments, 'model': json.dumps(described)}
  data = workdir.to_json(described, indent=2).encode() + b'\n'
  fields = dataclasses.fields(config)
  return OnDisk(
    _folder(config, name),
    {'experiment': name, **dataclasses.asdict(config), **extra},
    FREE_FIELDS,
    {**{spec.name: spec.default for spec in fields}, **extra},
    config.keep,
    {**(files or {}), modules.FILE: lambda path: whole.write(path, data)},
  )
