"""`train`: a whole run, from a config to a result, that can be killed at any moment."""

import contextlib
import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax

from seqjax import workdir
from seqjax.cluster import compilation_cache, processes, signals, watchdog
from seqjax.cluster import mesh as mesh_lib
from seqjax.config import ClusterConfig, TrainConfig
from seqjax.data.batches import Batches, Feed
from seqjax.layers import frozen_parameters
from seqjax.training import evaluation, optim, steps
from seqjax.training.state import TrainState, init_state
from seqjax.types import CommandError, PyTree
from seqjax.view import console, report
from seqjax.workdir.checkpoint import Checkpoints
from seqjax.workdir.log import RunLog
from seqjax.workdir.progress import Monitor, Pending, Progress, means

# Fields that do not change what is computed: a resumed run may have others.
FREE_FIELDS = frozenset(
  ['data_dir', 'cache_dir', 'workdir', 'save_every', 'keep']
  + [spec.name for spec in dataclasses.fields(ClusterConfig)]
) - {'data_parallel', 'accumulate_steps'}  # these draw other dropout

# (tested params on the host, result) -> more of the result
Finish = Callable[[PyTree, Mapping[str, Any]], Mapping[str, Any]]


class DivergedError(CommandError):
  """A loss, a gradient or the parameters are not finite any more."""

  exit_code = 3
  everywhere = True  # all processes have the same sums


