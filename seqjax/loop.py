"""`train`: the loop of every run, that may be killed at any moment."""

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from seqjax import workdir
from seqjax.cluster import mesh as mesh_lib
from seqjax.cluster import processes, signals, watchdog
from seqjax.data.batches import Batches
from seqjax.training import evaluation, lockstep, metrics, optim, steps
from seqjax.training.plan import Data, Plan, Task
from seqjax.training.programs import Programs
from seqjax.training.state import TrainState
from seqjax.types import CommandError, PyTree
from seqjax.view import console, report
from seqjax.workdir.progress import Pending, Progress, means
from seqjax.workdir.record import Log, Record, Saves


class DivergedError(CommandError):
  """A loss, a gradient or the parameters are not finite any more.

  Example:
    >>> from seqjax.train import DivergedError
    >>> data = np.ones((8, 5, 3), np.float32), np.full(8, 1e30, np.float32)
    >>> try:
    ...   sj.fit(sj.SequenceRegressor(sj.GRU(8)), data, loss='mse', quiet=True)
    ... except DivergedError as error:
    ...   print(str(error)[:37])
    step 1: grad_norm is inf, loss is inf
  """

  exit_code = 3
  everywhere = True  # all processes have the same sums


class Show(NamedTuple):
  """What is told of a run while it goes on, and how often it is looked at and saved."""

  name: str
  facts: Mapping[str, Any] | None = None  # to show at the start, such as sizes of data
  log_every: int = 20  # steps between two looks at the loss
  save_every: int | None = 100  # a multiple of it; None: only epochs are saved
  quiet: bool = False
  test_last: bool = False  # the last epoch's parameters, not the best one's


class Outcome(NamedTuple):
  """What came of a run."""

  params: PyTree  # those that were tested, on the devices
  result: dict[str, Any]  # what result.json holds of it
  progress: Progress
  stop: signals.Stop | None  # the signal that ended it early, if one did


def train(
  task: Task, data: Data, plan: Plan, record: Record, show: Show, stop: signals.Stop
) -> Outcome:
  """Trains a model, or goes on where a run of the same record was stopped.

  A run stopped anywhere (even killed) and started again ends with the bits of the
  uninterrupted one: batches and dropout follow from seed and step, and the sums of a
  window cut in two are saved with the state.

  Args:
    task: What is learned.
    data: From what.
    plan: How, and for how long.
    record: Where to: a workdir, or the memory of this process.
    show: What to tell of it.
    stop: Asks for an end as soon as the state is whole: all is saved then.

  Raises:
    InputError: The parts do not fit each other, or the workdir cannot be written.
    DivergedError: a loss or a gradient is not finite.
  """
  outcome = train_seeds(task, data, plan, {plan.seed: record}, show, stop)[plan.seed]
  if isinstance(outcome, DivergedError):
    raise outcome
  return outcome


def train_seeds(
  task: Task,
  data: Data,
  plan: Plan,
  records: Mapping[int, Record],
  show: Show,
  stop: signals.Stop,
  begin: Callable[[], None] | None = None,
) -> dict[int, Outcome | DivergedError]:
  """Trains a model with several seeds at once: each as `train` does, to 1e-5.

  A step of all is one program, and one call of a recurrent kernel; on several devices,
  if there are seeds for each, one a device. Each goes on where it was stopped, ends
  early, and diverges, by itself.

  Args:
    task: What is learned.
    data: From what; each seed has its own order of it.
    plan: How, and for how long; of any seed.
    records: Seed -> where to.
    show: What to tell of them.
    stop: As for `train`.
    begin: Called before anything is written, when what is asked for is known to fit.

  Raises:
    InputError: As `train`.
  """
  devices, seeds = plan.devices, list(records)
  meshes = mesh_lib.make_meshes(
    len(seeds), devices.number, devices.batch_size, devices.parts
  )
  num_steps = plan.num_epochs * data.feed.steps_per_epoch
  num_steps = min(num_steps, plan.num_steps or num_steps)
  groups: list[lockstep.Group[Outcome]] = []
  with contextlib.ExitStack() as held:
    watch = held.enter_context(watchdog.Watchdog(devices.step_timeout))
    shown = None
    if len(seeds) > 1:
      shown = held.enter_context(console.Display(num_steps, quiet=show.quiet))
    num_devices = sum(mesh.size for mesh in meshes)
    common = _Common(task, data, show, num_steps, stop, watch, shown, num_devices)
    environment = workdir.environment()
    for mesh, chosen in zip(meshes, np.array_split(seeds, len(meshes)), strict=True):
      models = len(chosen) if len(chosen) > 1 else None
      first = records[int(chosen[0])].first_start()
      programs = Programs(
        task, data, plan, mesh, show.log_every, models, first.get('resident')
      )
      facts = {**environment, **programs.facts, 'seeds_at_once': chosen.tolist()}
      runs = [
        _run(
          common, programs, dataclasses.replace(plan, seed=seed), records[seed], facts
        )
        for seed in chosen.tolist()
      ]
      evaluate = evaluation.make(
        programs.eval_step,
        mesh,
        stop,
        watch,
        metrics.values(task.metrics),
        programs.carry,
        models,
      )
      groups.append(lockstep.Group(runs, programs, evaluate, watch, (DivergedError,)))
    if begin is not None:
      begin()
    lockstep.drive(groups)
  outcomes = [group.outcomes[n] for group in groups for n in sorted(group.outcomes)]
  return dict(zip(seeds, outcomes, strict=True))  # type: ignore[arg-type]


