"""Statistics of the dropout masks, and where the layers use them."""

import functools
import itertools

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpy_rnn
import pytest

import seqjax as sj
from seqjax import dropout

LAYERS = {
  'simple_rnn': sj.SimpleRNN,
  'lstm': sj.LSTM,
  'gru': sj.GRU,
  'gru_reset_before': lambda *args, **kwargs: sj.GRU(
    *args, reset_after=False, **kwargs
  ),
}


def variables_of(kind, d, h):
  """Random variables of a layer, made without compiling an initialiser."""
  arrays = numpy_rnn.random_params(np.random.default_rng(0), kind, d, h)
  names = ('kernel', 'recurrent_kernel', 'bias')
  return {'params': dict(zip(names, arrays, strict=True))}


def test_values_are_zero_or_scaled_and_the_mean_is_one():
  for rate in (0.1, 0.5, 0.9):
    mask = np.asarray(dropout.sequence_mask(jax.random.key(0), rate, (300, 400)))
    assert mask.dtype == np.float32
    np.testing.assert_allclose(np.unique(mask), [0, 1 / (1 - rate)], rtol=1e-6)
    # Standard error of the mean of 120,000 values: sqrt(rate / (1 - rate) / N).
    error = np.sqrt(rate / (1 - rate) / mask.size)
    assert abs(mask.mean() - 1) < 5 * error
    assert abs((mask == 0).mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / mask.size)


@pytest.mark.parametrize('rate', [-0.1, 1.0, 1.5, float('nan')])
def test_a_rate_outside_0_1_is_refused(rate):
  with pytest.raises(ValueError, match=r'rate must be in \[0, 1\), got'):
    dropout.sequence_mask(jax.random.key(0), rate, (2, 3))
  for make in LAYERS.values():
    with pytest.raises(ValueError, match=r'^dropout must be in \[0, 1\)'):
      make(3, dropout=rate)
    with pytest.raises(ValueError, match=r'^recurrent_dropout must be in \[0, 1\)'):
      make(3, recurrent_dropout=rate)


@pytest.mark.parametrize(
  ('rates', 'num_gates', 'x_shape', 'h_shape'),
  [
    ((0.4, 0.0), 4, (2, 3), None),  # one shared input mask
    ((0.4, 0.3), 4, (4, 2, 3), (4, 2, 5)),  # a mask for each gate
    ((0.0, 0.3), 3, None, (3, 2, 5)),
    ((0.4, 0.3), 1, (2, 3), (2, 5)),  # SimpleRNN has no gates
    ((0.0, 0.0), 4, None, None),
  ],
)
def test_shapes_are_those_of_keras(rates, num_gates, x_shape, h_shape):
  x_mask, h_mask = dropout.recurrent_masks(
    jax.random.key(0),
    dropout=rates[0],
    recurrent_dropout=rates[1],
    batch_shape=(2,),
    input_size=3,
    features=5,
    num_gates=num_gates,
  )
  assert (x_mask.shape if x_mask is not None else None) == x_shape
  assert (h_mask.shape if h_mask is not None else None) == h_shape


def test_masks_differ_between_gates_sequences_and_kinds():
  """Independent fair coins agree in half of 2,000 places, give or take 5 sigma."""
  x_mask, h_mask = dropout.recurrent_masks(
    jax.random.key(1),
    dropout=0.5,
    recurrent_dropout=0.5,
    batch_shape=(4,),
    input_size=2000,
    features=2000,
    num_gates=3,
  )
  rows = np.concatenate([x_mask.reshape(12, -1), h_mask.reshape(12, -1)]) > 0
  for a, b in itertools.combinations(rows, 2):
    assert abs((a == b).mean() - 0.5) < 5 * 0.5 / np.sqrt(2000)


