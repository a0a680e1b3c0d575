"""The LSTM with peepholes: its equations, and the LSTM without them."""

import functools

import jax
import numpy as np
import pytest
from masked_loop import MASK, RESET, B, D, H, T, drawn, sigmoid, steps

import seqjax as sj


@pytest.fixture
def x():
  return np.random.default_rng(0).standard_normal((B, T, D)).astype(np.float32)


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
  params = jax.jit(functools.partial(layer.init, train=False))(jax.random.key(0), x)
  own = {k: v for k, v in params['params']['cell'].items() if k != 'peephole'}
  lstm = sj.LSTM(H, recurrent_activation='hard_sigmoid')

  @jax.jit
  def both(params, own):
    y = layer.apply(params, x, train=False)
    return y, lstm.apply({'params': own}, x, train=False)

  np.testing.assert_allclose(*both(params, own), atol=1e-6)