@dataclasses.dataclass
class _Common:
  """What all runs share."""

  task: Task
  data: Data
  show: Show
  num_steps: int
  stop: signals.Stop
  watch: watchdog.Watchdog
  shown: console.Display | None  # where several show how far they are
  num_devices: int  # of all together
  tells: bool = True  # of the model, once

  @functools.cached_property
  def fingerprints(self) -> dict[str, str]:
    """Those of the parts that are the same for all seeds."""
    parts: dict[str, Batches | None] = {
      'validation_sha256': self.data.validation,
      'test_sha256': self.data.test,
    }
    return {name: part.fingerprint for name, part in parts.items() if part is not None}


def _run(
  common: _Common,
  programs: Programs,
  plan: Plan,
  record: Record,
  environment: Mapping[str, Any],
) -> lockstep.Run[Outcome]:
  """One run, top to bottom, but for what `lockstep` computes."""
  task, show, stop, watch = common.task, common.show, common.stop, common.watch
  derived, mesh, devices = metrics.values(task.metrics), programs.mesh, plan.devices
  num_steps, feed = common.num_steps, programs.feed
  if common.shown:
    feed = feed.with_seed(plan.seed)
  init_key, step_key = jax.random.split(jax.random.key(plan.seed))
  label = f'seed {plan.seed}: ' if common.shown else ''

  with contextlib.ExitStack() as held:
    state = programs.init(init_key)
    fingerprints = {'training_sha256': feed.fingerprint, **common.fingerprints}
    held.enter_context(record.start(environment, fingerprints))
    state = mesh_lib.replicate(state, mesh)
    checkpoints = held.enter_context(record.checkpoints())
    restored = checkpoints.restore(state)
    progress = Progress()
    if restored is not None:
      state, progress = restored.state, Progress(**restored.progress)
    start = int(state.step)
    processes.check_same(start, 'the step that was restored')
    if not show.quiet:
      if common.tells:
        common.tells = False
        report.show_start(
          show.name,
          record.folder,
          task.model,
          programs.x,
          {**environment, 'devices_used': common.num_devices},
          num_steps,
          show.facts,
        )
      report.show_restored(checkpoints, restored, record.changes(), label)
    log = held.enter_context(record.log(None if restored is None else start))
    shown = common.shown or held.enter_context(
      console.Display(num_steps, start_step=start, quiet=show.quiet)
    )

    pending, epoch_start = Pending(), time.monotonic()
    dispatches = functools.partial(
      steps.dispatches, start, num_steps, feed.steps_per_epoch, programs.together
    )
    batches = mesh_lib.put_batches(
      feed, dispatches(), mesh, devices.parts, per_device=devices.pmap
    )
    batch: Any = next(batches, None)  # after the last step there is none
    compiled, sent = {0}, 1  # lengths of dispatches, and of the last one
    for ahead in dispatches():
      step = ahead.start  # so many are done
      is_new = len(ahead) not in compiled
      epoch = -(-step // feed.steps_per_epoch)  # 1 for the first
      epoch_ends = step in (epoch * feed.steps_per_epoch, num_steps)
      is_best, saves, values = False, False, None
      if show.save_every is not None:
        saves = step > start and step % show.save_every == 0
      watch.beat(compiles=is_new, steps=max(sent, len(ahead)))
      stopping = bool(stop)  # once: a signal may come while the state is half fetched

      if pending and (stopping or epoch_ends or step % show.log_every == 0):
        _take_in(pending, progress, step, log, checkpoints)
        shown.update(step, label, **means(progress.window, derived))
      if progress.window and (step % show.log_every == 0 or step == num_steps):
        log.write('train', step, epoch=epoch, **progress.close_window(derived))
      if epoch_ends and progress.epochs < epoch and not stopping:
        params = programs.params(state)
        values = yield lockstep.Evaluation(step, params, programs.validation)
        stopping = bool(stop)
        if stopping:  # this epoch is evaluated after the next start
          values = None
        else:
          _check_finite(values, step, log, checkpoints, 'validation ')
          values, is_best = progress.close_epoch(values, step, task.monitor, derived)
          log.write('epoch', step, epoch=epoch, **values)
          seconds, epoch_start = time.monotonic() - epoch_start, time.monotonic()
          shown.epoch_line(epoch, plan.num_epochs, values, seconds, label)
          if plan.plateau and progress.is_plateau(plan.plateau[0]):
            opt_state = optim.reduce_rate(state.opt_state, plan.plateau[1])
            state = state._replace(opt_state=opt_state)
          saves = True
      if saves or stopping:
        norm = {'param_norm': float(programs.norm(state.params))}
        _check_finite(norm, step, log, checkpoints)
        log.sync()
        checkpoints.save(step, state, progress.to_json(), best=is_best)
      if stopping:
        break
      if values is not None and plan.on_epoch is not None:
        params = jax.device_get(programs.params(state))  # the next step takes these
        plan.on_epoch({'epoch': epoch, **values}, jax.tree.map(np.array, params))

      patience = plan.early_stopping or math.inf
      if step == num_steps or progress.epochs_since_best >= patience:
        break
      pending.begin()
      sent = len(ahead)
      state, sums, sharers = yield lockstep.Step(step, sent, state, batch, step_key)
      pending.add(sums, compiled=is_new, sharers=sharers)
      batch = next(batches, None)  # made while the devices compute
      compiled.add(sent)
      if watch or mesh_lib.shares_threads(mesh):
        pending.wait_for_last_but_one()

    if not stop:
      processes.on_first(checkpoints.wait)
      params, epoch = programs.params(state), progress.epochs
      if not show.test_last:
        best, epoch = _choose(checkpoints, state, progress, label)
        params = programs.params(best)
        processes.check_same(epoch, 'the epoch to test')
      test = yield lockstep.Evaluation(math.inf, params, common.data.test or ())
    if stop:  # one may have come in the test
      checkpoints.wait()
      if not show.quiet:
        report.show_stopped(stop.name, step, num_steps, record.folder, label)
      saved = checkpoints.restore_best(state) if progress.best else None
      params = programs.params(state if saved is None else saved.state)
      return Outcome(params, {}, progress, stop)
    _check_finite(test, step, log, checkpoints, 'test ')
    if test:
      log.write('test', step, epoch=epoch, **test)
  result = report.make_result(show.name, plan.seed, progress, state, epoch, test)
  return Outcome(params, result, progress, None)


def _take_in(
  pending: Pending, progress: Progress, step: int, log: Log, checkpoints: Saves
) -> None:
  """Fetches the sums of the steps up to `step`, and checks that they are finite."""
  fetched, seconds, compiled = pending.fetch()
  for number, sums in enumerate(fetched, step - len(fetched) + 1):
    _check_finite(sums, number, log, checkpoints)
    progress.add(sums)
  examples = sum(sums['weight'] for sums in fetched)
  progress.add_time(seconds, examples, compiled=compiled)
  log.write_timing(step, seconds=seconds, sequences_per_second=examples / seconds)


def _check_finite(
  values: Mapping[str, float], step: int, log: Log, checkpoints: Saves, of: str = ''
) -> None:
  """Raises DivergedError if one of the values is not finite, and logs which."""
  bad = {f'{of}{k}': v for k, v in values.items() if not math.isfinite(v)}
  if not bad:
    return
  log.write('stop', step, reason='not finite', **bad)
  checkpoints.wait()
  saved = [str(path) for path in checkpoints.folders()]
  raise DivergedError(
    f'step {step}: {", ".join(f"{name} is {value}" for name, value in bad.items())}. '
    f'The last good checkpoint: {saved[-1] if saved else "none yet"}. Lower '
    '`learning_rate` or clip the gradient (`clip_global_norm=1`), in another '
    '`workdir`, and look for NaN in the data'
  )


def _choose(
  checkpoints: Saves, state: TrainState, progress: Progress, label: str
) -> tuple[TrainState, int]:
  """The state to test, and its epoch: the best, or if it is damaged the last."""
  best = checkpoints.restore_best(state)
  report.show_rejected(checkpoints, label)
  if best is not None and progress.best and best.step == progress.best['step']:
    return best.state, int(progress.best['epoch'])
  console.say(f'{label}the best checkpoint is lost: the last epoch is tested')
  return state, progress.epochs
