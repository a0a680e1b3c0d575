"""ScannedRNN against the class that training loops write for themselves."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax.interop import linen

T, B, D = 5, 3, 4
CELLS = {'gru': nn.GRUCell, 'lstm': nn.OptimizedLSTMCell, 'simple_rnn': nn.SimpleCell}


class Theirs(nn.Module):
  """A scan around flax's cell that begins anew where an episode does."""

  cell: str

  @functools.partial(
    nn.scan,
    variable_broadcast='params',
    in_axes=0,
    out_axes=0,
    split_rngs={'params': False},
  )
  @nn.compact
  def __call__(self, carry, x):
    xs, resets = x
    carry = jax.tree.map(lambda c: jnp.where(resets[:, None], 0.0, c), carry)
    return CELLS[self.cell](features=xs.shape[-1], name='rnn')(carry, xs)


@pytest.fixture
def xs():
  return np.random.default_rng(1).standard_normal((T, B, D)).astype(np.float32)


@pytest.fixture
def resets():
  return np.random.default_rng(0).random((T, B)) < 0.4


@pytest.mark.parametrize('cell', CELLS)
def test_it_computes_what_their_own_class_does(cell, xs, resets):
  theirs, ours = Theirs(cell), sj.ScannedRNN(cell=cell)
  zeros = ours.initialize_carry(B, D, cell)
  other = (zeros.c, zeros.h) if cell == 'lstm' else zeros  # flax's order
  params = _drawn(theirs, other, (xs, resets))
  moved = linen.load_into(_drawn(ours, zeros, (xs, resets)), params)

  def run(module, params, carry, xs):
    carry, ys = module.apply({'params': params}, carry, (xs, resets))
    return jnp.sum(jnp.sin(ys) * ys), (carry, ys)

  with jax.numpy_rank_promotion('allow'):
    gradient = jax.grad(run, (2, 3), has_aux=True)
    dtheirs, (last, expected) = jax.jit(functools.partial(gradient, theirs))(
      params, other, xs
    )
    dours, (carry, ys) = jax.jit(functools.partial(gradient, ours))(moved, zeros, xs)
  np.testing.assert_allclose(ys, expected, atol=1e-5)
  for name, mine, his in zip('ch', *map(_fields, (carry, last)), strict=False):
    np.testing.assert_allclose(mine, his, atol=1e-5, err_msg=name)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, atol=1e-5),
    [*_fields(dours[0]), dours[1]],
    [*_fields(dtheirs[0]), dtheirs[1]],
  )


def _drawn(module, *inputs):
  """Parameters that no compiler has a part in."""
  shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)['params']
  rng = np.random.default_rng(1)
  return jax.tree.map(
    lambda s: (0.5 * rng.standard_normal(s.shape)).astype(np.float32), shapes
  )


def _fields(carry):
  """[c, h] or [h], of either library."""
  if hasattr(carry, 'c'):
    return [carry.c, carry.h]
  return list(carry) if isinstance(carry, tuple) else [carry]


@pytest.mark.parametrize('cell', CELLS)
def test_steps_to_act_are_the_sequence_to_learn(cell, xs, resets):
  module = sj.ScannedRNN(features=6, cell=cell)
  carry = sj.ScannedRNN.initialize_carry(B, 6, cell)
  params = {'params': _drawn(module, carry, (xs, resets))}
  act = jax.jit(module.apply)
  once, as_one = act(params, carry, (xs, resets))
  for x, reset, want in zip(xs, resets, as_one, strict=True):
    carry, y = act(params, carry, (x, reset))
    np.testing.assert_allclose(y, want, atol=1e-6)
  jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), carry, once)


def test_wrong_arguments_are_named(xs, resets):
  module = sj.ScannedRNN()
  carry = module.initialize_carry(B, D)
  with pytest.raises(ValueError, match=r'ScannedRNN needs .*float32\(5, 3, 4\)'):
    module.init(jax.random.key(0), carry, (xs, resets.T))
  with pytest.raises(ValueError, match=r'initial_carry.h \(3, 4\), got \(4, 4\)'):
    module.init(jax.random.key(0), module.initialize_carry(4, D), (xs, resets))
  with pytest.raises(
    ValueError, match=r'ScannedRNN .* \(h, c\), got one array float32'
  ):
    sj.ScannedRNN(cell='lstm').init(jax.random.key(0), carry, (xs, resets))
  with pytest.raises(ValueError, match=r"one of gru, lstm, simple_rnn, got 'gru2'"):
    sj.ScannedRNN(cell='gru2')
