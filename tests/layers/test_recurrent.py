"""The recurrent layers: parameters, masks, state, dtypes, errors, transformations."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpy_rnn
import pytest

import seqjax as sj
from seqjax.layers import initializers

pytestmark = pytest.mark.usefixtures('quick_programs')

B, T, D, H = 2, 5, 3, 4
LAYERS = {
  'simple_rnn': sj.SimpleRNN,
  'lstm': sj.LSTM,
  'gru': sj.GRU,
  'gru_reset_before': functools.partial(sj.GRU, reset_after=False),
}
# What differs little between cells: the LSTM always, the others with the slow tests.
SOME = [pytest.param(k, marks=[pytest.mark.slow] * (k != 'lstm')) for k in LAYERS]
MASK = np.array([[0, 1, 0, 1, 0], [0, 0, 0, 0, 0]], bool)  # row 1 has no real step


def variables_of(kind, use_bias=True, d=D, seed=0):
  """Random variables of a layer, made without compiling an initialiser."""
  rng = np.random.default_rng(seed)
  names = ('kernel', 'recurrent_kernel', 'bias')
  arrays = numpy_rnn.random_params(rng, kind, d, H, use_bias)
  return {
    'params': {
      k: jnp.asarray(a) for k, a in zip(names, arrays, strict=True) if a is not None
    }
  }


def arrays_of(variables):
  return tuple(
    variables['params'].get(k) for k in ('kernel', 'recurrent_kernel', 'bias')
  )


def random_x(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def jitted(layer):
  """`apply`, compiled; what comes back is NumPy's: to cut that compiles nothing."""
  run = jax.jit(functools.partial(layer.apply, train=False))
  return lambda *given, **more: jax.device_get(run(*given, **more))


def closes(got, want, tolerance=2e-5):
  np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance / 10)


@pytest.mark.parametrize(
  'implementation', ['auto', pytest.param('reference', marks=pytest.mark.slow)]
)
@pytest.mark.parametrize('kind', LAYERS)
def test_layer_is_the_numpy_loop(kind, implementation):
  """Scattered mask, a row without a real step, an initial carry; and the whole y."""
  rng = np.random.default_rng(1)
  x, carry = random_x(B, T, D), rng.normal(size=(2, B, H)).astype(np.float32)
  carry = carry[: 2 if kind == 'lstm' else 1]
  variables = variables_of(kind)
  layer = LAYERS[kind](
    H, return_sequences=True, return_carry=True, implementation=implementation
  )
  last, y = jitted(layer)(variables, x, mask=MASK, initial_carry=tuple(carry))
  h, c, ys = numpy_rnn.run(kind, arrays_of(variables), x, mask=MASK, carry=carry)
  closes(y, ys)
  closes(last.h, h)
  np.testing.assert_array_equal(last.h[1], carry[0, 1])  # unchanged, to the bit
  np.testing.assert_array_equal(y[1], np.tile(carry[0, 1], (T, 1)))
  if kind == 'lstm':
    closes(last.c, c)
    np.testing.assert_array_equal(last.c[1], carry[1, 1])


@pytest.mark.parametrize('kind', SOME)
def test_last_output_is_the_last_real_one(kind):
  """Pre- and post-padding alike, also where masked outputs are zero."""
  x, variables = random_x(B, T, D), variables_of(kind)
  alone = jitted(LAYERS[kind](H))(variables, x)
  padding = np.full((B, 2, D), 7, np.float32)
  real = np.ones((B, T), bool)
  no = np.zeros((B, 2), bool)
  apply = jitted(LAYERS[kind](H, zero_output_for_mask=True))
  for padded, mask in [
    (np.concatenate([padding, x], 1), np.concatenate([no, real], 1)),
    (np.concatenate([x, padding], 1), np.concatenate([real, no], 1)),
  ]:
    closes(apply(variables, padded, mask=mask), alone, 1e-6)


