"""MinGRU: its equation step by step, in one scan."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from masked_loop import MASK, RESET, B, D, H, T, drawn, sigmoid, steps

import seqjax as sj


@pytest.fixture
def x():
  return np.random.default_rng(0).standard_normal((B, T, D)).astype(np.float32)


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
  y = jax.eval_shape(functools.partial(both.apply, train=False), drawn(both, x), x)
  assert y.shape == (B, T, 2 * H)
  with pytest.raises(ValueError, match='MinGRU has no bptt_steps'):
    sj.MinGRU(H, bptt_steps=2)
