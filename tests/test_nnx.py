"""Modules of flax.nnx: equal to the linen layers, under nnx's own transformations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import seqjax as sj
from seqjax import nnx as snn

B, T, D, H = 2, 5, 3, 4
CELLS = ['SimpleRNN', 'LSTM', 'GRU']
each_cell = pytest.mark.parametrize('cell', CELLS)
close = functools.partial(np.testing.assert_allclose, atol=1e-6)


@pytest.fixture
def x():
  return jax.random.normal(jax.random.key(0), (B, T, D))


@each_cell
def test_values_and_gradients_are_those_of_the_linen_layer(cell, x):
  options = {'return_sequences': True, 'return_carry': True, 'use_bias': cell != 'GRU'}
  module = getattr(snn, cell)(D, H, **options, rngs=nnx.Rngs(1))
  layer = getattr(sj, cell)(H, **options)
  params = snn.to_linen(module)
  shapes = jax.eval_shape(
    functools.partial(layer.init, train=False), jax.random.key(0), x
  )
  assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes['params'])
  given = {
    'mask': jnp.arange(T)[None] < jnp.asarray([[3], [5]]),
    'initial_carry': jax.tree.map(jnp.ones_like, layer.zeros((B,), jnp.float32)),
    'reset': jnp.zeros((B, T), bool).at[1, 2].set(True),
  }

  def loss(run):
    carry, y = run(x, **given)
    return jnp.sum(y**2) + jnp.sum(carry.h)

  @nnx.jit
  def step(module):
    return nnx.value_and_grad(loss)(module)

  value, gradients = step(module)
  apply = functools.partial(layer.apply, train=False)
  expected = jax.jit(
    jax.value_and_grad(lambda p: loss(functools.partial(apply, {'params': p})))
  )(params)
  jax.tree.map(close, (value, nnx.to_pure_dict(gradients)), expected)


def test_train_and_eval_switch_the_dropout(x):
  module = snn.GRU(D, H, dropout=0.3, recurrent_dropout=0.3, rngs=nnx.Rngs(0))

  @nnx.jit
  def run(module, x):
    return module(x)

  first, second = run(module, x), run(module, x)
  assert np.abs(first - second).max() > 1e-3  # a stream goes on, under jit too
  module.eval()
  layer = sj.GRU(H)
  expected = layer.apply({'params': snn.to_linen(module)}, x, train=False)
  np.testing.assert_array_equal(run(module, x), run(module, x))
  close(run(module, x), expected)
  module.train()
  key = jax.random.key(5)
  layer = sj.GRU(H, dropout=0.3, recurrent_dropout=0.3)
  params = {'params': snn.to_linen(module)}
  expected = layer.apply(params, x, train=True, rngs={'dropout': key})
  close(module(x, rngs=key), expected)
  close(module(x, deterministic=True), sj.GRU(H).apply(params, x, train=False))


def test_scan_over_layers_made_by_vmap(x):
  @nnx.split_rngs(splits=3)
  @nnx.vmap
  def make(rngs):
    return snn.LSTM(D, D, return_sequences=True, rngs=rngs)

  @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
  def run(x, layer):
    return x + layer(x)

  stacked = make(nnx.Rngs(0))
  params, layer, y = snn.to_linen(stacked), sj.LSTM(D, return_sequences=True), x
  assert np.abs(np.diff(params['kernel'], axis=0)).min() > 0
  for i in range(3):
    own = jax.tree.map(lambda a: a[i], params)  # noqa: B023
    y += layer.apply({'params': own}, y, train=False)
  close(run(x, stacked), y)


class _Tagger(nnx.Module):
  def __init__(self, rngs):
    self.both = snn.Bidirectional(
      snn.LSTM(D, H, return_sequences=True, rngs=rngs),
      snn.LSTM(D, H, return_sequences=True, go_backwards=True, rngs=rngs),
      merge_mode='sum',
    )
    self.head = nnx.Linear(H, 2, rngs=rngs)

  def __call__(self, x):
    return self.head(self.both(x))


def test_weights_move_both_ways_in_one_call(x):
  ours = sj.Bidirectional(sj.LSTM(H, return_sequences=True), merge_mode='sum')
  params = ours.init(jax.random.key(3), x, train=False)['params']
  model = _Tagger(nnx.Rngs(0))
  before = snn.to_linen(model)
  assert set(before) == {'both', 'head'}
  snn.from_linen(model, {**before, 'both': params})
  jax.tree.map(np.testing.assert_array_equal, snn.to_linen(model)['both'], params)
  jax.tree.map(
    np.testing.assert_array_equal, snn.to_linen(model)['head'], before['head']
  )
  close(model.both(x), ours.apply({'params': params}, x, train=False))


def test_what_does_not_fit_is_named_and_nothing_is_set(x):
  module = snn.LSTM(D, H, rngs=nnx.Rngs(0))
  before = snn.to_linen(module)
  with pytest.raises(ValueError, match=r"'bias' is \(16,\) in the module, absent"):
    snn.from_linen(module, {k: v for k, v in before.items() if k != 'bias'})
  with pytest.raises(ValueError, match=r"'kernel' is \(3, 16\) in .*, \(4, 16\) in"):
    snn.from_linen(module, {**before, 'kernel': jnp.zeros((4, 16))})
  jax.tree.map(np.testing.assert_array_equal, snn.to_linen(module), before)
  with pytest.raises(TypeError, match='LSTM has no units: it is called features'):
    snn.LSTM(D, H, units=3, rngs=nnx.Rngs(0))
  with pytest.raises(TypeError, match='LSTM has no units: it is called features'):
    snn.LSTM(D, units=3, rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match='features must be an integer, got None'):
    snn.LSTM(D, rngs=nnx.Rngs(0))
  with pytest.raises(TypeError, match='LSTM has no hx: it is called initial_carry'):
    module(jnp.ones((2, 5, D)), hx=None)
  drops = snn.GRU(D, H, dropout=0.5, rngs=nnx.Rngs(0))
  back = snn.GRU(D, H, dropout=0.5, go_backwards=True, rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match='Bidirectional with dropout needs rngs'):
    snn.Bidirectional(drops, back)