@processes.across_processes
def train(
  config: TrainConfig,
  *,
  name: str,
  title: str,
  model: nn.Module,
  loss: steps.ExampleFn,
  metrics: Mapping[str, steps.ExampleFn],
  feed: Feed,
  validation: Batches,
  test: Batches,
  monitor: Monitor,
  facts: Mapping[str, Any] | None = None,
  published: Mapping[str, float] | None = None,
  finish: Finish | None = None,
  frozen: Iterable[str] = (),
  test_last: bool = False,
  files: Mapping[str, Callable[[Path], None]] | None = None,
) -> dict[str, Any]:
  """Trains a model, or goes on where a run in the same workdir was stopped.

  A run stopped anywhere (even killed) and started again ends with the bits of the
  uninterrupted one: batches and dropout follow from seed and step, and the sums of a
  window cut in two are saved with the state. The workdir holds config.json,
  metrics.jsonl, timing.jsonl, tb/, checkpoints/, in the end curves.png and result.json.

  Args:
    config: Everything that flags can say. With `distributed` all processes call this.
    name: Of the experiment, as in its command.
    title: What is trained on what, for readers.
    model: Called as (x, train=, mask=).
    loss: (output, y) -> [B], whose mean is minimised.
    metrics: Further values (output, y) -> [B] to report.
    feed: Training batches; what they are indices into, the other two are as well.
    validation: Batches, each example once; run through after every epoch.
    test: Batches; run through once, at the end, with the parameters of the best epoch.
    monitor: What makes an epoch the best.
    facts: Names and values to show at the start, such as sizes of the data.
    published: Metric -> published validation value, for the picture.
    finish: Called at the end as (tested params, result), in process 0: what it returns
      comes into result.json too, and it may leave more in the workdir.
    frozen: Parameters left as they are, beside frozen Embeddings; see `optim.freeze`.
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
  compilation_cache.use_compilation_cache(config.compilation_cache)
  num_steps = config.num_epochs * feed.steps_per_epoch
  num_steps = min(num_steps, config.num_steps or num_steps)
  tx = optim.make_optimizer(
    config.optimizer,
    config.learning_rate,
    clip_value=config.clip_value,
    clip_norm=config.clip_norm,
    clip_global_norm=config.clip_global_norm,
  )
  parts, pmap = config.accumulate_steps, config.data_parallel == 'pmap'
  mesh = mesh_lib.make_mesh(config.num_devices, config.batch_size, parts)
  resident, x = feed.resident, feed.batch(0).x
  if resident is not None:
    shape = jax.eval_shape(resident.gather, resident.arrays, feed.batch(0)).x
    x = np.zeros(shape.shape, shape.dtype)  # type: ignore[assignment]
    resident = resident._replace(arrays=mesh_lib.replicate(resident.arrays, mesh))
  tx = optim.freeze(tx, *frozen, *frozen_parameters(model, x, train=False))
  train_step = steps.make_train_step(
    model, loss, metrics, tx, mesh, resident, parts=parts, pmap=pmap
  )
  eval_step = steps.make_eval_step(model, loss, metrics, mesh, resident)
  param_norm = jax.jit(optax.tree.norm)
  init_key, step_key = jax.random.split(jax.random.key(config.seed))
  folder, first = Path(config.workdir or f'runs/{name}'), processes.is_first()

  with contextlib.ExitStack() as held, signals.catch() as stop:
    watch = held.enter_context(watchdog.Watchdog(config.step_timeout))
    evaluate = evaluation.make(eval_step, mesh, stop, watch)
    environment = {**workdir.environment(), 'devices_used': mesh.size}

    def start_folder() -> None:
      held.enter_context(workdir.lock(folder))
      fingerprints = {
        'training_sha256': feed.fingerprint,
        'validation_sha256': validation.fingerprint,
        'test_sha256': test.fingerprint,
      }
      record = {'experiment': name, **dataclasses.asdict(config), **fingerprints}
      workdir.start_config(folder, record, environment, FREE_FIELDS)
      for file_name, write in (files or {}).items():
        with workdir.naming(folder, file_name):
          write(folder / file_name)

    processes.on_first(start_folder)
    processes.check_shared(folder / 'config.json')
    state = init_state(model, tx, init_key, x)
    state = mesh_lib.replicate(state, mesh)
    with Checkpoints(folder / 'checkpoints', keep=config.keep) as checkpoints:
      restored = checkpoints.restore(state)
      progress = Progress()
      if restored is not None:
        state, progress = restored.state, Progress(**restored.progress)
      start = int(state.step)
      processes.check_same(start, 'the step that was restored')
      report.show_start(name, folder, model, x, environment, num_steps, facts)
      report.show_restored(checkpoints, restored, workdir.changes(folder))

      resume_step = None if restored is None else start
      log = RunLog(folder, resume_step, writes=first)
      with log, console.Display(num_steps, start_step=start) as shown:
        pending, epoch_start = Pending(), time.monotonic()
        rest = range(start, num_steps)
        batches = mesh_lib.put_batches(feed, rest, mesh, parts, per_device=pmap)
        for step in range(start, num_steps + 1):  # `step` steps are done
          epoch = -(-step // feed.steps_per_epoch)  # 1 for the first
          epoch_ends = step in (epoch * feed.steps_per_epoch, num_steps)
          is_best, saves = False, step > start and step % config.save_every == 0
          watch.beat(compiles=step == start)
          asked = bool(stop)  # once: a signal may come while the state is half fetched

          if pending and (asked or epoch_ends or step % config.log_every == 0):
            _take_in(pending, progress, step, log, checkpoints)
            shown.update(step, **means(progress.window))
          if progress.window and (step % config.log_every == 0 or step == num_steps):
            log.write('train', step, epoch=epoch, **progress.close_window())
          if epoch_ends and progress.epochs < epoch and not asked:
            values = evaluate(state.params, validation)
            asked = bool(stop)
            if not asked:  # else this epoch is evaluated after the next start
              _check_finite(values, step, log, checkpoints, 'validation ')
              values, is_best = progress.close_epoch(values, step, monitor)
              log.write('epoch', step, epoch=epoch, **values)
              seconds, epoch_start = time.monotonic() - epoch_start, time.monotonic()
              shown.epoch_line(epoch, config.num_epochs, values, seconds)
              saves = True
          if saves or asked:
            norm = {'param_norm': float(param_norm(state.params))}
            _check_finite(norm, step, log, checkpoints)
            log.sync()
            checkpoints.save(step, state, progress.to_json(), best=is_best)
          if asked:
            _leave(stop, folder, step, num_steps, checkpoints)

          patience = config.early_stopping or math.inf
          if step == num_steps or progress.epochs_since_best >= patience:
            break
          pending.begin()
          state, sums = train_step(state, next(batches), step_key)
          pending.add(sums)
          if watch or mesh_lib.shares_threads(mesh):
            pending.wait_for_last_but_one()

        processes.on_first(checkpoints.wait)
        params, epoch = state.params, progress.epochs
        if not test_last:
          params, epoch = _choose(checkpoints, state, progress)
          processes.check_same(epoch, 'the epoch to test')
        test_values = evaluate(params, test)
        if stop:
          _leave(stop, folder, step, num_steps, checkpoints)
        _check_finite(test_values, step, log, checkpoints, 'test ')
        log.write('test', step, epoch=epoch, **test_values)
    result = report.make_result(name, config, progress, state, epoch, test_values)

    def write_result() -> None:
      more = finish(jax.device_get(params), result) if finish is not None else {}
      workdir.write_result(folder, {**result, **more})
      report.draw(title, folder, config, progress, published)

    processes.on_first(write_result)
    result = json.loads((folder / 'result.json').read_text())  # in all processes
    report.show_end(folder, result)
    return result


def _take_in(
  pending: Pending, progress: Progress, step: int, log: RunLog, checkpoints: Checkpoints
) -> None:
  """Fetches the sums of the steps up to `step`, and checks that they are finite."""
  fetched, seconds = pending.fetch()
  for number, sums in enumerate(fetched, step - len(fetched) + 1):
    _check_finite(sums, number, log, checkpoints)
    progress.add(sums)
  examples = sum(sums['weight'] for sums in fetched)
  progress.add_time(seconds, examples, compiled=pending.fetches == 1)
  log.write_timing(step, seconds=seconds, sequences_per_second=examples / seconds)


def _check_finite(
  values: Mapping[str, float],
  step: int,
  log: RunLog,
  checkpoints: Checkpoints,
  of: str = '',
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
  checkpoints: Checkpoints, state: TrainState, progress: Progress
) -> tuple[PyTree, int]:
  """The parameters to test, and their epoch: the best, or if it is damaged the last."""
  best = checkpoints.restore_best(state)
  report.show_rejected(checkpoints)
  if best is not None and progress.best and best.step == progress.best['step']:
    return best.state.params, int(progress.best['epoch'])
  print('the best checkpoint is lost: the last epoch is tested', flush=True)
  return state.params, progress.epochs


def _leave(
  stop: signals.Stop, folder: Path, step: int, num_steps: int, checkpoints: Checkpoints
) -> None:
  """Exits after a signal, once the last checkpoint is on disk."""
  checkpoints.wait()
  print(
    f'{stop.name}: step {step} of {num_steps} is saved in {folder}; the same command '
    'goes on from there',
    flush=True,
  )
  sys.exit(stop.exit_code)
