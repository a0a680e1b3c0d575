"""seqjax's runners: the fast path, the reference path."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.jax_runner import jax_runner
from benchmarks.timing import Runner
from benchmarks.workload import V, Workload, data, resets
from seqjax import layers, models

LAYERS = {'lstm': layers.LSTM, 'gru': layers.GRU, 'simple_rnn': layers.SimpleRNN}


class _OnGivenInputs(nn.Module):
  """A layer and Dense(1), without an embedding."""

  layer: nn.Module

  @nn.compact
  def __call__(self, x: Any, *, train: bool, reset: Any = None) -> Any:
    return jnp.squeeze(nn.Dense(1)(self.layer(x, train=train, reset=reset)), -1)


def seqjax_runner(
  workload: Workload,
  implementation: str = 'auto',
  *,
  batches: list[tuple[np.ndarray, np.ndarray]] | None = None,
  mask_zero: bool = False,
) -> Runner:
  """The layer of the library.

  Args:
    workload: What to do.
    implementation: The layer's.
    batches: What to run over each time; None: the workload's one batch.
    mask_zero: Mask the steps of id 0.
  """
  layer = LAYERS[workload.cell](
    workload.H,
    dropout=workload.dropout,
    recurrent_dropout=workload.dropout,
    implementation=implementation,
  )
  model: nn.Module = _OnGivenInputs(layer)
  if workload.embedding:
    model = models.SequenceClassifier(V, workload.D, layer, mask_zero=mask_zero)
  params = model.init(jax.random.key(0), data(workload)[0], train=False)
  flags = resets(workload)

  def logits(params: Any, x: Any, key: Any) -> Any:
    rngs = None if key is None else {'dropout': key}
    reset = {} if flags is None else {'reset': flags}
    return model.apply(params, x, train=workload.training, rngs=rngs, **reset)

  return jax_runner(f'seqjax {implementation}', workload, params, logits, batches)
