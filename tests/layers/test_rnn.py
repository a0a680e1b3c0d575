"""RNN over trees of inputs and of outputs, and with constants, against NumPy loops."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpy_rnn
import pytest

import seqjax as sj

B, T, D, E, H, S = 2, 4, 3, 2, 5, 3
MASK = np.array([[0, 1, 1, 0], [1, 1, 0, 1]], bool)


def random_x(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def closes(got, want):
  got, want = jax.tree.leaves(got), jax.tree.leaves(want)
  for g, w in zip(got, want, strict=True):
    scale = max(1, np.abs(w).max())
    np.testing.assert_allclose(g, w, rtol=0, atol=1e-5 * scale)


class Two(NamedTuple):
  first: jax.Array  # [..., H]
  second: jax.Array  # [..., E]


class TwoCell(sj.RNNCell):
  """Two states, each of inputs of its own and of the other; no field is called h."""

  def setup(self):
    self.mix = self.param('mix', nn.initializers.normal(), (H, E))

  def zero_carry(self, batch_shape, dtype):
    zeros = (jnp.zeros((*batch_shape, size), dtype) for size in (H, E))
    return Two(*zeros)

  @nn.compact
  def project(self, x):
    kernel = self.param('kernel', nn.initializers.normal(), (D, H))
    return {'a': x['a'] @ kernel, 'b': x['b']}

  def __call__(self, carry, x, *, train):
    first = jnp.tanh(x['a'] + carry.second @ self.mix.T)
    return Two(first, carry.second / 2 + x['b'] + carry.first @ self.mix)

  def output(self, carry):
    return {'first': carry.first, 'product': carry.first @ self.mix * carry.second}


def two_loop(kernel, mix, a, b, *, zero_output=False, backwards=False):
  """Outputs of all steps in the order of time."""
  first, second = np.zeros((B, H)), np.zeros((B, E))
  ys = [None] * T
  for t in reversed(range(T)) if backwards else range(T):
    new_first = np.tanh(a[:, t] @ kernel + second @ mix.T)
    new_second = second / 2 + b[:, t] + first @ mix
    real = MASK[:, t, None]
    first, second = (
      np.where(real, new, old)
      for new, old in ((new_first, first), (new_second, second))
    )
    y = first, (first @ mix) * second
    ys[t] = [np.where(real, part, 0) for part in y] if zero_output else y
  return [np.stack(part, axis=1) for part in zip(*ys, strict=True)]


@pytest.mark.parametrize(
  'options',
  [
    {},
    {'go_backwards': True, 'keep_order': True, 'remat_chunk': 3},
    {'zero_output_for_mask': True},
    {'return_sequences': False},
  ],
  ids=str,
)
def test_trees_of_inputs_and_outputs_are_the_loop(options):
  """Values, and gradients of weights and of both inputs."""
  layer = sj.RNN(TwoCell(), **{'return_sequences': True} | options)
  factors = random_x(B, T, H, seed=1), random_x(B, T, E, seed=2)
  if not layer.return_sequences:
    factors = factors[0][:, 0], factors[1][:, 0]

  def numpy_loss(*arrays):
    parts = two_loop(
      *arrays, zero_output=layer.zero_output_for_mask, backwards=layer.go_backwards
    )
    if not layer.return_sequences:
      parts = [part[:, -1] for part in parts]
    return sum((part * f).sum() for part, f in zip(parts, factors, strict=True))

  def loss(kernel, mix, a, b):
    params = {'cell': {'kernel': kernel, 'mix': mix}}
    y = layer.apply({'params': params}, {'a': a, 'b': b}, train=False, mask=MASK)
    return jnp.sum(y['first'] * factors[0]) + jnp.sum(y['product'] * factors[1])

  arrays = [random_x(D, H), random_x(H, E) / 2, random_x(B, T, D), random_x(B, T, E)]
  value, grads = jax.jit(jax.value_and_grad(loss, argnums=range(4)))(*arrays)
  closes(value, numpy_loss(*map(np.float64, arrays)))
  closes(grads, numpy_rnn.numeric_gradient(numpy_loss, arrays))


def test_trees_go_through_both_directions_and_a_stack():
  x = {'a': random_x(B, T, D), 'b': random_x(B, T, E)}
  both = sj.Bidirectional(sj.RNN(TwoCell(), return_sequences=True))
  stack = sj.Stack([both, lambda y: y['product']])
  params = {
    f'{side}_layer': {'cell': {'kernel': random_x(D, H, seed=i), 'mix': random_x(H, E)}}
    for i, side in enumerate(('forward', 'backward'))
  }
  run = jax.jit(functools.partial(stack.apply, train=False, mask=MASK))
  y = run({'params': {'layers_0': params}}, x)
  arrays = [[*layer['cell'].values(), x['a'], x['b']] for layer in params.values()]
  forward = two_loop(*arrays[0])[1]
  closes(y, np.concatenate([forward, two_loop(*arrays[1], backwards=True)[1]], axis=-1))
  init = functools.partial(stack.init, train=False)
  drawn = jax.eval_shape(init, jax.random.key(0), x)['params']['layers_0']
  assert jax.tree.map(lambda a: a.shape, drawn) == jax.tree.map(np.shape, params)


class Attended(NamedTuple):
  h: jax.Array  # [..., H]


class AttendingCell(sj.RNNCell):
  """h' = tanh(x + the memory's rows, weighted by how like h they are)."""

  def zero_carry(self, batch_shape, dtype):
    return Attended(jnp.zeros((*batch_shape, H), dtype))

  @nn.compact
  def __call__(self, carry, x, *, train, constants):
    kernel = self.param('kernel', nn.initializers.normal(), (D, H))
    memory, gain = constants['memory'], constants['gain']  # [B, S, H], [B, 1]
    scores = jnp.einsum('bsh,bh->bs', memory, carry.h)
    read = jnp.einsum('bs,bsh->bh', nn.softmax(scores * gain), memory)
    return Attended(jnp.tanh(x @ kernel + read))


def attend_loop(kernel, x, memory, gain, backwards=False):
  h, ys = np.zeros((B, H)), [None] * T
  for t in reversed(range(T)) if backwards else range(T):
    scores = np.exp((memory * h[:, None]).sum(-1) * gain)
    read = (memory * (scores / scores.sum(-1, keepdims=True))[..., None]).sum(1)
    h = ys[t] = np.where(MASK[:, t, None], np.tanh(x[:, t] @ kernel + read), h)
  return np.stack(ys, axis=1)


@pytest.mark.parametrize('both', [False, True])
def test_constants_are_seen_at_every_step(both):
  """Keras 2's `constants`: values, and gradients of weights, inputs and constants."""
  layer = sj.RNN(AttendingCell(), return_sequences=True)
  layer = sj.Bidirectional(layer, merge_mode='sum') if both else layer
  arrays = [random_x(D, H), random_x(B, T, D), random_x(B, S, H), random_x(B, 1)]

  def numpy_loss(*arrays):
    y = attend_loop(*arrays)
    return ((y + attend_loop(*arrays, backwards=True) if both else y) ** 2).sum()

  def loss(kernel, x, memory, gain):
    params = cell = {'cell': {'kernel': kernel}}
    if both:
      params = {'forward_layer': cell, 'backward_layer': cell}
    y = layer.apply(
      {'params': params}, x, train=False, mask=MASK,
      constants={'memory': memory, 'gain': jnp.broadcast_to(gain, (B, S))},
    )  # fmt: skip
    return jnp.sum(y**2)

  value, grads = jax.jit(jax.value_and_grad(loss, argnums=range(4)))(*arrays)
  closes(value, numpy_loss(*map(np.float64, arrays)))
  closes(grads, numpy_rnn.numeric_gradient(numpy_loss, arrays))


