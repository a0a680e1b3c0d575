"""`fit`: a run from Python, on one's own arrays and model; `load`: an earlier run."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import numpy as np
import optax
from flax.errors import FlaxError

from seqjax import loop
from seqjax import train as train_lib
from seqjax import workdir as workdir_lib
from seqjax.cluster import compilation_cache, signals
from seqjax.cluster import mesh as mesh_lib
from seqjax.cluster.watchdog import Watchdog
from seqjax.config import TrainConfig
from seqjax.data.batches import InOrder
from seqjax.data.sources import (
  Sequences,
  as_rows,
  make_source,
)
from seqjax.training import evaluation, losses, steps, trial
from seqjax.training import metrics as metrics_lib
from seqjax.training.losses import ExampleFn
from seqjax.training.metrics import Metric
from seqjax.training.plan import (
  EpochFn,
  Plan,
  Task,
  choose_monitor,
  make_data,
  make_plan,
)
from seqjax.types import Batch, InputError, PyTree
from seqjax.view import plots, report
from seqjax.workdir import checkpoint, modules
from seqjax.workdir.progress import Monitor
from seqjax.workdir.record import InMemory, OnDisk, Record

if TYPE_CHECKING:
  from matplotlib.figure import Figure

_NAME = 'fit'  # where a command has its experiment's

# What a transformation of optax has within itself.
_OF_OPTIMIZER = (
  'learning_rate', 'schedule', 'warmup_steps', 'final_share', 'rate_changes',
  'momentum', 'nesterov', 'weight_decay', 'clip_value', 'clip_norm', 'clip_global_norm',
)  # fmt: skip
# What commands alone can be told.
_OF_COMMANDS = ('data_dir', 'cache_dir', 'distributed', 'num_seeds')
# What a line of the log holds beside metrics.
_RESERVED = ('event', 'step', 'steps', 'epoch', 'loss', 'weight', 'grad_norm')

# What Keras calls it, and what there is here.
ELSEWHERE = {
  'epochs': 'it is called num_epochs',
  'validation_data': 'it is called validation',
  'validation_split': 'cut the arrays, and hand the part over as validation',
  'x': 'hand over (x, y) as train',
  'y': 'hand over (x, y) as train',
  'sample_weight': 'hand over (x, y, weight) as train',
  'callbacks': 'see early_stopping, plateau_epochs, workdir, and on_epoch',
  'verbose': 'its opposite is called quiet',
  'shuffle': 'each epoch has an order of its own, by seed',
  'steps_per_execution': 'it is called steps_per_dispatch',
  'steps_per_epoch': 'an epoch is all examples once; num_steps ends a run early',
  'initial_epoch': 'a second call with the same workdir goes on by itself',
  'num_seeds': 'it is for commands; call fit with each seed',
  'lr': 'it is called learning_rate',
  'clipnorm': 'it is called clip_norm',
  'clipvalue': 'it is called clip_value',
  'global_clipnorm': 'it is called clip_global_norm',
  'ema_momentum': 'it is called mean_decay',
  'use_ema': 'set mean_decay',
  'patience': 'it is called early_stopping',
  'units': 'it is an option of a layer: sj.LSTM(features)',
  'return_state': 'it is an option of a layer: sj.LSTM(..., return_carry=True)',
  'deterministic': 'fit sets train by itself',
  'training': 'fit sets train by itself',
}


def fit(
  model: nn.Module,
  train: Any,
  validation: Any = None,
  *,
  loss: str | ExampleFn,
  metrics: Sequence[str] | Mapping[str, str | Metric] = (),
  test: Any = None,
  optimizer: str | optax.GradientTransformation = 'rmsprop',
  encode: Callable[[Any], tuple] | None = None,
  length: int | None = None,
  frozen: str | Sequence[str] = (),
  workdir: str | Path | None = None,
  quiet: bool = False,
  on_epoch: EpochFn | None = None,
  **settings: Any,
) -> Fitted:
  """Trains a model on one's own data.

  With a workdir it is the run that a command makes: kill it, call it again, and it goes
  on to the same bits. Without, nothing is written. Ctrl-C, or a notebook's stop button,
  ends it when the state is whole: what there is comes back, and `resume` goes on.

  Args:
    model: Called as (x, train=, mask=), as far as it takes them; 'deterministic' of
      linen is understood too.
    train: (x, y) or (x, y, weight), arrays or lists of sequences of unequal length,
      which are padded, masked, and batched with their like; or anything else with
      len() and [i], such as a data set of tfds, grain or Hugging Face, with `encode`. A
      label a step is as long as its sequence. Steps that fill one up count for nothing
      in losses and metrics named here; a function of one's own finds NaN there, among
      whole labels `losses.NO_LABEL`, below 0. Nor does a class below 0.
    validation: The same, to run through after every epoch.
    loss: 'binary_crossentropy' (logits [B], labels 0 and 1), 'crossentropy' (logits
      [B, ..., C], whole labels [B, ...]), 'mae', 'mse', or (output, y) -> [B].
    metrics: More of such to report: names, or name -> function, 'accuracy' too; or
      metrics of a whole set, such as 'perplexity' and those of `spans.span_metrics`.
      The best epoch is that of the best 'accuracy', where it is reported, else of the
      lowest loss; `monitor` names another, as 'max:bleu' where it is one of your own.
    test: The same as `validation`, to run through at the end.
    optimizer: A name of `optim.OPTIMIZERS`; or any optax transformation, with its rate,
      schedule, clipping and decay in it. A workdir can't tell two such apart.
    encode: Makes (x, y) or (x, y, weight) of an example of such a data set.
    length: Sequences longer than this keep their last steps, and their labels a step.
    frozen: A parameter that stays as it is, or several; see `optim.freeze`.
    workdir: Folder of the run, started or resumed.
    quiet: Print nothing.
    on_epoch: Called after every epoch as (values, parameters): the values of the epoch
      by name, `epoch` among them, and a copy on the host, when all is saved. What it
      raises ends the run. It is not called again for an epoch that was saved.
    **settings: Fields of `TrainConfig`, by the names of the commands' flags:
      num_epochs, batch_size, seed, learning_rate, schedule, early_stopping, ...;
      `class_weight` and `rate_changes` may be dicts.

  Returns:
    Parameters of the best epoch, history, and what can be done with them.

  Raises:
    InputError: Something in the data or settings cannot be used; said before training.
    TypeError: An argument that there is not, with its name here.
    loop.DivergedError: A loss or a gradient is not finite.

  Example:
    >>> x = np.random.default_rng(0).normal(size=(64, 5, 3)).astype(np.float32)
    >>> model = sj.SequenceRegressor(sj.GRU(4))
    >>> settings = {'num_epochs': 2, 'batch_size': 16, 'quiet': True}
    >>> fitted = sj.fit(model, (x, x[:, 0, 0]), loss='mse', **settings)
    >>> fitted.history['loss'].shape, fitted.predict(x).shape
    ((2,), (64,))
  """
  config, given = _config(settings, optimizer, workdir)
  loss_fn, named = losses.named(loss), _metrics(metrics)
  data = make_data(config, train, validation, test, encode=encode, length=length)
  if validation is None:
    for name in ('early_stopping', 'plateau_epochs', 'monitor'):
      if getattr(config, name):
        raise InputError(f'`{name}` needs `validation`, whose values it goes by')
  monitor = Monitor('loss')
  if 'accuracy' in named:
    monitor = Monitor('accuracy', higher_is_better=True)
  frozen = [frozen] if isinstance(frozen, str) else list(frozen)
  task = choose_monitor(config, Task(model, loss_fn, named, monitor, frozen))
  plan = make_plan(config, data.feed, given, on_epoch)
  sets: dict[str, Any] = {'train': data.feed, **data._asdict()}
  sources = {k: v.source for k, v in sets.items() if v is not None and k != 'feed'}
  trial.check(task, plan, sources)
  record: Record = InMemory()
  if workdir is not None:
    arguments = {
      'loss': _name_of(loss),
      'metrics': {name: _name_of(fn) for name, fn in named.items()},
      'frozen': frozen,
      'length': length,
    }
    record = train_lib.disk_record(config, _NAME, model, arguments=arguments)
  shown = loop.Show(
    _NAME,
    {'examples': len(sources['train'])},
    config.log_every,
    config.save_every if workdir is not None else None,
    quiet,
  )
  # Of a caller's process all programs would be kept: only where it asks for it.
  compilation_cache.use_compilation_cache(config.compilation_cache or '')
  call = functools.partial(loop.train, task, data, plan, record, shown)
  return _run(model, task, config, record, call)


def load(workdir: str | Path, model: nn.Module | None = None) -> Fitted:
  """What `fit` returned for a workdir, or a command would have.

  Args:
    workdir: Of a run that has ended an epoch.
    model: The model of the run, if its class has no name that leads to it.

  Raises:
    InputError: There is no such run, or its model cannot be built.

  Example:
    >>> x, y = np.ones((32, 5, 3), np.float32), np.ones(32, np.float32)
    >>> model, folder = sj.SequenceRegressor(sj.GRU(4)), tempfile.mkdtemp()
    >>> trained = sj.fit(model, (x, y), loss='mse', workdir=folder, quiet=True)
    >>> again = sj.load(folder)
    >>> bool((again.predict(x) == trained.predict(x)).all())
    True
  """
  folder = Path(workdir).expanduser().absolute()
  stored = workdir_lib.settings(folder)
  fields = {spec.name for spec in dataclasses.fields(TrainConfig)}
  config = TrainConfig(**{k: v for k, v in stored.items() if k in fields})
  if model is None:
    model = _saved_model(folder)
  params = checkpoint.best_params(folder)
  result = {}
  if (folder / 'result.json').exists():
    result = json.loads((folder / 'result.json').read_text())
  record = OnDisk(folder, stored)
  return Fitted(model, params, record, config, result=result)


@dataclasses.dataclass(repr=False, eq=False)
class Fitted:
  """A trained model.

  Attributes:
    model: As it was handed over.
    params: Of the best epoch (without validation: the last), on the host.
    record: Where the run is kept.
    config: Its settings.
    task: Loss and metrics; None after `load`.
    result: As result.json has it: the best epoch, test values, digest; of a run that
      was stopped the best epoch alone.
    stopped: Whether Ctrl-C ended it early.
    resume: Goes on with a run that was stopped, to the same numbers as uninterrupted.

  Example:
    >>> x, y = np.ones((32, 5, 3), np.float32), np.ones(32, np.float32)
    >>> model = sj.SequenceRegressor(sj.GRU(4))
    >>> fitted = sj.fit(model, (x, y), loss='mse', num_epochs=3, quiet=True)
    >>> fitted.history['loss'].shape, list(fitted.evaluate((x, y)))
    ((3,), ['loss'])
    >>> figure = fitted.plot()  # of matplotlib; plot('curves.png') writes it
  """

  model: nn.Module
  params: PyTree
  record: Record
  config: TrainConfig
  task: Task | None = None
  result: dict[str, Any] = dataclasses.field(default_factory=dict)
  stopped: bool = False
  resume: Callable[[], Fitted] | None = None
  _made: dict[int | None, Callable[..., Any]] = dataclasses.field(
    default_factory=dict, init=False
  )

  def __repr__(self) -> str:
    state = ', stopped' if self.stopped else ''
    return f'<Fitted {self.title}; {len(self.history.get("epoch", ()))} epochs{state}>'

  @property
  def history(self) -> dict[str, np.ndarray]:
    """'loss', 'val_loss', ... -> [number of epochs]."""
    epochs = [line for line in self.record.lines() if line['event'] == 'epoch']
    names = [name for name in (epochs[0] if epochs else {}) if name != 'event']
    return {name: np.array([line[name] for line in epochs]) for name in names}

  @property
  def title(self) -> str:
    """The model's class and the settings."""
    return f'{type(self.model).__name__}: {report.settings(self.config)}'

  def predict(
    self,
    x: Any,
    *,
    length: int | None = None,
    samples: int | None = None,
    seed: int = 0,
  ) -> Any:
    """The model's outputs, computed batch by batch.

    Args:
      x: [N, ...], or a list of N sequences of unequal length.
      length: As for `fit`.
      samples: S: leave dropout on, and answer so many times; see
        `evaluation.make_outputs`.
      seed: Of its masks.

    Returns:
      float32 [N, ...]; for a list, of a model with an output a step, a list of
      [T_i, ...]. As the model has it, where that is several arrays. With samples each
      has a first axis of S more.

    Raises:
      InputError: x cannot be used, or is none for this model; or samples of one without
        dropout.
    """
    if samples is not None and samples < 1:
      raise InputError(f'`samples` must be at least 1, got {samples}')
    rows = as_rows(x, 'x')
    if not len(rows):
      raise InputError('x is empty: there is nothing to predict')
    y = np.zeros(len(rows), np.float32)
    source = make_source((rows, y), length=length, name='x')
    batches = InOrder(source, min(self.config.batch_size, len(rows)))
    shapes = self._shapes(next(iter(batches)), 0)
    outputs = self._outputs(samples)(self.params, batches, len(rows), seed=seed)
    if not isinstance(source, Sequences):
      return outputs
    lengths, T = source.lengths, source.longest

    def cut(output: np.ndarray, shape: Any, longer: Any) -> Any:
      if (*shape.shape[1:2], *longer.shape[1:2]) != (T, T + 1):
        return output
      if samples is not None:
        return [output[:, i, :n] for i, n in enumerate(lengths)]
      return [out[:n] for out, n in zip(output, lengths, strict=True)]

    return jax.tree.map(cut, outputs, shapes, self._shapes(next(iter(batches)), 1))

  def _shapes(self, batch: Batch, extra_steps: int) -> Any:
    """Those of the outputs for a batch with so many more steps.

    Raises:
      InputError: The batch is none for this model.
    """

    def longer(a: Any) -> Any:
      shape = (
        (len(a), a.shape[1] + extra_steps, *a.shape[2:]) if extra_steps else a.shape
      )
      return jax.ShapeDtypeStruct(shape, a.dtype)

    x, mask = longer(batch.x), None if batch.mask is None else longer(batch.mask)
    try:
      shapes = jax.eval_shape(self._apply, self.params, batch._replace(x=x, mask=mask))
    except (TypeError, ValueError, FlaxError) as error:
      raise InputError(f'x {x.shape} is none for this model: {error}') from error
    if any(shape.shape[:1] != x.shape[:1] for shape in jax.tree.leaves(shapes)):
      raise InputError(f'x {x.shape} is none for this model: it must be [N, ...]')
    return shapes

  def _apply(self, params: PyTree, batch: Batch) -> Any:
    dtype = self.config.compute_dtype
    return steps.apply(self.model, params, batch, dtype, train=False)[0]

  def _outputs(self, samples: int | None) -> Callable[..., Any]:
    """Compiled once for the same number."""
    if samples not in self._made:
      self._made[samples] = evaluation.make_outputs(
        self.model, self.config.compute_dtype, samples=samples
      )
    return self._made[samples]

  def evaluate(
    self,
    data: Any,
    *,
    loss: str | ExampleFn | None = None,
    metrics: Sequence[str] | Mapping[str, str | Metric] = (),
    encode: Callable[[Any], tuple] | None = None,
    length: int | None = None,
  ) -> dict[str, float]:
    """Loss and metrics over some data, each example once.

    Args:
      data: As `validation` of `fit`.
      loss: Another than that of the run, which after `load` is not known.
      metrics: Others than those of the run, as for `fit`.
      encode: As for `fit`.
      length: As for `fit`.

    Raises:
      InputError: They do not fit each other.
    """
    task = self.task
    if loss is not None:
      task = Task(self.model, losses.named(loss))
    if task is None:
      raise InputError('a run that was loaded needs `loss` (and `metrics`) here')
    if metrics or loss is not None:
      task = task._replace(metrics=_metrics(metrics))
    source = make_source(data, encode=encode, length=length)
    batches = InOrder(source, self.config.batch_size)
    self._shapes(next(iter(batches)), 0)
    trial.check(task, Plan(optax.identity()), {'the data': source})
    mesh = mesh_lib.make_mesh(1, 1)
    step = steps.make_eval_step(
      task.model, task.loss, task.metrics, mesh, dtype=self.config.compute_dtype
    )
    derived = metrics_lib.values(task.metrics)
    evaluate = evaluation.make(step, mesh, signals.Stop(), Watchdog(None), derived)
    params = mesh_lib.replicate(self.params, mesh)
    return evaluation.complete(evaluate(params, batches))

  def plot(self, path: str | Path | None = None) -> Figure:
    """The curves of all epochs; written as PNG where a path is given."""
    best = self.result.get('best')
    figure = plots.curves_figure(
      self.record.lines(),
      title=self.title,
      best_epoch=int(best['epoch']) if best else None,
    )
    if path is not None:
      plots.save(figure, Path(path))
    return figure


