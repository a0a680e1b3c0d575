"""Whole training steps against Keras: same weights, same batches, same parameters."""

import jax
import keras
import numpy as np
import pytest

import seqjax as sj
from seqjax.cluster import mesh as mesh_lib
from seqjax.data.batches import Shuffled
from seqjax.training import losses, optim, steps
from seqjax.training.state import init_state
from seqjax.types import Examples

pytestmark = pytest.mark.usefixtures('quick_programs')

_V, _E, _H, _T, _B = 40, 6, 5, 11, 16
_LAYERS = {
  'simple_rnn': (sj.SimpleRNN, keras.layers.SimpleRNN),
  'lstm': (sj.LSTM, keras.layers.LSTM),
  'gru': (sj.GRU, keras.layers.GRU),
}
_OPTIMIZERS = {'rmsprop': keras.optimizers.RMSprop, 'adam': keras.optimizers.Adam}


def _weights(params):
  """In Keras's order."""
  params, layers = jax.device_get(params), ('embedding', 'encoder', 'head')
  names = (['embedding'], ['kernel', 'recurrent_kernel', 'bias'], ['kernel', 'bias'])
  pairs = zip(layers, names, strict=True)
  return [params[layer][name] for layer, found in pairs for name in found]


@pytest.fixture(autouse=True)
def ranks_as_keras_likes_them():
  with jax.numpy_rank_promotion('allow'):
    yield


@pytest.mark.slow
@pytest.mark.parametrize('cell', list(_LAYERS))
@pytest.mark.parametrize('optimizer', list(_OPTIMIZERS))
def test_forty_steps_are_those_of_keras(cell, optimizer):
  rng = np.random.default_rng(0)
  x = rng.integers(0, _V, (150, _T)).astype(np.int32)
  examples = Examples(x, (x[:, 0] > x[:, -1]).astype(np.float32))
  ours, theirs = _LAYERS[cell]
  model = sj.SequenceClassifier(_V, _E, ours(_H))
  tx = optim.make_optimizer(optimizer, 0.01)
  mesh = mesh_lib.make_mesh(1, _B)
  feed = Shuffled(examples, _B, seed=0)  # ten steps an epoch, the last one smaller
  state = init_state(model, tx, jax.random.key(0), feed.batch(0).x)
  peer = keras.Sequential(
    [
      keras.layers.Input((_T,), dtype='int32'),
      keras.layers.Embedding(_V, _E),
      theirs(_H),
      keras.layers.Dense(1),
    ]
  )
  peer.set_weights(_weights(state.params))
  loss = keras.losses.BinaryCrossentropy(from_logits=True)
  peer.compile(_OPTIMIZERS[optimizer](0.01), loss)
  step = steps.make_train_step(model, losses.binary_xent, {}, tx, mesh)
  before = _weights(state.params)
  for number in range(40):
    batch = feed.batch(number)
    real = batch.weight > 0
    placed = mesh_lib.put_batch(batch, mesh)
    state, sums = step(state, placed, jax.random.key(1))
    expected = peer.train_on_batch(batch.x[real], batch.y[real])
    mean = float(sums['loss'] / sums['weight'])
    np.testing.assert_allclose(mean, expected, rtol=1e-4)
  found = [np.asarray(weight.value) for weight in peer.weights]
  for old, a, b in zip(before, _weights(state.params), found, strict=True):
    assert np.abs(old - a).max() > 1e-3  # they have moved
    np.testing.assert_allclose(a, b, rtol=0, atol=2e-5)