@pytest.mark.parametrize('kind', SOME)
def test_padding_never_reaches_the_carry_or_a_gradient(kind):
  """Not even a NaN does."""
  x, variables = random_x(B, T, D), variables_of(kind)
  layer = LAYERS[kind](H, return_carry=True)

  @jax.jit
  @jax.value_and_grad
  def run(variables, x):
    carry, y = layer.apply(variables, x, train=False, mask=MASK)
    return jnp.sum(y**2) + sum(jnp.sum(field) for field in carry)

  want = run(variables, x)
  for poison in (99.0, np.nan, np.inf):
    got = run(variables, np.where(MASK[..., None], x, poison).astype(np.float32))
    jax.tree.map(np.testing.assert_array_equal, got, want)


@pytest.mark.parametrize('kind', SOME)
def test_going_backwards_is_the_reversed_sequence(kind):
  x, variables = random_x(B, T, D), variables_of(kind)
  backwards = LAYERS[kind](H, return_sequences=True, go_backwards=True)
  y = jitted(backwards)(variables, x, mask=MASK)
  flipped = jitted(LAYERS[kind](H, return_sequences=True))(
    variables, x[:, ::-1], mask=MASK[:, ::-1]
  )
  closes(y, flipped, 1e-6)
  np.testing.assert_array_equal(backwards.compute_mask(x, MASK), MASK[:, ::-1])
  assert backwards.clone(return_sequences=False).compute_mask(x, MASK) is None


@pytest.mark.parametrize(
  'kind', ['gru_reset_before', pytest.param('lstm', marks=pytest.mark.slow)]
)
def test_one_step_without_a_batch_and_many_leading_axes(kind):
  variables = variables_of(kind)
  x = random_x(2, 3, 1, D)
  layer = LAYERS[kind](H)
  y = jitted(layer)(variables, x)
  assert y.shape == (2, 3, H)
  rows = numpy_rnn.run(kind, arrays_of(variables), x.reshape(6, 1, D))[0]
  closes(y.reshape(6, H), rows)
  closes(jitted(layer)(variables, x[1, 2]), y[1, 2])
  dropping = LAYERS[kind](H, dropout=0.5, recurrent_dropout=0.5)
  for some in (x, x[1, 2]):
    key = {'dropout': jax.random.key(0)}
    dropped = jax.jit(functools.partial(dropping.apply, train=True))(
      variables, some, rngs=key
    )
    assert dropped.shape == (*some.shape[:-2], H)


@pytest.mark.parametrize('kind', SOME)
def test_state_goes_on_across_calls(kind):
  """Stateful use: the carry of one piece is the start of the next."""
  x, variables = random_x(B, 6, D), variables_of(kind)
  apply = jitted(LAYERS[kind](H, return_sequences=True, return_carry=True))
  _, whole = apply(variables, x)
  carry, first = apply(variables, x[:, :3])
  carry, second = apply(variables, x[:, 3:], initial_carry=carry)
  closes(np.concatenate([first, second], axis=1), whole, 1e-6)


@pytest.mark.parametrize('kind', SOME)
def test_reset_begins_an_episode(kind):
  rng = np.random.default_rng(2)
  x, variables = random_x(B, T, D), variables_of(kind)
  reset, mask = rng.uniform(size=(2, B, T)) < 0.4
  start = rng.normal(size=(2, B, H)).astype(np.float32)[: 2 if kind == 'lstm' else 1]
  layer = LAYERS[kind](H, return_sequences=True)
  for real in (None, mask):
    y = jitted(layer)(variables, x, mask=real, initial_carry=start, reset=reset)
    want = numpy_rnn.run(
      kind, arrays_of(variables), x, mask=real, carry=start, reset=reset
    )[2]
    closes(y, want)


def test_reset_going_backwards_begins_with_an_episodes_last_step():
  x, variables = random_x(1, T, D), variables_of('gru')
  layer = sj.GRU(H, return_sequences=True, go_backwards=True)
  y = jitted(layer)(variables, x, reset=np.array([[1, 0, 1, 0, 0]], bool))
  for start, end in ((0, 2), (2, T)):
    alone = jitted(layer)(variables, x[:, start:end])
    closes(y[:, T - end : T - start], alone, 1e-6)


