"""The recipes of docs/features.md, as they stand there, against peers and loops."""

import functools
import pathlib
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import numpy_rnn
import optax
import pytest

import seqjax as sj
from seqjax.interop import linen

B, T, D, C, H = 2, 4, 3, 2, 5
_PAGE = pathlib.Path(__file__).parent.parent / 'docs' / 'features.md'


@functools.cache
def recipes():
  """All names that the page's code makes."""
  names = {}
  for code in re.findall(r'```python\n(.*?)```', _PAGE.read_text(), re.S):
    exec(compile(code, _PAGE.name, 'exec'), names)
  return names


def random_x(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def weights(kind, d=D, h=H, seed=0):
  arrays = numpy_rnn.random_params(np.random.default_rng(seed), kind, d, h)
  return dict(zip(('kernel', 'recurrent_kernel', 'bias'), arrays, strict=True))


def closes(got, want):
  got, want = jax.tree.leaves(got), jax.tree.leaves(want)
  for g, w in zip(got, want, strict=True):
    scale = max(1, np.abs(w).max())
    np.testing.assert_allclose(g, w, rtol=0, atol=1e-5 * scale)


def same_gradients(loss, numpy_loss, arrays):
  """Value and gradients of both, the latter by differences in float64."""
  value, grads = jax.jit(jax.value_and_grad(loss, argnums=range(len(arrays))))(*arrays)
  closes(value, numpy_loss(*map(np.float64, arrays)))
  closes(grads, numpy_rnn.numeric_gradient(numpy_loss, arrays))


def test_time_major_is_that_of_flax():
  x, ours = random_x(T, B, D), weights('lstm')
  weight = random_x(T, B, H, seed=1)
  peer = nn.RNN(nn.LSTMCell(H), time_major=True)

  def theirs(params, x):
    return jnp.sum(peer.apply({'params': {'cell': params}}, x) * weight)

  def loss(params, x):
    layer = sj.LSTM(H, return_sequences=True)
    y = layer.apply({'params': params}, jnp.swapaxes(x, 0, 1), train=False)
    return jnp.sum(jnp.swapaxes(y, 0, 1) * weight)

  both = functools.partial(jax.value_and_grad, argnums=(0, 1))
  value, (params_grad, x_grad) = jax.jit(both(loss))(ours, x)
  with jax.numpy_rank_promotion('allow'):
    want, (want_params, want_x) = jax.jit(both(theirs))(linen.from_lstm(ours), x)
  closes((value, x_grad), (want, want_x))
  for g, gate in enumerate('ifgo'):
    part = slice(g * H, (g + 1) * H)
    closes(params_grad['kernel'][:, part], want_params[f'i{gate}']['kernel'])
    closes(params_grad['recurrent_kernel'][:, part], want_params[f'h{gate}']['kernel'])
    closes(params_grad['bias'][part], want_params[f'h{gate}']['bias'])
  with pytest.raises(TypeError, match=r'no time_major: .* jnp\.swapaxes'):
    sj.LSTM(H, time_major=True)


def test_unrolled_layers_of_keras_are_ours():
  x, params = random_x(B, T, D), weights('gru')
  peer = keras.layers.GRU(H, unroll=True)
  arrays = [params[name] for name in ('kernel', 'recurrent_kernel', 'bias')]

  def theirs(arrays, x):
    rest = [v.value for v in peer.non_trainable_variables]
    return jnp.sum(peer.stateless_call(arrays, rest, x)[0] ** 2)

  def ours(arrays, x):
    names = ('kernel', 'recurrent_kernel', 'bias')
    p = dict(zip(names, arrays, strict=True))
    return jnp.sum(sj.GRU(H).apply({'params': p}, x, train=False) ** 2)

  both = functools.partial(jax.value_and_grad, argnums=(0, 1))
  with jax.numpy_rank_promotion('allow'):
    peer.build(x.shape)
    want = jax.jit(both(theirs))(arrays, x)
  closes(jax.jit(both(ours))(arrays, x), want)
  with pytest.raises(TypeError, match='no unroll: there is nothing to unroll'):
    sj.GRU(H, unroll=True)


def test_the_whole_carry_of_every_step_is_that_of_the_loop():
  """h and c after each step, masked and from the end, and what flows back from both."""
  mask = np.array([[1, 0, 1, 1], [1, 1, 1, 0]], bool)
  layer = recipes()['states'].clone(
    cell=recipes()['WholeCarry'](sj.LSTM(H)), go_backwards=True
  )
  factors = random_x(2, B, T, H, seed=3)

  def numpy_loss(W, U, b, x):
    total, carry, params = 0.0, (np.zeros((B, H)),) * 2, (W, U, b)
    for out, t in enumerate(reversed(range(T))):
      step = slice(t, t + 1)
      h, c, _ = numpy_rnn.run(
        'lstm', params, x[:, step], mask=mask[:, step], carry=carry
      )
      carry = h, c
      total += (h * factors[0][:, out]).sum() + (c * factors[1][:, out]).sum()
    return total

  def loss(W, U, b, x):
    cell = {'kernel': W, 'recurrent_kernel': U, 'bias': b}
    y = layer.apply({'params': {'cell': cell}}, x, train=False, mask=mask)
    return jnp.sum(y.h * factors[0]) + jnp.sum(y.c * factors[1])

  same_gradients(loss, numpy_loss, [*weights('lstm').values(), random_x(B, T, D)])


def test_the_whole_carry_of_another_cell_is_where_its_prefixes_end():
  x = random_x(B, T, D)
  whole = sj.RNN(recipes()['WholeNormalized'](H), return_sequences=True)
  plain = sj.RNN(sj.LayerNormLSTMCell(H), return_carry=True)
  variables = jax.jit(functools.partial(plain.init, train=False))(jax.random.key(0), x)
  # All prefixes at once: of each copy of x other steps are real.
  mask = np.repeat(np.arange(T) <= np.arange(T)[:, None], B, 0)

  @jax.jit
  def run(variables, x, copies):
    y = whole.apply(variables, x, train=False)
    return y, plain.apply(variables, copies, train=False, mask=mask)[0]

  y, carry = jax.device_get(run(variables, x, np.concatenate([x] * T)))
  for all_steps, ends in zip((y.h, y.c), (carry.h, carry.c), strict=True):
    closes(np.moveaxis(all_steps, 1, 0), ends.reshape(T, B, H))


def test_the_whole_carry_is_that_of_haiku():
  hk = pytest.importorskip('haiku')
  x, p = random_x(B, T, D), weights('lstm')
  a, b, c, d = np.split(
    np.concatenate([p['kernel'], p['recurrent_kernel']]), 4, axis=-1
  )
  shift = np.repeat(np.float32([0, 1, 0, 0]), H)  # haiku adds 1 to f
  i, f, g, o = np.split(p['bias'] - shift, 4)
  theirs = {'w': np.concatenate([a, c, b, d], -1), 'b': np.concatenate([i, g, f, o])}

  def run(x):
    core = hk.LSTM(H)
    return hk.dynamic_unroll(
      core, x, core.initial_state(B), time_major=False, return_all_states=True
    )[1]

  apply = hk.without_apply_rng(hk.transform(run)).apply
  with jax.numpy_rank_promotion('allow'):
    want = apply({'lstm/linear': theirs}, x)
  layer = sj.RNN(recipes()['WholeCarry'](sj.LSTM(H)), return_sequences=True)
  got = layer.apply({'params': {'cell': p}}, x, train=False)
  closes((got.h, got.c), (want.hidden, want.cell))


def test_one_vector_at_every_step_is_the_loop():
  conditioned, kernel = recipes()['conditioned'], weights('gru', D + C)

  def numpy_loss(W, U, b, x, c):
    x = np.concatenate([x, np.repeat(c[:, None], T, axis=1)], axis=-1)
    return (numpy_rnn.run('gru', (W, U, b), x)[0] ** 2).sum()

  def loss(W, U, b, x, c):
    params = {'kernel': W, 'recurrent_kernel': U, 'bias': b}
    y = sj.GRU(H).apply({'params': params}, conditioned(x, c), train=False)
    return jnp.sum(y**2)

  same_gradients(
    loss, numpy_loss, [*kernel.values(), random_x(B, T, D), random_x(B, C)]
  )
  with pytest.raises(TypeError, match='GRU has no constants: an RNN takes them'):
    sj.GRU(H).apply({'params': kernel}, random_x(B, T, D), False, constants=0)


def test_skip_connections_are_the_loop():
  """haiku's rule: layers above the first see x first, then the layer below."""
  params = weights('lstm'), weights('simple_rnn', D + H, 2, seed=1)
  mask = np.array([[1, 0, 1, 1], [1, 1, 1, 0]], bool)
  options = {'return_sequences': True}
  layers = sj.LSTM(H, **options), sj.SimpleRNN(2, **options)
  model = recipes()['SkipStack'](layers)
  factor = random_x(B, T, H + 2, seed=2)

  def numpy_loss(*arrays):
    *p, x = arrays
    first = numpy_rnn.run('lstm', tuple(p[:3]), x, mask=mask)[2]
    both = np.concatenate([x, first], axis=-1)
    second = numpy_rnn.run('simple_rnn', tuple(p[3:]), both, mask=mask)[2]
    return (np.concatenate([first, second], axis=-1) * factor).sum()

  def loss(*arrays):
    *p, x = arrays
    names = ('kernel', 'recurrent_kernel', 'bias')
    both = (dict(zip(names, part, strict=True)) for part in (p[:3], p[3:]))
    params = {f'layers_{i}': part for i, part in enumerate(both)}
    y = model.apply({'params': params}, x, train=False, mask=mask)
    return jnp.sum(y * factor)

  arrays = [a for part in params for a in part.values()]
  same_gradients(loss, numpy_loss, [*arrays, random_x(B, T, D)])


def test_skip_connections_are_those_of_haiku():
  hk = pytest.importorskip('haiku')
  x, p = random_x(B, T, D), [weights('simple_rnn'), weights('simple_rnn', D + H, H, 1)]
  theirs = {}
  for i, part in enumerate(p):
    name = 'vanilla_rnn' + (f'_{i}' if i else '')
    theirs[f'{name}/linear'] = {'w': part['kernel'], 'b': part['bias']}
    zeros = np.zeros(H, np.float32)
    theirs[f'{name}/linear_1'] = {'w': part['recurrent_kernel'], 'b': zeros}

  def run(x):
    core = hk.deep_rnn_with_skip_connections([hk.VanillaRNN(H), hk.VanillaRNN(H)])
    return hk.dynamic_unroll(core, x, core.initial_state(B), time_major=False)[0]

  apply = hk.without_apply_rng(hk.transform(run)).apply
  with jax.numpy_rank_promotion('allow'):
    want = apply(theirs, x)
  relu = functools.partial(sj.SimpleRNN, H, activation='relu', return_sequences=True)
  model = recipes()['SkipStack']((relu(), relu()))
  params = {'layers_0': p[0], 'layers_1': p[1]}
  closes(model.apply({'params': params}, x, train=False), want)


def keras_steps(peer, optimizer, params, x, steps):
  """Parameters after some steps on the mean square and the losses of the layer."""
  with jax.numpy_rank_promotion('allow'):
    # A layer alone would call itself without its penalty on activities.
    model = keras.Sequential([keras.Input(x.shape[1:]), peer])
    optimizer.build(model.trainable_variables)
    variables = [params[name] for name in ('kernel', 'recurrent_kernel', 'bias')]
    state = [v.value for v in optimizer.variables]
    rest = [v.value for v in model.non_trainable_variables]

    @jax.jit
    def step(variables, state):
      def loss(variables):
        y, _, losses = model.stateless_call(variables, rest, x, return_losses=True)
        return jnp.mean(y**2) + sum(losses)

      return optimizer.stateless_apply(state, jax.grad(loss)(variables), variables)

    for _ in range(steps):
      variables, state = step(variables, state)
  return variables


def our_steps(model, tx, params, x, steps):
  loss = recipes()['penalized'](model, lambda y, targets: y**2)

  @jax.jit
  def step(params, state):
    grads = jax.grad(loss)(params, x, None, None)
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  state = tx.init(params)
  for _ in range(steps):
    params, state = step(params, state)
  return [params['layers_0'][name] for name in ('kernel', 'recurrent_kernel', 'bias')]


@pytest.mark.parametrize('kind', ['l2', pytest.param('l1', marks=pytest.mark.slow)])
def test_regularizers_are_those_of_keras(kind):
  x, params = random_x(B, T, D), weights('simple_rnn')
  regularizer = keras.regularizers.L2 if kind == 'l2' else keras.regularizers.L1
  peer = keras.layers.SimpleRNN(H, kernel_regularizer=regularizer(0.3))
  want = keras_steps(peer, keras.optimizers.RMSprop(0.01), params, x, 3)
  tx = optax.chain(recipes()[kind](0.3), sj.optim.rmsprop(0.01))
  start = {'layers_0': params}
  closes(our_steps(sj.Stack([sj.SimpleRNN(H)]), tx, start, x, 3), want)
  free = our_steps(sj.Stack([sj.SimpleRNN(H)]), sj.optim.rmsprop(0.01), start, x, 3)
  assert np.abs(free[0] - want[0]).max() > 1e-3


def test_constraints_are_those_of_keras():
  x, params = random_x(B, T, D), weights('lstm')
  params['kernel'] *= 2
  peer = keras.layers.LSTM(H, kernel_constraint=keras.constraints.MaxNorm(1.5))
  want = keras_steps(peer, keras.optimizers.SGD(0.1), params, x, 3)
  project = functools.partial(recipes()['max_norm'], most=1.5)
  tx = optax.chain(sj.optim.sgd(0.1), recipes()['constraint'](project))
  closes(our_steps(sj.Stack([sj.LSTM(H)]), tx, {'layers_0': params}, x, 3), want)
  assert np.linalg.norm(want[0], axis=0).max() < 1.50001
  assert np.linalg.norm(params['kernel'], axis=0).max() > 1.6


def test_penalties_on_activities_are_those_of_keras():
  x, params = random_x(B, T, D), weights('gru')
  peer = keras.layers.GRU(
    H, return_sequences=True, activity_regularizer=keras.regularizers.L2(0.5)
  )
  want = keras_steps(peer, keras.optimizers.SGD(0.1), params, x, 3)
  penalty = recipes()['ActivityPenalty'](0.5)
  model = sj.Stack([sj.GRU(H, return_sequences=True), penalty])
  closes(our_steps(model, sj.optim.sgd(0.1), {'layers_0': params}, x, 3), want)
  with pytest.raises(ValueError, match='the model has losses beside params'):
    sj.fit(model, (x, random_x(B, T, H)), loss='mse', num_epochs=1, quiet=True)
  with pytest.raises(TypeError, match=r'no activity_regularizer: docs/features\.md'):
    sj.GRU(H, activity_regularizer='l2')
