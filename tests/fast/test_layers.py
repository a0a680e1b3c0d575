"""`implementation` of the layers, and embeddings that are projected first."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_cases import Case, assert_close, make

from seqjax import cells, fast, layers, models

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


def _spied(monkeypatch):
  """Names of the sources of the runs of the fast path from here on."""
  used = []
  run = fast.recur.__globals__['run']

  def spy(plan, inputs, constants):
    used.append(type(inputs.source).__name__)
    return run(plan, inputs, constants)

  monkeypatch.setitem(fast.recur.__globals__, 'run', spy)
  return used


@pytest.mark.slow
@pytest.mark.parametrize(
  ('keywords', 'vocab_size', 'source'),
  [
    ({}, 7, 'Table'),
    ({'recurrent_dropout': 0.3}, 7, 'Table'),
    ({'dropout': 0.3}, 7, 'LookedUpDense'),  # rows of a batch have different masks
    ({}, 16, 'LookedUpDense'),  # more rows than the fifteen steps
  ],
)
def test_when_a_table_pays(monkeypatch, keywords, vocab_size, source):
  model = models.SequenceClassifier(vocab_size, 4, layers.LSTM(6, **keywords))
  params = model.init(jax.random.key(0), IDS, train=False)
  used = _spied(monkeypatch)
  model.apply(params, IDS, train=True, rngs={'dropout': jax.random.key(1)})
  assert used == [source]


@pytest.mark.parametrize(
  ('cell', 'D', 'source'),
  [
    ('simple_rnn', 5, 'TimeMajorDense'),
    ('simple_rnn', 6, 'Dense'),
    ('lstm', 5, 'Dense'),
  ],
)
def test_narrow_inputs_of_a_simple_rnn_are_transposed_at_once(
  monkeypatch, cell, D, source
):
  cell, params, x, carry, _ = make(Case(cell, D=D, H=5))
  used = _spied(monkeypatch)
  fast.recur(cell, params, x, carry)
  assert used == [source]


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
    (layers.LSTM(3, activation='relu'), 'has to be tanh'),
    (layers.GRU(3, activation='hard_sigmoid'), 'the activation is not tanh'),
    (layers.GRU(3, recurrent_activation='hard_sigmoid'), 'is not sigmoid'),
    (layers.LSTM(3, bptt_steps=2), 'no bptt_steps'),
    (layers.SimpleRNN(3, remat_chunk=2), 'no remat_chunk'),
  ],
)
def test_fast_says_why_it_cannot_and_auto_takes_the_other_path(layer, message):
  x = np.random.default_rng(0).standard_normal((2, 5, 4), np.float32)
  params = layer.init(jax.random.key(0), x, train=False)
  y = layer.apply(params, x, train=False)
  reference = layer.clone(implementation='reference')
  np.testing.assert_array_equal(y, reference.apply(params, x, train=False))
  with pytest.raises(ValueError, match=message):
    layer.clone(implementation='fast').apply(params, x, train=False)


def test_unknown_implementation_is_refused():
  with pytest.raises(ValueError, match='implementation must be one of'):
    layers.LSTM(3, implementation='quick')


def test_a_carry_narrower_than_the_weights_is_refused():
  cell = cells.lstm()
  params = cells.LSTMParams(jnp.ones((4, 12)), jnp.ones((3, 12)), None)
  carry = cells.zero_carry(cell, (2, 3), jnp.bfloat16)
  with pytest.raises(ValueError, match='narrower than float32'):
    fast.recur(cell, params, jnp.ones((2, 5, 4)), carry)