def test_remat_and_bptt_are_options_of_the_layer():
  x, variables = random_x(B, T, D), variables_of('lstm')

  def grad(**options):
    layer = sj.LSTM(H, **options)
    loss = lambda v: jnp.sum(layer.apply(v, x, train=False) ** 2)  # noqa: E731
    return np.asarray(jax.jit(jax.grad(loss))(variables)['params']['kernel'])

  whole, truncated = grad(remat_chunk=2), grad(bptt_steps=2, remat_chunk=3)
  assert np.abs(truncated - whole).max() > 1e-3
  closes(truncated, grad(bptt_steps=2))
  with pytest.raises(ValueError, match='remat_chunk must be at least 1, got 0'):
    grad(remat_chunk=0)


@pytest.mark.parametrize(
  ('layer', 'input_size', 'count'),
  [
    (sj.SimpleRNN(32), 32, 2_080),
    (sj.LSTM(32), 32, 8_320),
    (sj.GRU(32), 14, 4_608),
    (sj.GRU(64), 32, 18_816),
    (sj.GRU(32, reset_after=False), 14, 4_512),
  ],
)
def test_parameter_counts(layer, input_size, count):
  x = jax.ShapeDtypeStruct((2, 3, input_size), jnp.float32)
  init = functools.partial(layer.init, train=False)
  params = jax.eval_shape(init, jax.random.key(0), x)['params']
  assert set(params) == {'kernel', 'recurrent_kernel', 'bias'}
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def test_published_totals():
  """The stacked models of the book, in parameters."""
  ids = jax.ShapeDtypeStruct((2, 20), jnp.int32)
  floats = jax.ShapeDtypeStruct((2, 240, 14), jnp.float32)

  def total(layers, x):
    model = sj.Stack(layers)
    variables = jax.eval_shape(
      functools.partial(model.init, train=False), jax.random.key(0), x
    )
    return sum(leaf.size for leaf in jax.tree.leaves(variables))

  rnns = [sj.SimpleRNN(32, return_sequences=i < 3) for i in range(4)]
  assert total([sj.Embedding(10_000, 32), *rnns], ids) == 328_320
  dense = [sj.Embedding(10_000, 8), sj.Flatten(), nn.Dense(1)]
  assert total(dense, ids) == 80_161
  assert total([sj.Flatten(), nn.Dense(32), nn.relu, nn.Dense(1)], floats) == 107_585
  grus = [sj.GRU(32, return_sequences=True), sj.GRU(64, activation='relu')]
  assert total([*grus, nn.Dense(1)], floats) == 23_489


def test_initial_weights_are_drawn_for_all_gates_at_once():
  x = jnp.zeros((1, 2, 30))
  params = jax.jit(functools.partial(sj.LSTM(40).init, train=False))(
    jax.random.key(3), x
  )['params']
  recurrent = np.asarray(params['recurrent_kernel'], np.float64)
  np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(40), atol=1e-5)
  kernel, limit = np.asarray(params['kernel']), np.sqrt(6 / (30 + 160))
  assert 0.98 * limit < np.abs(kernel).max() <= limit  # Glorot of [D, 4H], not [D, H]
  assert abs(kernel.std() - limit / np.sqrt(3)) < 0.02 * limit
  want = np.repeat([0, 1, 0, 0], 40)
  np.testing.assert_array_equal(params['bias'], want)


def test_bias_options():
  x = jax.ShapeDtypeStruct((1, 2, 3), jnp.float32)

  def bias(layer):
    init = functools.partial(layer.init, train=False)
    return jax.eval_shape(init, jax.random.key(0), x)['params'].get('bias')

  assert bias(sj.GRU(4)).shape == (2, 12)
  assert bias(sj.GRU(4, reset_after=False)).shape == (12,)
  assert bias(sj.SimpleRNN(4)).shape == (4,)
  assert bias(sj.LSTM(4, use_bias=False)) is None
  draw = sj.LSTM(2, unit_forget_bias=False, bias_init=nn.initializers.constant(3.0))
  np.testing.assert_array_equal(draw.draw_bias(jax.random.key(0), (8,), 'float32'), 3)