@pytest.mark.parametrize(
  ('kind', 'rates'),
  [
    ('simple_rnn', (0.4, 0.4)),
    ('lstm', (0.4, 0.0)),
    ('lstm', (0.4, 0.4)),
    ('gru', (0.4, 0.0)),
    ('gru', (0.0, 0.4)),
    ('gru_reset_before', (0.4, 0.4)),
  ],
)
def test_the_same_mask_at_every_step(kind, rates, monkeypatch):
  """The NumPy loop, which uses the drawn masks at every step, gives the same values."""
  drawn, draw = [], dropout.recurrent_masks

  def record(key, **sizes):
    drawn.append((key, sizes))
    return draw(key, **sizes)

  monkeypatch.setattr(dropout, 'recurrent_masks', record)
  layer = LAYERS[kind](
    5, dropout=rates[0], recurrent_dropout=rates[1], return_sequences=True
  )
  x = np.random.default_rng(1).normal(size=(2, 6, 3)).astype(np.float32)
  real = np.array([[1, 0, 1, 1, 1, 0], [0, 1, 1, 1, 1, 1]], bool)
  variables = variables_of(kind, 3, 5)
  apply = functools.partial(layer.apply, train=True)

  def run(variables, key):
    y = apply(variables, x, mask=real, rngs={'dropout': key})
    mask_key, sizes = drawn[-1]
    return y, draw(mask_key, **sizes)

  y, (x_mask, h_mask) = jax.jit(run)(variables, jax.random.key(2))
  n = numpy_rnn.NUM_GATES[kind]
  x_mask, h_mask = (
    m if m is None or m.ndim == 3 else np.stack([m] * n) for m in (x_mask, h_mask)
  )
  *_, want = numpy_rnn.run(
    kind, variables['params'].values(), x, mask=real, x_mask=x_mask, h_mask=h_mask
  )
  np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-6)


def test_masks_are_fresh_for_each_call_and_key(monkeypatch):
  """Two calls of a layer, two layers of a model, two keys: all draw differently."""
  drawn, draw = [], dropout.recurrent_masks

  def record(key, **sizes):
    drawn.append((key, sizes))
    return draw(key, **sizes)

  monkeypatch.setattr(dropout, 'recurrent_masks', record)

  class Model(nn.Module):
    @nn.compact
    def __call__(self, x):
      layer = sj.LSTM(4, dropout=0.5, recurrent_dropout=0.5)
      other = sj.LSTM(4, dropout=0.5, recurrent_dropout=0.5)
      return layer(x, train=True), layer(x, train=True), other(x, train=True)

  params = variables_of('lstm', 7, 4)['params']

  @jax.jit
  def masks(key):
    drawn.clear()
    variables = {'params': {'LSTM_0': params, 'LSTM_1': params}}
    Model().apply(variables, jnp.ones((3, 2, 7)), rngs={'dropout': key})
    pairs = [draw(key, **sizes) for key, sizes in drawn]
    return [jnp.concatenate([jnp.ravel(m) for m in pair]) for pair in pairs]

  first, second = masks(jax.random.key(1)), masks(jax.random.key(2))
  for a, b in itertools.combinations([*first, *second], 2):
    assert 0.3 < np.mean(a != b) < 0.7  # independent coins differ in half of 240 places
  jax.tree.map(np.testing.assert_array_equal, masks(jax.random.key(1)), first)


@pytest.mark.parametrize('kind', LAYERS)
def test_nothing_is_dropped_and_no_key_used_without_training(kind):
  """And rate 0 is bit-equal to no dropout, training or not, and needs no key either."""
  x = np.random.default_rng(1).normal(size=(2, 3, 4)).astype(np.float32)
  variables = variables_of(kind, 4, 5)

  def run(train, **rates):
    layer = LAYERS[kind](5, **rates)
    return layer.apply(variables, x, train=train)  # no rngs: asking for one would fail

  @jax.jit
  def all_of_them():
    dropping = {'dropout': 0.9, 'recurrent_dropout': 0.9}
    zero = {'dropout': 0.0, 'recurrent_dropout': 0.0}
    return [run(False), run(False, **dropping), run(False, **zero), run(True, **zero)]

  plain, *others = all_of_them()
  for y in others:
    np.testing.assert_array_equal(y, plain)
  with pytest.raises(
    flax.errors.InvalidRngError, match=r"needs apply\(\.\.\., rngs=\{'dropout': key\}\)"
  ):
    run(True, dropout=0.5)
