"""What a run is made of: what is learned, from what, and how; a config taken apart.

>>> from seqjax import config
>>> from seqjax.training import plan
>>> x = np.ones((200, 5, 3), np.float32)
>>> task = plan.Task(sj.SequenceRegressor(sj.GRU(8)), sj.losses.absolute_error)
>>> data = plan.make_data(config.TrainConfig(), (x[:150], x[:150, 0, 0]))
>>> data.feed.steps_per_epoch
2
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np
import optax

from seqjax.config import TrainConfig
from seqjax.data.batches import Batches, Bucketed, Feed, InOrder, Shuffled
from seqjax.data.sources import Source, make_source
from seqjax.training import losses, optim
from seqjax.training.losses import ExampleFn
from seqjax.training.metrics import Metric
from seqjax.types import InputError, PyTree
from seqjax.workdir.progress import Monitor

# The metrics of which it is known.
_LOWER = {
  'min', 'loss', 'mae', 'mse', 'binary_crossentropy', 'crossentropy', 'perplexity',
  'bits_per_character', 'frame_crossentropy', 'frame_nll',
}  # fmt: skip
_HIGHER = {
  'max', 'accuracy', 'label_accuracy', 'exact_match', 'pearson_r', 'f1', 'precision',
  'recall',
}  # fmt: skip

# Called after every epoch: (its number and values, the parameters that were evaluated).
EpochFn = Callable[[Mapping[str, float], PyTree], None]


class Task(NamedTuple):
  """What is learned."""

  model: nn.Module  # called as (x, train=, mask=), as far as it takes them
  loss: ExampleFn  # (output, y) -> [B], whose mean is minimised
  metrics: Mapping[str, Metric] = {}  # more of such, to report
  monitor: Monitor = Monitor()  # what makes an epoch the best
  frozen: Sequence[str] = ()  # parameters left as they are; see `optim.freeze`


class Data(NamedTuple):
  """What is learned from; what the feed's batches are indices into, the others' are."""

  feed: Feed
  validation: Batches | None = None  # after every epoch, each example once
  test: Batches | None = None  # at the end, with the parameters of the best epoch


class Devices(NamedTuple):
  """Where steps are computed."""

  number: int | None = None  # None: all accelerators, or one CPU
  batch_size: int = 128  # over all of them
  parts: int = 1  # of a batch, one after the other
  pmap: bool = False
  step_timeout: float | None = None  # seconds
  steps_per_dispatch: int | None = None  # None: 1 on a CPU, else up to `log_every`
  resident: bool | None = None  # examples on each device; None: on accelerators, if fit


@dataclasses.dataclass(frozen=True)
class Plan:
  """How it is learned, and for how long."""

  optimizer: optax.GradientTransformation
  num_epochs: int = 10
  num_steps: int | None = None  # an end before the last epoch
  seed: int = 0
  early_stopping: int | None = None  # epochs without a better one
  plateau: tuple[int, float] | None = None  # such epochs, and the factor of the rate
  mean_decay: float | None = None  # of a running mean of parameters
  label_smoothing: float = 0.0
  class_weight: Mapping[int, float] | None = None
  compute_dtype: str = 'float32'
  devices: Devices = dataclasses.field(default_factory=Devices)
  on_epoch: EpochFn | None = None

  def training_loss(self, loss: ExampleFn) -> ExampleFn:
    """The loss that steps minimise; evaluation takes the plain one."""
    loss = losses.smoothed(loss, self.label_smoothing)
    return losses.class_weighted(loss, self.class_weight) if self.class_weight else loss


def make_data(
  config: TrainConfig,
  train: Any,
  validation: Any = None,
  test: Any = None,
  *,
  encode: Callable[[Any], tuple] | None = None,
  length: int | None = None,
) -> Data:
  """Data as `fit` takes them, in batches; each part is as wide as its longest sequence.

  Raises:
    InputError: They cannot be used.
  """

  def source(data: Any, name: str) -> Source:
    return make_source(data, encode=encode, length=length, name=name)

  def held_out(data: Any, name: str) -> InOrder | None:
    return None if data is None else InOrder(source(data, name), config.batch_size)

  examples = source(train, 'train')
  feed = Shuffled(examples, config.batch_size, config.seed)
  if examples.lengths is not None:
    feed = Bucketed(examples, examples.lengths, config.batch_size, config.seed)
  return Data(feed, held_out(validation, 'validation'), held_out(test, 'test'))


def make_plan(
  config: TrainConfig,
  feed: Feed,
  optimizer: optax.GradientTransformation | None = None,
  on_epoch: EpochFn | None = None,
) -> Plan:
  """What the flags say of how to train; `optimizer` instead of theirs.

  Raises:
    InputError: Some of them do not fit each other or the feed.
  """
  steps = config.num_epochs * feed.steps_per_epoch
  if optimizer is None:
    rate = optim.make_schedule(
      config.schedule,
      config.learning_rate,
      min(steps, config.num_steps or steps),
      warmup_steps=config.warmup_steps,
      final_share=config.final_share,
      changes=config.pairs('rate_changes'),
    )
    optimizer = optim.make_optimizer(
      config.optimizer,
      rate,
      momentum=config.momentum,
      nesterov=config.nesterov,
      weight_decay=config.weight_decay,
      clip_value=config.clip_value,
      clip_norm=config.clip_norm,
      clip_global_norm=config.clip_global_norm,
    )
  weights: Mapping[int, float] | None = None
  if config.class_weight == 'balanced':
    weights = losses.balanced(_labels(feed))
  elif config.class_weight:
    weights = config.pairs('class_weight')
  plateau = None
  if config.plateau_epochs is not None:
    plateau = config.plateau_epochs, config.plateau_factor
  return Plan(
    optimizer,
    num_epochs=config.num_epochs,
    num_steps=config.num_steps,
    seed=config.seed,
    early_stopping=config.early_stopping,
    plateau=plateau,
    mean_decay=config.mean_decay,
    label_smoothing=config.label_smoothing,
    class_weight=weights,
    compute_dtype=config.compute_dtype,
    devices=Devices(
      config.num_devices,
      config.batch_size,
      config.accumulate_steps,
      config.data_parallel == 'pmap',
      config.step_timeout,
      config.steps_per_dispatch,
      config.resident,
    ),
    on_epoch=on_epoch,
  )


def choose_monitor(config: TrainConfig, task: Task) -> Task:
  """The task, its best epoch found by the metric that a flag names, if one does.

  Raises:
    InputError: The task has none of that name, or nothing says which way it is better.
  """
  if not config.monitor:
    return task
  metric = config.monitor.removeprefix('min:').removeprefix('max:')
  if metric not in ('loss', *task.metrics):
    raise InputError(
      f'`monitor` must be one of {", ".join(("loss", *task.metrics))}, got {metric!r}'
    )
  return task._replace(monitor=Monitor(metric, is_higher_better(config.monitor)))


def is_higher_better(metric: str) -> bool:
  """Whether min:NAME or max:NAME, or the name of a metric that is known, says so.

  An error has its unit behind it, as mae_celsius.

  Raises:
    InputError: None of them says it.
  """
  way, colon, _ = metric.partition(':')
  if colon:
    metric = way
  elif metric.startswith(('mae_', 'mse_')):
    metric = metric[:3]
  if metric not in _HIGHER and metric not in _LOWER:
    raise InputError(
      f'nothing tells whether {metric} is better low or high: say min:{metric} or '
      f'max:{metric}'
    )
  return metric in _HIGHER


def _labels(feed: Feed) -> np.ndarray:
  labels: Any = getattr(feed, 'labels', None)
  if labels is None:
    raise InputError('`class_weight=balanced` needs data with one label an example')
  return np.asarray(labels)
