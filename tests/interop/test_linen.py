"""Weights from flax.linen's cells and back: the same outputs, and what is lost."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax.interop import linen as interop
from seqjax.interop.weights import LossyWarning
from seqjax.types import InputError

B, T, D, H = 5, 7, 3, 4

CELLS = {
  'lstm': (nn.LSTMCell, sj.LSTM, interop.to_lstm, interop.from_lstm),
  'optimized_lstm': (nn.OptimizedLSTMCell, sj.LSTM, interop.to_lstm, interop.from_lstm),
  'gru': (nn.GRUCell, sj.GRU, interop.to_gru, interop.from_gru),
  'simple_rnn': (
    nn.SimpleCell,
    sj.SimpleRNN,
    interop.to_simple_rnn,
    interop.from_simple_rnn,
  ),
}


@pytest.fixture(autouse=True)
def rank_promotion():
  with jax.numpy_rank_promotion('allow'):  # linen adds [H] to [B, H]
    yield


def random_like(params, seed=0):
  """Random values in every parameter: linen's biases start at 0."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda a: rng.normal(size=a.shape).astype(a.dtype), params)


def random_params(model, x, seed):
  """Random parameters of a model, without the compilation of the initialisers."""
  more = {} if isinstance(model, Theirs) else {'train': False}
  init = functools.partial(model.init, **more)
  return random_like(jax.eval_shape(init, jax.random.key(0), x)['params'], seed)


def inputs():
  return np.random.default_rng(1).normal(size=(B, T, D)).astype(np.float32)


def linen_rnn(cell, x, params):
  return nn.RNN(cell(H)).apply({'params': {'cell': params}}, x)


def linen_params(cell):
  x = np.zeros((B, T, D), np.float32)
  shapes = jax.eval_shape(nn.RNN(cell(H)).init, jax.random.key(0), x)
  return random_like(shapes['params']['cell'])