def test_zoneout_hands_on_what_its_cell_takes_and_gives():
  x, constants = (
    random_x(B, T, D),
    {'memory': random_x(B, S, H), 'gain': np.ones((B, S))},
  )
  cells = AttendingCell(), sj.Zoneout(AttendingCell())
  layers, options = [sj.RNN(cell) for cell in cells], {'train': False}
  options['constants'] = constants

  @jax.jit
  def run(key, x):
    y, drawn = layers[0].init_with_output(key, x, **options)
    return y, layers[1].apply({'params': {'cell': drawn['params']}}, x, **options)

  closes(*run(jax.random.key(0), x))
  tree = {'a': x, 'b': random_x(B, T, E)}
  init = sj.RNN(sj.Zoneout(TwoCell())).init_with_output
  y, _ = jax.eval_shape(functools.partial(init, train=False), jax.random.key(0), tree)
  assert set(y) == {'first', 'product'}


def test_what_does_not_fit_is_named():
  a, b = random_x(B, T, D), random_x(B, T, E)
  layer = sj.RNN(TwoCell())

  def init(x, layer=layer, **options):
    return layer.init(jax.random.key(0), x, train=False, **options)

  with pytest.raises(ValueError, match=r'one batch and T .* got \[\(2, 4, 3\), \(2, 3'):
    init({'a': a, 'b': b[:, :3]})
  with pytest.raises(ValueError, match=r'RNN needs float x .* got int64\(2, 4, 2\)'):
    init({'a': a, 'b': b.astype(int)})
  with pytest.raises(ValueError, match=r'RNN needs mask bool\(2, 4\).* bool\(2, 3\)'):
    init({'a': a, 'b': b}, mask=MASK[:, :3])
  with pytest.raises(ValueError, match='got list: for several make a Stack of RNNs'):
    sj.RNN([TwoCell(), TwoCell()])
  for other in (sj.LSTM(H), sj.Bidirectional(sj.LSTM(H)), sj.Stack([sj.LSTM(H)])):
    with pytest.raises(TypeError, match='no constants: an RNN takes them for its cell'):
      init(a, other, constants=b)
