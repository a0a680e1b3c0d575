"""MinGRU, the LSTM with peepholes, ConvLSTM: their equations, and their peers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj

B, T, D, H = 3, 6, 4, 5


def drawn(layer, x, seed=1):
  """Parameters, biases too, that differ in all places."""
  init = functools.partial(layer.init, train=False)
  shapes = jax.eval_shape(init, jax.random.key(0), x)
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda s: (0.4 * rng.standard_normal(s.shape)).astype(np.float32), shapes
  )


@pytest.fixture
def x():
  return np.random.default_rng(0).standard_normal((B, T, D)).astype(np.float32)


MASK = np.array([[1, 1, 0, 1, 1, 1], [0, 0, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0]], bool)
RESET = np.array([[0, 0, 1, 0, 1, 0], [0, 0, 0, 1, 0, 0], [1, 0, 0, 0, 0, 1]], bool)


def sigmoid(a):
  return 1 / (1 + np.exp(-a))


def steps(t_order, h, mask, reset, step):
  """A loop in float64 over steps, masked steps carrying the state: outputs in order."""
  ys = []
  for t in t_order:
    h = jax.tree.map(lambda a: np.where(reset[:, t, None], 0.0, a), h)  # noqa: B023
    new = step(t, h)
    h = jax.tree.map(lambda n, o: np.where(mask[:, t, None], n, o), new, h)  # noqa: B023
    ys.append(h[0])
  return np.stack(ys, 1), h


@pytest.mark.parametrize('backwards', [False, True])
@pytest.mark.parametrize('given', [False, True])
def test_min_gru_is_the_sequential_equation(x, backwards, given):
  options = {'return_sequences': True, 'return_carry': True, 'go_backwards': backwards}
  layer = sj.MinGRU(H, **options)
  params = drawn(layer, x)
  kernel, bias = (np.float64(params['params'][name]) for name in ('kernel', 'bias'))
  keywords, mask, reset = {}, np.ones_like(MASK), np.zeros_like(RESET)
  h = np.zeros((B, H))
  if given:
    h = np.random.default_rng(3).standard_normal((B, H))
    carry = sj.cells.GRUCarry(jnp.float32(h))
    keywords, mask, reset = (
      {'mask': MASK, 'reset': RESET, 'initial_carry': carry},
      MASK,
      RESET,
    )
  state_reset = reset
  if backwards:  # before an episode's last step
    state_reset = np.concatenate([reset[:, 1:], np.zeros((B, 1), bool)], 1)

  def step(t, h):
    z, n = np.split(x[:, t] @ kernel + bias, 2, -1)
    return [(1 - sigmoid(z)) * h[0] + sigmoid(z) * n]

  order = range(T)[::-1] if backwards else range(T)
  expected, last = steps(order, [h], mask, state_reset, step)
  carry, ys = jax.jit(functools.partial(layer.apply, train=False))(
    params, x, **keywords
  )
  np.testing.assert_allclose(ys, expected, atol=1e-5)
  np.testing.assert_allclose(carry.h, last[0], atol=1e-5)


def test_min_gru_is_one_associative_scan(x):
  layer = sj.MinGRU(H)
  text = jax.jit(functools.partial(layer.apply, train=False)).lower(drawn(layer, x), x)
  assert 'while' not in text.as_text()
  both = sj.Bidirectional(sj.MinGRU(H, return_sequences=True))
  assert both.apply(drawn(both, x), x, train=False).shape == (B, T, 2 * H)
  with pytest.raises(ValueError, match='MinGRU has no bptt_steps'):
    sj.MinGRU(H, bptt_steps=2)


def test_peepholes_are_the_equations(x):
  layer = sj.RNN(sj.PeepholeLSTMCell(H), return_sequences=True, return_carry=True)
  params = drawn(layer, x)
  kernel, recurrent, bias, peephole = (
    np.float64(params['params']['cell'][name])
    for name in ('kernel', 'recurrent_kernel', 'bias', 'peephole')
  )

  def step(t, state):
    h, c = state
    i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent + bias, 4, -1)
    i, f = sigmoid(i + peephole[0] * c), sigmoid(f + peephole[1] * c)
    c = f * c + i * np.tanh(g)
    return [sigmoid(o + peephole[2] * c) * np.tanh(c), c]

  zeros = np.zeros((B, H))
  expected, last = steps(range(T), [zeros, zeros], MASK, RESET, step)
  run = jax.jit(functools.partial(layer.apply, train=False))
  carry, ys = run(params, x, mask=MASK, reset=RESET)
  np.testing.assert_allclose(ys, expected, atol=1e-5)
  for mine, his in zip(carry, last, strict=True):
    np.testing.assert_allclose(mine, his, atol=1e-5)


def test_without_peepholes_it_is_an_lstm(x):
  layer = sj.RNN(sj.PeepholeLSTMCell(H, recurrent_activation='hard_sigmoid'))
  params = layer.init(jax.random.key(0), x, train=False)
  own = {k: v for k, v in params['params']['cell'].items() if k != 'peephole'}
  lstm = sj.LSTM(H, recurrent_activation='hard_sigmoid')
  expected = lstm.apply({'params': own}, x, train=False)
  np.testing.assert_allclose(layer.apply(params, x, train=False), expected, atol=1e-6)


@pytest.mark.parametrize(
  ('maps', 'options'),
  [
    ((7,), {'kernel_size': (3,), 'return_sequences': True}),
    ((6, 5), {'kernel_size': (3, 2), 'padding': 'same', 'strides': 2}),
    ((6, 5), {'kernel_size': (2, 2), 'go_backwards': True, 'return_sequences': True}),
  ],
)
def test_conv_lstm_is_that_of_keras(maps, options):
  keras = pytest.importorskip('keras')
  F = 3
  x = np.random.default_rng(0).standard_normal((B, T, *maps, 2)).astype(np.float32)
  layer = sj.ConvLSTM(F, **options)
  params = drawn(layer, x)
  kind = getattr(keras.layers, f'ConvLSTM{len(maps)}D')
  with jax.numpy_rank_promotion('allow'):
    theirs = kind(F, **{**options, 'kernel_size': options['kernel_size']})
    theirs.build(x.shape)
    theirs.set_weights(
      [params['params'][n] for n in ('kernel', 'recurrent_kernel', 'bias')]
    )
    variables, fixed = (
      [v.value for v in some]
      for some in (theirs.trainable_variables, theirs.non_trainable_variables)
    )

    def expected(variables, x):
      return theirs.stateless_call(variables, fixed, x)[0]

    def loss(run):
      return lambda *args: jnp.sum(jnp.sin(run(*args)))

    wanted = jax.jit(expected)(variables, x)
    dvariables, dx = jax.jit(jax.grad(loss(expected), (0, 1)))(variables, x)
  run = functools.partial(layer.apply, train=False)
  dparams, dours = jax.jit(jax.grad(loss(run), (0, 1)))(params, x)
  np.testing.assert_allclose(jax.jit(run)(params, x), wanted, atol=1e-5)
  np.testing.assert_allclose(dours, dx, atol=1e-5)
  for name, gradient in zip(
    ('kernel', 'recurrent_kernel', 'bias'), dvariables, strict=True
  ):
    np.testing.assert_allclose(dparams['params'][name], gradient, atol=2e-5)


def test_masked_maps_carry_the_state_through():
  """Keras itself has no mask for maps on JAX: its shapes do not broadcast."""
  x = np.random.default_rng(0).standard_normal((B, T, 7, 2)).astype(np.float32)
  layer = sj.ConvLSTM(3, (3,), return_sequences=True, return_carry=True)
  params = drawn(layer, x)
  run = jax.jit(functools.partial(layer.apply, train=False))
  x[~MASK] = np.nan
  carry, ys = run(params, x, mask=MASK)
  for row, mask in enumerate(MASK):
    if mask.any():
      one, alone = run(params, x[row : row + 1, mask])
      np.testing.assert_allclose(ys[row, mask], alone[0], atol=1e-6)
      np.testing.assert_allclose(carry.c[row], one.c[0], atol=1e-6)
  np.testing.assert_array_equal(carry.h[2], np.zeros((5, 3)))


def test_conv_lstm_goes_on_and_names_what_does_not_fit():
  x = jax.random.normal(jax.random.key(0), (B, T, 7, 2))
  layer = sj.ConvLSTM(3, (3,), padding='same', return_carry=True)
  params = drawn(layer, x)
  run = functools.partial(layer.apply, params, train=False)
  whole, _ = run(x)
  first, _ = run(x[:, :4])
  again, _ = run(x[:, 4:], initial_carry=first)
  jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), again, whole)
  with pytest.raises(ValueError, match=r'needs float x \[B, T, W, C\], got float32'):
    run(x[..., None])
  with pytest.raises(ValueError, match=r'initial_carry.h \(3, 7, 3\), got \(3, 1\)'):
    run(x, initial_carry=sj.cells.LSTMCarry(jnp.zeros((3, 1)), jnp.zeros((3, 1))))
  with pytest.raises(ValueError, match='one number or two, got'):
    sj.ConvLSTM(3, (3, 3, 3))


@pytest.mark.parametrize('dtype', ['bfloat16', 'float32', 'float64'])
@pytest.mark.parametrize(
  'layer',
  [sj.ConvLSTM(2, (2,)), sj.RNN(sj.PeepholeLSTMCell(2)), sj.MinGRU(2)],
  ids=['ConvLSTM', 'PeepholeLSTMCell', 'MinGRU'],
)
def test_parameters_are_float32_whatever_x_is(layer, dtype):
  axes = (2, 3, 4, 1) if isinstance(layer, sj.ConvLSTM) else (2, 3, 4)
  with jax.enable_x64(True):
    x = jnp.asarray(np.random.default_rng(0).standard_normal(axes), dtype)
    y, variables = layer.init_with_output(jax.random.key(0), x, train=False)
    assert {a.dtype for a in jax.tree.leaves(variables)} == {np.dtype('float32')}
    assert y.dtype == max(dtype, 'float32')
    exact = layer.apply(variables, x.astype('float64'), train=False)
  assert np.abs(np.float64(y) - np.float64(exact)).max() < 1e-5