def _run(
  model: nn.Module,
  task: Task,
  config: TrainConfig,
  record: Record,
  call: Callable[[signals.Stop], loop.Outcome],
) -> Fitted:
  with _interrupts() as stop:
    outcome = call(stop)
  again = functools.partial(_run, model, task, config, record, call)
  result = outcome.result
  if isinstance(record, OnDisk) and not outcome.stop:
    workdir_lib.write_result(record.folder, result)
    name = type(model).__name__
    report.draw(name, record.folder, config, outcome.progress, None)
  if outcome.stop:
    result = {'best': outcome.progress.best}
  return Fitted(
    model,
    jax.device_get(outcome.params),
    record,
    config,
    task,
    result,
    bool(outcome.stop),
    again,
  )


@contextlib.contextmanager
def _interrupts() -> Any:
  """Ctrl-C alone, and in the main thread alone: SIGTERM is the caller's."""
  if threading.current_thread() is not threading.main_thread():
    yield signals.Stop()
    return
  with signals.catch(terminates=False) as stop:
    yield stop


def _config(
  settings: dict[str, Any],
  optimizer: str | optax.GradientTransformation,
  workdir: str | Path | None,
) -> tuple[TrainConfig, optax.GradientTransformation | None]:
  """The settings as a config, and the optimizer if it is none that it can name."""
  fields = {spec.name for spec in dataclasses.fields(TrainConfig)}
  for name in settings:
    if name in fields and name not in _OF_COMMANDS:
      continue
    hint = ELSEWHERE.get(name)
    raise TypeError(
      f'fit has no {name}: {hint}' if hint else f'fit has no argument {name}'
    )
  if workdir is not None and not str(workdir):
    raise InputError('`workdir` is empty: name a folder, or None to write nothing')
  if callable(settings.get('learning_rate')):
    raise InputError(
      '`learning_rate` must be a number: a schedule of optax goes into its optimizer, '
      '`optimizer=optax.adam(schedule)`, and `schedule` names those here'
    )
  for name in ('class_weight', 'rate_changes'):  # a dict says what the flag's text does
    if isinstance(pairs := settings.get(name), Mapping):
      settings[name] = ','.join(f'{key}:{value}' for key, value in pairs.items())
  if workdir is not None:
    settings['workdir'] = str(Path(workdir).expanduser().absolute())
  if isinstance(optimizer, str):
    return TrainConfig(optimizer=optimizer, **settings), None  # type: ignore[arg-type]
  if not all(callable(getattr(optimizer, name, None)) for name in ('init', 'update')):
    raise InputError(
      '`optimizer` must be a name, or an optax transformation such as '
      f'optax.adam(1e-3), got {optimizer!r}'
    )
  for name in _OF_OPTIMIZER:
    if name in settings:
      raise InputError(
        f'`{name}` is of optimizers by name: one of optax has it within, as '
        'optax.adam(rate) and optax.chain(optax.clip(1.0), ...)'
      )
  return TrainConfig(optimizer='custom', **settings), optimizer


