"""What a run knows of itself beside its state: running sums, and the best epoch."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from seqjax.types import Array

# Name of a metric -> what makes it of the sums of its parts; see `metrics.Compound`.
Values = Mapping[str, Callable[[Mapping[str, float]], float]]


class Monitor(NamedTuple):
  """The validation value by which the best epoch is found."""

  metric: str = 'loss'
  higher_is_better: bool = False


@dataclasses.dataclass
class Progress:
  """Saved as JSON beside the state, so that a resumed run reports the same values.

  Sums are Python floats added up step by step: how often the device is asked for them
  does not change a bit.
  """

  window: dict[str, float] = dataclasses.field(default_factory=dict)
  epoch: dict[str, float] = dataclasses.field(default_factory=dict)
  epochs: int = 0  # evaluated ones
  epochs_since_best: int = 0
  best: dict[str, float] | None = None  # epoch, step and values of the best epoch
  last: dict[str, float] | None = None  # of the last one
  seconds: float = 0.0  # spent in steps, over all starts
  timed_seconds: float = 0.0  # those that tell of speed: without windows that compile
  timed_examples: float = 0.0

  def add(self, sums: Mapping[str, float]) -> None:
    """Takes in the sums of one step: of values over examples, 'weight', 'grad_norm'."""
    for total in (self.window, self.epoch):
      for name, value in {**sums, 'steps': 1}.items():
        total[name] = total.get(name, 0.0) + float(value)

  def add_time(self, seconds: float, examples: float, *, compiled: bool) -> None:
    """Takes in the time of a window of steps; `compiled` if it had to be compiled."""
    self.seconds += seconds
    if not compiled:
      self.timed_seconds += seconds
      self.timed_examples += examples

  def close_window(self, derived: Values | None = None) -> dict[str, float]:
    """Means since the last call; {} if no step was added. `derived` as of `means`."""
    values, self.window = means(self.window, derived), {}
    return values

  def close_epoch(
    self,
    validation: Mapping[str, float],
    step: int,
    monitor: Monitor,
    derived: Values | None = None,
  ) -> tuple[dict[str, float], bool]:
    """Ends an epoch.

    Args:
      validation: Means over the validation set; {} if there is none.
      step: Steps done.
      monitor: What makes an epoch the best; a value that is not finite never does, and
        without a validation set the newest epoch is the best.
      derived: As of `means`.

    Returns:
      (means of the epoch and `val_` values, whether it is the best so far).
    """
    training = {k: v for k, v in means(self.epoch, derived).items() if k != 'grad_norm'}
    values = {**training, **{f'val_{k}': v for k, v in validation.items()}}
    self.epoch = {}
    self.epochs += 1
    self.last = {'epoch': self.epochs, 'step': step, **values}
    key = f'val_{monitor.metric}'
    is_best = self.best is None or not validation
    if self.best is not None and validation:
      sign = 1 if monitor.higher_is_better else -1
      is_best = sign * values[key] > sign * self.best[key]
    is_best = is_best and all(map(math.isfinite, values.values()))
    self.epochs_since_best = 0 if is_best else self.epochs_since_best + 1
    if is_best:
      self.best = self.last
    return values, is_best

  def is_plateau(self, patience: int) -> bool:
    """Whether this epoch is the last of `patience` without a better one."""
    return self.epochs_since_best > 0 and self.epochs_since_best % patience == 0

  def to_json(self) -> dict[str, Any]:
    """All fields, as `Progress(**values)` takes them."""
    return dataclasses.asdict(self)


class Pending:
  """Sums of steps that are still on the device, and since when.

  `begin` before a dispatch is sent, `add` when it is under way.
  """

  def __init__(self) -> None:
    self._sums: list[Mapping[str, Array]] = []
    self._shares: list[float] = []
    self._start = 0.0
    self._compiled = False

  def __bool__(self) -> bool:
    return bool(self._sums)

  def begin(self) -> None:
    """Starts the clock, unless steps are under way already."""
    if not self._sums:
      self._start, self._compiled = time.monotonic(), False

  def add(
    self, sums: Mapping[str, Array], *, compiled: bool = False, sharers: int = 1
  ) -> None:
    """Takes in the sums of a dispatch without waiting for it.

    They are scalars, or [K] of K steps; `compiled` if its program had to be compiled.
    Its time is shared by so many runs.
    """
    self._sums.append(sums)
    self._shares.append(1 / sharers)
    self._compiled |= compiled

  def wait_for_last_but_one(self) -> None:
    """Blocks until only the newest dispatch may be under way."""
    for sums in self._sums[-2:-1]:
      next(iter(sums.values())).block_until_ready()  # all of it come together

  def fetch(self) -> tuple[list[dict[str, float]], float, bool]:
    """Waits for all steps.

    Returns:
      (the sums of each step, this run's share of the seconds since the first began,
      whether one was compiled).
    """
    steps: list[dict[str, float]] = []
    for sums in jax.device_get(self._sums):
      values = {name: value.reshape(-1).tolist() for name, value in sums.items()}
      steps += [
        dict(zip(values, step, strict=True))
        for step in zip(*values.values(), strict=True)
      ]
    share = sum(self._shares) / len(self._shares)
    self._sums, self._shares = [], []
    return steps, share * (time.monotonic() - self._start), self._compiled


def means(sums: Mapping[str, float], derived: Values | None = None) -> dict[str, float]:
  """Sums over examples -> their means, loss first; `grad_norm` is one over steps.

  Sums under NAME/PART with NAME in `derived` become the one value NAME.
  """
  parts: dict[str, dict[str, float]] = {name: {} for name in derived or {}}
  averages = {}
  for key in ('loss', *(key for key in sums if key not in ('loss', 'weight', 'steps'))):
    name, _, part = key.rpartition('/')
    if name in parts:
      parts[name][part] = sums[key]
    elif key in sums:
      number = sums['steps' if key == 'grad_norm' else 'weight']
      averages[key] = sums[key] / (number or 1.0)  # 0: no example weighs anything
  values = {name: derived[name](s) for name, s in parts.items() if s}  # type: ignore[index]
  return {**averages, **values}
