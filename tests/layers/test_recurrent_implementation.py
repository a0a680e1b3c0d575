"""`implementation` of the layers, and embeddings that are projected first."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_cases import assert_close
from masked_loop import drawn

from seqjax import cells, fast, layers, models

pytestmark = pytest.mark.usefixtures('quick_programs')

IDS = np.array([[0, 0, 3, 1, 2], [4, 1, 1, 6, 5], [0, 2, 2, 2, 6]])


def _gradients(model, params, ids, **keywords):
  def loss(params):
    return jnp.sum(model.apply(params, ids, train=True, **keywords) ** 2)

  return jax.jit(jax.value_and_grad(loss))(params)


@pytest.mark.slow
@pytest.mark.parametrize('layer', [layers.SimpleRNN, layers.LSTM, layers.GRU])
@pytest.mark.parametrize('mask_zero', [False, True])
def test_a_classifier_is_the_same_on_either_path(layer, mask_zero):
  rngs = {'dropout': jax.random.key(1)}
  for dropout in (0.0, 0.4):

    def build(implementation, dropout=dropout):
      encoder = layer(
        6, dropout=dropout, recurrent_dropout=0.3, implementation=implementation
      )
      return models.SequenceClassifier(7, 4, encoder, mask_zero=mask_zero)

    params = build('auto').init(jax.random.key(0), IDS, train=False)
    actual = _gradients(build('fast'), params, IDS, rngs=rngs)
    assert_close(actual, _gradients(build('reference'), params, IDS, rngs=rngs))
    assert_close(actual, _gradients(build('auto'), params, IDS, rngs=rngs))


@pytest.mark.slow
def test_an_id_outside_the_table_is_nan_in_its_row_alone():
  model = models.SequenceClassifier(7, 4, layers.GRU(6, implementation='fast'))
  params = model.init(jax.random.key(0), IDS, train=False)
  for bad in (7, -1):
    logits = model.apply(params, jnp.asarray(IDS).at[1, 2].set(bad), train=False)
    np.testing.assert_array_equal(np.isnan(logits), [False, True, False])


@pytest.mark.parametrize(
  ('layer', 'message'),
  [
    (layers.LSTM(3, activation=jnp.sin), 'do not know the activation'),
    (layers.GRU(3, recurrent_activation=jax.nn.softplus), 'do not know the activation'),
  ],
)
def test_fast_says_why_it_cannot_and_auto_takes_the_other_path(layer, message):
  x = np.random.default_rng(0).standard_normal((2, 5, 4), np.float32)
  params = drawn(layer, x)
  reference = layer.clone(implementation='reference')

  @jax.jit
  def both(params, x):
    return [each.apply(params, x, train=False) for each in (layer, reference)]

  np.testing.assert_array_equal(*both(params, x))
  with pytest.raises(ValueError, match=message):
    layer.clone(implementation='fast').apply(params, x, train=False)


@pytest.mark.parametrize(
  'layer',
  [
    layers.LSTM(3, activation='relu'),
    layers.GRU(3, activation='hard_sigmoid', bptt_steps=2),
    layers.GRU(3, recurrent_activation='hard_sigmoid'),
    layers.SimpleRNN(3, remat_chunk=2),
    layers.SimpleRNN(3, dtype=jnp.bfloat16),
  ],
)
def test_what_the_kernels_know(layer):
  x = np.random.default_rng(0).standard_normal((2, 5, 4), np.float32)

  @jax.jit
  def both(params, x):
    ways = [layer.clone(implementation=name) for name in ('fast', 'reference')]
    return [each.apply(params, x, train=False) for each in ways]

  y, reference = both(drawn(layer, x), x)
  assert y.dtype == reference.dtype
  tolerance = 1e-6 if y.dtype == jnp.float32 else 1e-2
  np.testing.assert_allclose(y, reference, atol=tolerance, rtol=tolerance)


def test_an_empty_batch_works():
  layer = layers.LSTM(3, return_sequences=True)
  params = drawn(layer, jnp.ones((1, 5, 4)))
  y = layer.apply(params, jnp.ones((0, 5, 4)), train=False)
  assert y.shape == (0, 5, 3)


def test_float64_takes_the_reference():
  with jax.enable_x64(True):
    layer = layers.GRU(3)
    x = np.ones((2, 5, 4))
    params = jax.tree.map(np.float64, drawn(layer, x))
    assert layer.apply(params, x, train=False).dtype == jnp.float64
    with pytest.raises(ValueError, match='was given float64'):
      layer.clone(implementation='fast').apply(params, x, train=False)


def test_unknown_implementation_is_refused():
  with pytest.raises(ValueError, match='implementation must be one of'):
    layers.LSTM(3, implementation='quick')


def test_a_carry_narrower_than_the_weights_is_refused():
  cell = cells.lstm()
  params = cells.LSTMParams(jnp.ones((4, 12)), jnp.ones((3, 12)), None)
  carry = cells.zero_carry(cell, (2, 3), jnp.bfloat16)
  with pytest.raises(ValueError, match='narrower than float32'):
    fast.recur(
      cell, params, fast.Sequence(jnp.ones((2, 5, 4)), carry), implementation='fast'
    )
