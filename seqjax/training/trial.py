"""Whether model, loss and metrics fit the data, before a run begins."""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.errors import FlaxError

from seqjax.data.sources import Source, check_within
from seqjax.layers import Embedding
from seqjax.layers.base import call_options
from seqjax.training import losses
from seqjax.training.metrics import Compound
from seqjax.training.plan import Plan, Task
from seqjax.types import InputError


def check(task: Task, plan: Plan, sources: Mapping[str, Source]) -> None:
  """Tries by shapes, on two examples, and then looks at ids and labels.

  Args:
    task: Model, loss and metrics.
    plan: What it makes of the loss in training.
    sources: Name of a set, for messages -> the set.

  Raises:
    InputError: They do not fit each other.
  """
  first = next(iter(sources.values()))
  rows = first.take(np.arange(min(2, len(first))))
  options = call_options(task.model, train=False, mask=rows.mask)
  metrics = {'loss': plan.training_loss(task.loss), **task.metrics}
  sizes = []  # of the Embeddings that look x up

  def run(x: Any, y: Any) -> Any:
    def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
      if isinstance(context.module, Embedding) and args and args[0] is x:
        sizes.append(context.module.num_embeddings)
      return call(*args, **kwargs)

    with nn.intercept_methods(note):
      output, _ = task.model.init_with_output(jax.random.key(0), x, **options)
    values: dict[str, Any] = {}
    for name, metric in metrics.items():
      parts = metric.parts if isinstance(metric, Compound) else {'': metric}
      values |= {
        f'{name}/{part}'.rstrip('/'): f(output, y) for part, f in parts.items()
      }
    return output, values

  try:
    output, metric_values = jax.eval_shape(run, rows.x, rows.y)
  except (TypeError, ValueError, FlaxError) as error:
    raise InputError(
      f'model and loss do not fit x {rows.x.shape} and y {rows.y.shape}: {error}'
    ) from error
  for name, value in metric_values.items():
    if getattr(value, 'shape', None) != (len(rows.x),):
      raise InputError(
        f'{name} must give a value an example, [{len(rows.x)}] here; got '
        f'{getattr(value, "shape", value)}'
      )
  for name, source in sources.items():
    x, y = source.seen()
    for size in sizes:
      why = f'the Embedding has rows from 0 to {size - 1}'
      check_within(x, 0, size - 1, f'{name}: x', why)
    if task.loss is losses.binary_xent:
      check_within(y, 0, 1, f'{name}: y', 'labels of binary_crossentropy are 0 to 1')
    if task.loss is losses.softmax_xent:
      C, one = output.shape[-1], rows.y.ndim == 1  # below 0 a step has no label
      why = f'the model has classes from 0 to {C - 1}'
      check_within(y, 0 if one else -math.inf, C - 1, f'{name}: y', why)