@pytest.mark.parametrize('kind', SOME)
def test_bfloat16_with_a_float32_carry(kind):
  x, variables = random_x(B, T, D), variables_of(kind)
  want = numpy_rnn.run(kind, arrays_of(variables), x)[0]
  layer = LAYERS[kind](H, return_carry=True, dtype=jnp.bfloat16)
  carry, y = jitted(layer)(variables, jnp.asarray(x, jnp.bfloat16))
  assert y.dtype == jnp.bfloat16
  assert {field.dtype for field in carry} == {jnp.dtype('float32')}
  assert np.abs(carry.h - want).max() < 0.05
  init = functools.partial(layer.clone(param_dtype=jnp.bfloat16).init, train=False)
  params = jax.eval_shape(init, jax.random.key(0), jnp.asarray(x))
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype('bfloat16')}


def test_float64_throughout():
  """Under x64 a float64 input makes a float64 layer; the values show it."""
  with jax.enable_x64(True):
    x = np.random.default_rng(0).normal(size=(B, T, D))
    variables = variables_of('gru')
    layer = sj.GRU(H, return_carry=True)
    carry, y = jitted(layer)(variables, x)
    assert y.dtype == carry.h.dtype == np.float64
    closes(y, numpy_rnn.run('gru', arrays_of(variables), x)[0], 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize('kind', LAYERS)
def test_second_derivatives(kind):
  """Hessian-vector products against differences of first gradients, in float64."""
  with jax.enable_x64(True):
    x = np.random.default_rng(0).normal(size=(B, T, D))
    variables = jax.tree.map(lambda a: jnp.asarray(a, 'float64'), variables_of(kind))
    rng = np.random.default_rng(1)
    v = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), variables)
    layer = LAYERS[kind](H)

    def loss(p):
      return jnp.sum(layer.apply(p, x, train=False, mask=MASK) ** 2)

    def slope(p):
      return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, jax.grad(loss)(p), v)))

    product = jax.jit(jax.grad(slope))(variables)
    grad = jax.jit(jax.grad(loss))
    above = grad(jax.tree.map(lambda p, d: p + 1e-6 * d, variables, v))
    below = grad(jax.tree.map(lambda p, d: p - 1e-6 * d, variables, v))
    want = jax.tree.map(lambda a, b: (a - b) / 2e-6, above, below)
    jax.tree.map(functools.partial(closes, tolerance=1e-6), product, want)


def test_vmap_over_layers_and_over_the_batch():
  x = random_x(B, T, D)
  layers = [variables_of('gru', seed=seed) for seed in range(3)]
  stacked = jax.tree.map(lambda *a: np.stack(a), *layers)
  apply = functools.partial(sj.GRU(H).apply, train=False)
  ensemble = np.asarray(jax.jit(jax.vmap(apply, in_axes=(0, None)))(stacked, x))
  rows = jax.jit(jax.vmap(lambda row, mask: apply(layers[0], row, mask=mask)))
  for y, variables in zip(ensemble, layers, strict=True):
    closes(y, numpy_rnn.run('gru', arrays_of(variables), x)[0])
  want = numpy_rnn.run('gru', arrays_of(layers[0]), x, mask=MASK)[0]
  closes(rows(x, MASK), want)


