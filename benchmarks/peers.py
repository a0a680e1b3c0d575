"""The peers' runners. One that is not installed, or can't do a workload, is None."""

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import ours
from benchmarks.jax_runner import jax_runner, step_runner
from benchmarks.timing import Runner
from benchmarks.workload import GATES, V, Workload, data, resets
from seqjax.workdir.folder import num_cores

FLAX_CELLS: dict[str, Any] = {
  'lstm': nn.OptimizedLSTMCell,
  'gru': nn.GRUCell,
  'simple_rnn': nn.SimpleCell,
}


def flax_runner(workload: Workload) -> Runner | None:
  """flax.linen.RNN: no recurrent dropout; for resets, its cell in a scan."""
  if workload.dropout:
    return None
  cell = FLAX_CELLS[workload.cell]
  if workload.resets:
    return _flax_with_resets(workload, cell(workload.H))

  class Model(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
      if workload.embedding:
        x = nn.Embed(V, workload.D)(x)
      ys: Any = nn.RNN(cell(workload.H))(x)
      return jnp.squeeze(nn.Dense(1)(ys[:, -1]), -1)

  model = Model()
  params = model.init(jax.random.key(0), data(workload)[0])
  return jax_runner(
    'flax.linen.RNN', workload, params, lambda params, x, key: model.apply(params, x)
  )


def _flax_with_resets(workload: Workload, cell: Any) -> Runner:
  """As the training loops of reinforcement learning write it."""
  x, flags = data(workload)[0], resets(workload)
  key = jax.random.key(0)
  zeros = cell.initialize_carry(key, x[:, 0].shape)
  params = {'cell': cell.init(key, zeros, x[:, 0]), 'head': jnp.ones(workload.H)}

  def logits(params: Any, x: Any, key: Any) -> Any:
    def step(carry: Any, now: tuple[Any, Any]) -> tuple[Any, None]:
      x, reset = now
      carry = jax.tree.map(lambda z, c: jnp.where(reset[:, None], z, c), zeros, carry)
      return cell.apply(params['cell'], carry, x)

    steps = jnp.swapaxes(x, 0, 1), jnp.swapaxes(flags, 0, 1)
    return jax.lax.scan(step, zeros, steps)[1][-1] @ params['head']

  return jax_runner('flax cell in a scan', workload, params, logits)


def naive_runner(workload: Workload) -> Runner | None:
  """What one writes first: all of a step inside lax.scan."""
  if workload.dropout or workload.resets:
    return None
  G = GATES[workload.cell] * workload.H
  rng = np.random.default_rng(0)

  def normal(*shape: int) -> np.ndarray:
    return 0.1 * rng.standard_normal(shape, np.float32)

  params = {
    'kernel': normal(workload.D, G),
    'recurrent': normal(workload.H, G),
    'bias': normal(2, G),
    'head': normal(workload.H),
    'embedding': normal(V, workload.D) if workload.embedding else normal(1),
  }

  def logits(params: Any, x: Any, key: Any) -> Any:
    del key
    x = params['embedding'][x] if workload.embedding else x

    def step(carry: Any, x: Any) -> Any:
      h, c = carry
      z = x @ params['kernel'] + params['bias'][0]
      a = h @ params['recurrent'] + params['bias'][1]
      if workload.cell == 'lstm':
        i, f, g, o = jnp.split(z + a, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
      elif workload.cell == 'gru':
        (z_z, z_r, z_n), (a_z, a_r, a_n) = jnp.split(z, 3, -1), jnp.split(a, 3, -1)
        update, reset = jax.nn.sigmoid(z_z + a_z), jax.nn.sigmoid(z_r + a_r)
        h = update * h + (1 - update) * jnp.tanh(z_n + reset * a_n)
      else:
        h = jnp.tanh(z + a)
      return (h, c), None

    zeros = jnp.zeros((len(x), workload.H))
    (h, _), _ = jax.lax.scan(step, (zeros, zeros), jnp.swapaxes(x, 0, 1))
    return h @ params['head']

  return jax_runner('naive scan', workload, params, logits)


def keras_runner(workload: Workload) -> Runner | None:
  """Keras 3 on JAX: its stateless functions in one jitted step, its own RMSprop."""
  if workload.resets or importlib.util.find_spec('keras') is None:
    return None
  os.environ['KERAS_BACKEND'] = 'jax'
  import keras

  layer = getattr(keras.layers, ours.LAYERS[workload.cell].__name__)
  rate = workload.dropout
  stack = [layer(workload.H, dropout=rate, recurrent_dropout=rate)]
  if workload.embedding:
    stack.insert(0, keras.layers.Embedding(V, workload.D))
  model = keras.Sequential([*stack, keras.layers.Dense(1)])
  x, y = data(workload)
  model.build(x.shape)
  optimizer = keras.optimizers.RMSprop(1e-3, rho=0.9)
  train, state = keras_step(
    model, optimizer, lambda z, y: optax.sigmoid_binary_cross_entropy(z[:, 0], y)
  )

  def infer(state: Any, x: Any, y: Any) -> Any:
    del y
    return model.stateless_call(state[0], state[1], x, training=False)[0]

  step = train if workload.training else infer
  return step_runner('Keras (JAX)', step, state, [(x, y)], trains=workload.training)


def keras_step(
  model: Any, optimizer: Any, loss: Callable[[Any, Any], Any]
) -> tuple[Callable[[Any, Any, Any], Any], Any]:
  """(state, x, y) -> state of a Keras model with loss (outputs, y), and the first."""
  optimizer.build(model.trainable_variables)

  def step(state: Any, x: Any, y: Any) -> Any:
    trainable, fixed, slots = state

    def mean_loss(trainable: Any) -> Any:
      outputs, new = model.stateless_call(trainable, fixed, x, training=True)
      return loss(outputs, y).mean(), new

    grads, fixed = jax.grad(mean_loss, has_aux=True)(trainable)
    trainable, slots = optimizer.stateless_apply(slots, grads, trainable)
    return trainable, fixed, slots

  variables = (
    model.trainable_variables,
    model.non_trainable_variables,
    optimizer.variables,
  )
  return step, tuple([jnp.array(v.value) for v in group] for group in variables)


def torch_runner(workload: Workload, device: str = 'cpu') -> Runner | None:
  """torch.nn on all cores, or on a GPU: no recurrent dropout."""
  if workload.dropout or workload.resets or not importlib.util.find_spec('torch'):
    return None
  import torch

  torch.manual_seed(0)
  torch.set_num_threads(num_cores())
  layer = torch_layer(workload.cell)(workload.D, workload.H, batch_first=True)
  embedding = torch.nn.Embedding(V, workload.D) if workload.embedding else None
  head = torch.nn.Linear(workload.H, 1)
  modules = [m.to(device) for m in (embedding, layer, head) if m is not None]
  params = [p for module in modules for p in module.parameters()]
  optimizer = torch.optim.RMSprop(params, lr=1e-3, alpha=0.9, eps=1e-7)
  x, y = (torch.from_numpy(value).to(device) for value in data(workload))
  if workload.embedding:
    x = x.long()

  def logits() -> Any:
    inputs = x if embedding is None else embedding(x)
    return head(layer(inputs)[0][:, -1])[:, 0]

  def train() -> None:
    optimizer.zero_grad()
    torch.nn.functional.binary_cross_entropy_with_logits(logits(), y).backward()
    optimizer.step()

  def infer() -> None:
    with torch.inference_mode():
      logits()

  def on_gpu() -> None:
    train()
    torch.cuda.synchronize()

  if device != 'cpu':
    return Runner(f'torch.nn on {device}', on_gpu)
  return Runner('torch.nn', train if workload.training else infer)


def torch_layer(cell: str) -> Any:
  """The class of torch.nn."""
  import torch

  return {'lstm': torch.nn.LSTM, 'gru': torch.nn.GRU, 'simple_rnn': torch.nn.RNN}[cell]


PEERS: dict[str, Callable[[Workload], Runner | None]] = {
  'keras': keras_runner,
  'torch': torch_runner,
  'flax': flax_runner,
  'naive': naive_runner,
}
