"""`lengths`, `keep_order` and Masking, against flax.linen, Keras and a masked loop."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import numpy_rnn
import pytest

import seqjax as sj
from seqjax.interop import linen

B, T, D, H = 3, 6, 2, 4
LENGTHS = np.array([4, 6, 0])
REAL = np.arange(T) < LENGTHS[:, None]
RECURRENT = {
  'simple_rnn': sj.SimpleRNN(H, return_sequences=True),
  'gru': sj.GRU(H),
  'layer_norm_lstm': sj.RNN(sj.LayerNormLSTMCell(H), go_backwards=True),
  'both': sj.Bidirectional(sj.LSTM(H, return_sequences=True)),
  'stack': sj.Stack([sj.LSTM(H, return_sequences=True), nn.Dense(3), sj.GRU(2)]),
}


def random_x(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def weights(kind, d=D, h=H, seed=0):
  arrays = numpy_rnn.random_params(np.random.default_rng(seed), kind, d, h)
  return dict(zip(('kernel', 'recurrent_kernel', 'bias'), arrays, strict=True))


def drawn(layer, x, **options):
  """Variables that no compiler has a part in."""
  init = functools.partial(layer.init, **options)
  shapes = jax.eval_shape(init, jax.random.key(0), x)
  rng = np.random.default_rng(1)
  return jax.tree.map(
    lambda s: (0.5 * rng.standard_normal(s.shape)).astype(np.float32), shapes
  )


def closes(got, want, tolerance=1e-5):
  scale = max(1.0, float(np.abs(want).max()))
  np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize('name', RECURRENT)
def test_lengths_are_the_mask_of_their_first_steps(name):
  x, layer = random_x(B, T, D), RECURRENT[name]
  variables = drawn(layer, x, train=False)
  apply = functools.partial(layer.apply, variables, x, train=False)

  @jax.jit
  def run(mask, *lengths):
    return apply(mask=mask), [apply(lengths=given) for given in lengths]

  want, got = run(REAL, LENGTHS, jnp.asarray(LENGTHS, 'int8'))
  for y in got:
    np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize('dtype', ['uint8', 'int8'])
def test_lengths_of_narrow_integers_are_of_sequences_of_any_length(dtype):
  long, lengths = 300, np.array([3, 100], dtype)
  x, layer = random_x(2, long, D), sj.GlobalAveragePooling1D()
  want = [row[:length].mean(0) for row, length in zip(x, (3, 100), strict=True)]
  for given in (lengths, jnp.asarray(lengths)):
    closes(layer.apply({}, x, lengths=given), np.stack(want))


@pytest.mark.parametrize(
  'layer',
  [
    sj.Conv1D(H, 2, padding='same'),
    sj.MaxPooling1D(),
    sj.AveragePooling1D(),
    sj.GlobalMaxPooling1D(),
    sj.GlobalAveragePooling1D(),
    sj.Flatten(),
    sj.Masking(),
    sj.SequenceRegressor(sj.GRU(H), train=False),
    sj.SequenceClassifier(7, D, sj.LSTM(H), train=False),
    sj.SequenceTagger(7, D, sj.GRU(H, return_sequences=True), train=False),
  ],
  ids=lambda layer: type(layer).__name__,
)
def test_layers_without_a_state_and_models_take_lengths_too(layer):
  x = random_x(B, T, D)
  if hasattr(layer, 'vocab_size'):
    x = np.random.default_rng(0).integers(0, 7, (B, T))
  variables = drawn(layer, x)
  run = functools.partial(layer.apply, variables)
  both = jax.jit(lambda x: (run(x, mask=REAL), run(x, lengths=LENGTHS), run(x)))
  want, got, whole = both(x)
  np.testing.assert_array_equal(got, want)
  assert np.abs(want - whole).max() > 1e-3
  with pytest.raises(ValueError, match='takes mask or lengths, not both'):
    layer.apply(variables, x, lengths=LENGTHS, mask=REAL)
  with pytest.raises(TypeError, match=r'no seq_lengths: it is called lengths'):
    layer.apply(variables, x, seq_lengths=LENGTHS)


def test_lengths_of_steps_and_of_what_is_inside_them():
  x = random_x(2, B, T, D)  # documents of sentences of words
  words, mask = np.stack([LENGTHS, LENGTHS[::-1]]), np.stack([REAL, REAL[::-1]])
  _same(sj.TimeDistributed(sj.GRU(H)), x, words, mask)
  ids, lengths = np.array([[1, 2, 0, 3], [4, 0, 0, 0]]), np.array([3, 1])
  stack = sj.Stack([sj.Embedding(5, D), sj.LSTM(H)])
  _same(stack, ids, lengths, np.arange(4) < lengths[:, None])


def _same(layer, x, lengths, mask):
  """The outputs with a mask are those with lengths."""
  apply = functools.partial(layer.apply, drawn(layer, x, train=False), train=False)
  got, want = jax.jit(lambda x: (apply(x, lengths=lengths), apply(x, mask=mask)))(x)
  np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize('reverse', [False, True])
@pytest.mark.parametrize('kind', ['lstm', 'gru'])
def test_lengths_and_order_are_those_of_linen(kind, reverse):
  """Outputs of the real steps, the carry, and gradients of weights and inputs."""
  x, ours = random_x(B, T, D), weights(kind)
  if kind == 'gru':
    ours['bias'][1, : 2 * H] = 0  # two biases that linen's cell does not have
  make, from_ours = (
    (nn.LSTMCell, linen.from_lstm) if kind == 'lstm' else (nn.GRUCell, linen.from_gru)
  )
  peer = nn.RNN(make(H), reverse=reverse, keep_order=True, return_carry=True)
  layer = (sj.LSTM if kind == 'lstm' else sj.GRU)(
    H, return_sequences=True, return_carry=True, go_backwards=reverse, keep_order=True
  )
  weight = random_x(B, T, H, seed=2) * REAL[..., None]

  def ours_loss(params, x):
    carry, y = layer.apply({'params': params}, x, train=False, lengths=LENGTHS)
    return jnp.sum(y * weight) + jnp.sum(carry.h[:2] ** 2), (y, carry.h)

  def linen_loss(params, x):
    carry, y = peer.apply({'params': {'cell': params}}, x, seq_lengths=LENGTHS)
    h = carry[1] if kind == 'lstm' else carry
    return jnp.sum(y * weight) + jnp.sum(h[:2] ** 2), (y, h)

  def run(loss, params):
    grad = jax.grad(loss, argnums=(0, 1), has_aux=True)
    return jax.device_get(jax.jit(grad)(params, x))

  (params_grad, x_grad), (y, h) = run(ours_loss, ours)
  with jax.numpy_rank_promotion('allow'):
    (linen_grad, x_want), (y_want, h_want) = run(linen_loss, from_ours(ours))
  closes(np.where(REAL[..., None], y, 0), np.where(REAL[..., None], y_want, 0))
  closes(h[:2], h_want[:2])  # linen has no row without a real step
  closes(x_grad[:2], x_want[:2])
  gates = 'ifgo' if kind == 'lstm' else 'zrn'
  for name, want in linen_grad.items():
    g = slice(gates.index(name[1]) * H, (gates.index(name[1]) + 1) * H)
    mine = 'kernel' if name[0] == 'i' else 'recurrent_kernel'
    closes(params_grad[mine][:, g], want['kernel'])
    if 'bias' in want:  # of a GRU's two rows the inputs' is the first
      rows = (
        params_grad['bias']
        if kind == 'lstm'
        else params_grad['bias']['ih'.index(name[0])]
      )
      closes(rows[g], want['bias'])


@pytest.mark.parametrize('kind', ['lstm', 'gru_reset_before'])
def test_keep_order_turns_outputs_round_and_leaves_masks_and_resets(kind):
  """Two layers, both from the end, each in the order of time, against the loop."""
  x, rng = random_x(B, T, D), np.random.default_rng(3)
  mask, reset = rng.uniform(size=(B, T)) < 0.7, rng.uniform(size=(B, T)) < 0.3
  cls = sj.LSTM if kind == 'lstm' else functools.partial(sj.GRU, reset_after=False)
  options = {'go_backwards': True, 'keep_order': True, 'return_sequences': True}
  stack = sj.Stack([cls(H, **options), cls(2, **options)])
  params = weights(kind), weights(kind, H, 2, seed=1)
  variables = {'params': {f'layers_{i}': p for i, p in enumerate(params)}}
  run = functools.partial(stack.apply, variables, train=False, mask=mask, reset=reset)
  y = jax.jit(run)(x)
  ends = np.concatenate([reset[:, 1:], np.zeros((B, 1), bool)], axis=1)
  want = x
  for p in params:
    want = numpy_rnn.run(
      kind, tuple(p.values()), want, mask=mask, reset=ends, go_backwards=True
    )[2][:, ::-1]
  closes(y, want)


def test_both_directions_of_layers_that_keep_the_order():
  x = random_x(B, T, D)
  params = {'forward_layer': weights('gru'), 'backward_layer': weights('gru', seed=1)}

  def run(x):
    return [
      sj.Bidirectional(sj.GRU(H, return_sequences=True, keep_order=keep)).apply(
        {'params': params}, x, train=False, mask=REAL
      )
      for keep in (False, True)
    ]

  np.testing.assert_array_equal(*jax.jit(run)(x))


def test_masking_is_that_of_keras():
  """Values, and gradients of weights and inputs, of an LSTM on it."""
  x, ours = random_x(B, T, D), weights('lstm')
  x[0, 2:4] = x[1, 0] = x[2] = -1.5
  x[0, 0, 0] = -1.5  # one input alone is no padding
  masking, lstm = keras.layers.Masking(-1.5), keras.layers.LSTM(H)
  with jax.numpy_rank_promotion('allow'):
    lstm.build(x.shape)

  def keras_loss(params, x):
    y, _ = lstm.stateless_call(
      [params[name] for name in ('kernel', 'recurrent_kernel', 'bias')],
      [v.value for v in lstm.non_trainable_variables],
      masking(x),
      mask=masking.compute_mask(x),
    )
    return jnp.sum(y**2), y

  stack = sj.Stack([sj.Masking(-1.5), sj.LSTM(H)])

  def loss(params, x):
    y = stack.apply({'params': {'layers_1': params}}, x, train=False)
    return jnp.sum(y**2), y

  grad = functools.partial(jax.grad, argnums=(0, 1), has_aux=True)
  with jax.numpy_rank_promotion('allow'):
    want = jax.jit(grad(keras_loss))(ours, x)
  got = jax.jit(grad(loss))(ours, x)
  for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    closes(g, w)
  assert stack.compute_mask(x, None) is None


@pytest.mark.parametrize(
  ('lengths', 'message'),
  [
    (
      np.array([1, 2]),
      r'needs integer lengths of the rows of \(3, 6, 2\), got int64\(2',
    ),
    (np.array([1.0, 2, 3]), r'needs integer lengths .* got float64\(3,\)'),
    ([1, 2, 3], 'needs integer lengths .* got a list'),
    (np.array([1, 7, 2]), r'needs lengths from 0 to 6, got \[1, 7, 2\]'),
    (np.array([1, -1, 2]), 'needs lengths from 0 to 6'),
  ],
)
@pytest.mark.parametrize('name', ['gru', 'both', 'stack'])
def test_lengths_that_do_not_fit_are_named(name, lengths, message):
  x, layer = random_x(B, T, D), RECURRENT[name]
  with pytest.raises(ValueError, match=message):
    layer.init(jax.random.key(0), x, train=False, lengths=lengths)
  with pytest.raises(ValueError, match='takes mask or lengths, not both'):
    layer.init(jax.random.key(0), x, train=False, lengths=LENGTHS, mask=REAL)