@pytest.mark.parametrize(
  ('bad', 'message'),
  [
    ({'x': np.zeros(D, 'f')}, r'LSTM needs float x \[..., T, D\], got float32\(3,\)'),
    ({'x': [[[1.0]]]}, r'LSTM needs float x .* got a list'),
    ({'x': np.zeros((B, 0, D), 'f')}, r'at least one step .* got x \(2, 0, 3\)'),
    ({'x': np.zeros((B, T, 0), 'f')}, r'at least one step .* got x \(2, 5, 0\)'),
    ({'mask': [[True] * T] * B}, r'needs mask bool\(2, 5\).* got a list'),
    ({'x': np.zeros((B, T, D), int)}, r'LSTM needs float x .* got int64\(2, 5, 3\)'),
    (
      {'mask': np.ones((B, T + 1), bool)},
      r'needs mask bool\(2, 5\).* got bool\(2, 6\)',
    ),
    ({'mask': np.ones((B, T))}, r'needs mask bool\(2, 5\).* got float64\(2, 5\)'),
    ({'reset': np.ones((B, 1), bool)}, r'needs reset bool\(2, 5\).*got bool\(2, 1\)'),
    (
      {'initial_carry': (np.zeros((B, H)), np.zeros((H, B)))},
      r'needs initial_carry.c \(2, 4\), got \(4, 2\)',
    ),
    ({'initial_carry': (np.zeros((B, H)),)}, r'initial_carry \(h, c\), got 1 arrays'),
    (
      {'initial_carry': np.zeros((3, H))},
      r'initial_carry \(h, c\), got one array float64\(3, 4\)',
    ),
  ],
)
def test_wrong_arguments_are_named(bad, message):
  arguments = {'x': random_x(B, T, D)} | bad
  with pytest.raises(ValueError, match=message):
    sj.LSTM(H).apply(variables_of('lstm'), train=False, **arguments)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'features': 0}, 'features must be at least 1, got 0'),
    ({'features': 3.0}, 'features must be an integer, got 3.0'),
    ({'bptt_steps': 0}, 'bptt_steps must be at least 1, got 0'),
    ({'remat_chunk': 2.5}, 'remat_chunk must be an integer, got 2.5'),
    ({'activation': 'swish!'}, "activation must be one of .* got 'swish!'"),
    ({'recurrent_activation': 'no'}, "activation must be one of .* got 'no'"),
    ({'implementation': 'fastest'}, "implementation must be .* got 'fastest'"),
  ],
)
def test_wrong_options_are_refused_when_the_layer_is_made(options, message):
  with pytest.raises(ValueError, match=message):
    sj.GRU(**{'features': 3} | options)


def test_train_has_no_default():
  with pytest.raises(TypeError, match='train'):
    sj.LSTM(H).apply(variables_of('lstm'), random_x(B, T, D))


@pytest.mark.parametrize('kind', ['lstm', 'gru', 'gru_reset_before'])
def test_units_remember_for_as_long_as_they_are_drawn_for(kind):
  units, longest, is_lstm = 400, 50, kind == 'lstm'
  bias_init = initializers.chrono(longest, 4 if is_lstm else 3)
  more = {'unit_forget_bias': False} if is_lstm else {}
  none = dict.fromkeys(('kernel_init', 'recurrent_kernel_init'), initializers.zeros)
  made = LAYERS[kind](units, return_carry=True, bias_init=bias_init, **none, **more)
  x = jnp.ones((1, 1, 2))
  params = made.init(jax.random.key(0), x, train=False)
  zero, _ = made.apply(params, x, train=False)
  carry = jax.tree.map(jnp.ones_like, zero)
  after, _ = made.apply(params, x, train=False, initial_carry=carry)
  # Without inputs a unit keeps the share n / (1 + n), n drawn from 1 to longest - 1.
  kept = np.float64(after.c if is_lstm else after.h)[0]
  n = kept / (1 - kept)
  assert 1 <= n.min() < 2
  assert longest - 3 < n.max() <= longest - 1 + 1e-3
  assert np.median(n) == pytest.approx(longest / 2, rel=0.15)
  if is_lstm:  # and takes in the rest, of a candidate that is tanh(0) here
    bias = params['params']['bias']
    np.testing.assert_allclose(bias[:units], -bias[units : 2 * units])
  for numbers in ((1, 4), (50, 2)):
    with pytest.raises(ValueError, match='3 or 4 gates and at least 2 steps'):
      initializers.chrono(*numbers)
