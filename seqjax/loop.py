"""`train`: the loop of every run, that may be killed at any moment."""

import contextlib
import functools
import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from seqjax import workdir
from seqjax.cluster import mesh as mesh_lib
from seqjax.cluster import processes, signals, watchdog
from seqjax.data.batches import Batches
from seqjax.training import evaluation, metrics, optim, steps
from seqjax.training.plan import Data, Plan, Task
from seqjax.training.programs import Programs
from seqjax.training.state import TrainState, init_state
from seqjax.types import CommandError, PyTree
from seqjax.view import console, report
from seqjax.workdir.progress import Pending, Progress, means
from seqjax.workdir.record import Log, Record, Saves


class DivergedError(CommandError):
  """A loss, a gradient or the parameters are not finite any more."""

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
  devices = plan.devices
  mesh = mesh_lib.make_mesh(devices.number, devices.batch_size, devices.parts)
  programs = Programs(task, data, plan, mesh, show.log_every)
  feed = programs.feed
  num_steps = plan.num_epochs * feed.steps_per_epoch
  num_steps = min(num_steps, plan.num_steps or num_steps)
  init_key, step_key = jax.random.split(jax.random.key(plan.seed))

  with contextlib.ExitStack() as held:
    watch = held.enter_context(watchdog.Watchdog(devices.step_timeout))
    derived = metrics.values(task.metrics)
    environment = {**workdir.environment(), **programs.facts, 'devices_used': mesh.size}
    state = init_state(
      task.model, programs.tx, init_key, programs.x, carries=programs.carries
    )
    held.enter_context(record.start(environment, _fingerprints(data)))
    evaluate = evaluation.make(
      programs.eval_step, mesh, stop, watch, derived, jax.device_get(state.carry)
    )
    state = mesh_lib.replicate(state, mesh)
    checkpoints = held.enter_context(record.checkpoints())
    restored = checkpoints.restore(state)
    progress = Progress()
    if restored is not None:
      state, progress = restored.state, Progress(**restored.progress)
    start = int(state.step)
    processes.check_same(start, 'the step that was restored')
    if not show.quiet:
      report.show_start(
        show.name,
        record.folder,
        task.model,
        programs.x,
        environment,
        num_steps,
        show.facts,
      )
      report.show_restored(checkpoints, restored, record.changes())
    log = held.enter_context(record.log(None if restored is None else start))
    shown = held.enter_context(
      console.Display(num_steps, start_step=start, quiet=show.quiet)
    )

    pending, epoch_start = Pending(), time.monotonic()
    dispatches = functools.partial(
      steps.dispatches, start, num_steps, feed.steps_per_epoch, programs.together
    )
    batches = mesh_lib.put_batches(
      feed, dispatches(), mesh, devices.parts, per_device=devices.pmap
    )
    compiled = {0}  # lengths of dispatches
    for ahead in dispatches():
      step = ahead.start  # so many are done
      is_new = len(ahead) not in compiled
      epoch = -(-step // feed.steps_per_epoch)  # 1 for the first
      epoch_ends = step in (epoch * feed.steps_per_epoch, num_steps)
      is_best, saves, values = False, False, None
      if show.save_every is not None:
        saves = step > start and step % show.save_every == 0
      watch.beat(compiles=is_new, steps=programs.together)
      asked = bool(stop)  # once: a signal may come while the state is half fetched

      if pending and (asked or epoch_ends or step % show.log_every == 0):
        _take_in(pending, progress, step, log, checkpoints)
        shown.update(step, **means(progress.window, derived))
      if progress.window and (step % show.log_every == 0 or step == num_steps):
        log.write('train', step, epoch=epoch, **progress.close_window(derived))
      if epoch_ends and progress.epochs < epoch and not asked:
        values = evaluate(programs.params(state), programs.validation)
        asked = bool(stop)
        if asked:  # this epoch is evaluated after the next start
          values = None
        else:
          _check_finite(values, step, log, checkpoints, 'validation ')
          values, is_best = progress.close_epoch(values, step, task.monitor, derived)
          log.write('epoch', step, epoch=epoch, **values)
          seconds, epoch_start = time.monotonic() - epoch_start, time.monotonic()
          shown.epoch_line(epoch, plan.num_epochs, values, seconds)
          if plan.plateau and progress.is_plateau(plan.plateau[0]):
            opt_state = optim.reduce_rate(state.opt_state, plan.plateau[1])
            state = state._replace(opt_state=opt_state)
          saves = True
      if saves or asked:
        norm = {'param_norm': float(programs.norm(state.params))}
        _check_finite(norm, step, log, checkpoints)
        log.sync()
        checkpoints.save(step, state, progress.to_json(), best=is_best)
      if asked:
        break
      if values is not None and plan.on_epoch is not None:
        params = jax.device_get(programs.params(state))  # the next step takes these
        plan.on_epoch({'epoch': epoch, **values}, jax.tree.map(np.array, params))

      patience = plan.early_stopping or math.inf
      if step == num_steps or progress.epochs_since_best >= patience:
        break
      pending.begin()
      train_steps = programs.train_steps[len(ahead)]
      state, sums = train_steps(state, next(batches), step_key)
      pending.add(sums, compiled=is_new)
      compiled.add(len(ahead))
      if watch or mesh_lib.shares_threads(mesh):
        pending.wait_for_last_but_one()

    if not stop:
      processes.on_first(checkpoints.wait)
      params, epoch = programs.params(state), progress.epochs
      if not show.test_last:
        best, epoch = _choose(checkpoints, state, progress)
        params = programs.params(best)
        processes.check_same(epoch, 'the epoch to test')
      test = evaluate(params, data.test or ())
    if stop:  # one may have come in the test
      checkpoints.wait()
      if not show.quiet:
        report.show_stopped(stop.name, step, num_steps, record.folder)
      saved = checkpoints.restore_best(state) if progress.best else None
      params = programs.params(state if saved is None else saved.state)
      return Outcome(params, {}, progress, stop)
    _check_finite(test, step, log, checkpoints, 'test ')
    if test:
      log.write('test', step, epoch=epoch, **test)
  result = report.make_result(show.name, plan.seed, progress, state, epoch, test)
  return Outcome(params, result, progress, None)


def _fingerprints(data: Data) -> dict[str, str]:
  parts: dict[str, Batches | None] = {
    'training_sha256': data.feed,  # type: ignore[dict-item]
    'validation_sha256': data.validation,
    'test_sha256': data.test,
  }
  return {name: part.fingerprint for name, part in parts.items() if part is not None}


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
  checkpoints: Saves, state: TrainState, progress: Progress
) -> tuple[TrainState, int]:
  """The state to test, and its epoch: the best, or if it is damaged the last."""
  best = checkpoints.restore_best(state)
  report.show_rejected(checkpoints)
  if best is not None and progress.best and best.step == progress.best['step']:
    return best.state, int(progress.best['epoch'])
  console.say('the best checkpoint is lost: the last epoch is tested')
  return state, progress.epochs