@pytest.mark.parametrize('name', CELLS)
def test_the_outputs_stay_the_same(name):
  cell, layer, to_ours, _ = CELLS[name]
  params, x = linen_params(cell), inputs()
  y = layer(H, return_sequences=True).apply({'params': to_ours(params)}, x, train=False)
  np.testing.assert_allclose(y, linen_rnn(cell, x, params), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('name', CELLS)
def test_and_on_the_way_back(name):
  cell, layer, _, to_theirs = CELLS[name]
  x, layer = inputs(), layer(H, return_sequences=True)
  params = random_params(layer, x, 3)
  if name == 'gru':
    with pytest.warns(LossyWarning, match='sums of the input'):
      theirs = to_theirs(params)
  else:
    theirs = to_theirs(params)
  y = layer.apply({'params': params}, x, train=False)
  np.testing.assert_allclose(linen_rnn(cell, x, theirs), y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', CELLS)
def test_there_and_back_is_the_identity(name):
  cell, _, to_ours, to_theirs = CELLS[name]
  params = linen_params(cell)
  back = to_theirs(to_ours(params))  # no LossyWarning: warnings are errors
  assert jax.tree.structure(back) == jax.tree.structure(params)
  jax.tree.map(np.testing.assert_array_equal, back, params)


def test_a_layer_without_bias_gets_zeros():
  x, layer = inputs(), sj.GRU(H, use_bias=False, return_sequences=True)
  params = random_params(layer, x, 0)
  theirs = interop.from_gru(params)
  assert not theirs['hn']['bias'].any()
  y = layer.apply({'params': params}, x, train=False)
  np.testing.assert_allclose(linen_rnn(nn.GRUCell, x, theirs), y, rtol=1e-5, atol=1e-5)


class Theirs(nn.Module):
  encoder: nn.Module

  @nn.compact
  def __call__(self, ids):
    x = nn.Embed(11, D, name='words')(ids)
    x = self.encoder(x)
    x = nn.RNN(nn.OptimizedLSTMCell(6), name='top')(x)
    return nn.Dense(2, name='head')(x[:, -1])


def ours():
  return sj.Stack(
    [
      sj.Embedding(11, D),
      sj.Bidirectional(sj.GRU(H, return_sequences=True)),
      sj.LSTM(6),
      nn.Dense(2),
    ]
  )


def test_a_whole_model_moves_over_and_back():
  ids = np.random.default_rng(2).integers(0, 11, (B, T)).astype(np.int32)
  model = Theirs(nn.Bidirectional(nn.RNN(nn.GRUCell(H)), nn.RNN(nn.GRUCell(H))))
  theirs = random_params(model, ids, 0)
  params = random_params(ours(), ids, 4)
  predict = jax.jit(lambda p: ours().apply({'params': p}, ids, train=False))
  predict_theirs = jax.jit(lambda p: model.apply({'params': p}, ids))
  loaded = interop.load_into(params, theirs)
  np.testing.assert_allclose(
    predict(loaded), predict_theirs(theirs), rtol=1e-5, atol=1e-5
  )
  with pytest.warns(LossyWarning, match='one bias for z'):
    back = interop.from_params(params, like=theirs)
  assert jax.tree.structure(back) == jax.tree.structure(theirs)
  np.testing.assert_allclose(
    predict_theirs(back), predict(params), rtol=1e-5, atol=1e-5
  )
  # Cells that linen names after their class do not say which direction they are.
  flat = {k: v for k, v in theirs.items() if k != 'encoder'}
  for i, direction in enumerate(('forward', 'backward')):
    flat[f'GRUCell_{i}'] = theirs['encoder'][f'{direction}_rnn']['cell']
  with pytest.raises(InputError, match="nothing for 'layers_1/backward_layer'"):
    interop.load_into(params, flat)
  mapping = {
    'layers_1/forward_layer': 'GRUCell_0',
    'layers_1/backward_layer': 'GRUCell_1',
  }
  part = interop.load_into(params, flat, mapping)
  jax.tree.map(np.testing.assert_array_equal, part['layers_1'], loaded['layers_1'])
  jax.tree.map(np.testing.assert_array_equal, part['layers_0'], params['layers_0'])


def test_a_mapping_takes_a_part():
  cell = linen_params(nn.LSTMCell)
  params = {
    'encoder': {'kernel': jnp.zeros((D, 4 * H)), 'recurrent_kernel': jnp.zeros((H, 16))}
  }
  params['encoder']['bias'] = jnp.zeros(4 * H)
  theirs = {'a': {'cell': cell}, 'b': {'cell': random_like(cell, 9)}}
  with pytest.raises(InputError, match=r"2 layers \('a', 'b'\) that fit 1"):
    interop.load_into(params, theirs)
  loaded = interop.load_into(params, theirs, {'encoder': 'b'})
  np.testing.assert_array_equal(
    loaded['encoder']['bias'], interop.to_lstm(theirs['b']['cell'])['bias']
  )


def test_what_is_no_cell_is_refused():
  cell = linen_params(nn.LSTMCell)
  with pytest.raises(ValueError, match='no kernel of'):
    interop.to_gru(cell)
  with pytest.raises(ValueError, match='no LSTM: kernel must be'):
    interop.to_lstm(cell | {'hi': {'kernel': np.ones((H, H + 1))}})
  with pytest.raises(ValueError, match=r'biases must be \(4,\)'):
    interop.to_lstm(cell | {'ii': cell['ii'] | {'bias': np.ones(H - 1)}})
  gru = {
    'kernel': np.ones((D, 3 * H)),
    'recurrent_kernel': np.ones((H, 3 * H)),
    'bias': np.ones(3 * H),
  }
  with pytest.raises(ValueError, match='no GRU without reset_after'):
    interop.from_gru(gru)
  with pytest.raises(ValueError, match='params is no LSTM'):
    interop.from_lstm(gru)
  with pytest.raises(ValueError, match='params has no recurrent_kernel'):
    interop.from_lstm({'kernel': np.ones((D, 4 * H))})


def test_a_broken_cell_is_named():
  params = jax.tree.map(np.asarray, linen_params(nn.GRUCell))
  params['hz']['kernel'] = np.ones((H, H + 1), np.float32)
  with pytest.raises(InputError, match=r"layer 'top' of linen's .* is no GRU: .*13\)"):
    interop.load_into({'encoder': {}}, {'top': {'cell': params}})