def _metrics(
  metrics: Sequence[str] | Mapping[str, str | Metric],
) -> dict[str, Metric]:
  if isinstance(metrics, str) or callable(metrics):
    metrics = [metrics]
  if not isinstance(metrics, Mapping):
    names = [m if isinstance(m, str) else getattr(m, '__name__', '') for m in metrics]
    if not all(map(str.isidentifier, names)) or len(set(names)) < len(names):
      raise InputError(
        '`metrics` must be names and functions with a name each, or a dict, name -> '
        f'function; got {metrics!r}'
      )
    metrics = dict(zip(names, metrics, strict=True))
  for name in metrics:
    if name in _RESERVED or name.startswith('val_') or '/' in name:
      raise InputError(f'`metrics`: {name} is what the log calls another thing')
  return {name: metrics_lib.named(metric) for name, metric in metrics.items()}


def _name_of(value: Any) -> str | None:
  """What config.json says of a loss, metric or optimizer, to tell it from another."""
  return value if isinstance(value, str) else getattr(value, '__qualname__', None)


def _saved_model(folder: Path) -> nn.Module:
  path = folder / modules.FILE
  if not path.exists():
    raise InputError(f'{folder} has no {modules.FILE}: hand over `model`')
  return modules.build(json.loads(path.read_text()))
