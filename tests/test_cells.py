"""Values of one step and of the input projection, against the NumPy loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpy_rnn
import pytest

from seqjax import cells

KINDS = ('simple_rnn', 'lstm', 'gru', 'gru_reset_before')
PARAMS = {
  'simple_rnn': cells.SimpleRNNParams,
  'lstm': cells.LSTMParams,
  'gru': cells.GRUParams,
  'gru_reset_before': cells.GRUParams,
}


def make_cell(kind, activation='tanh', recurrent_activation='sigmoid'):
  act, gate = cells.ACTIVATIONS[activation], cells.ACTIVATIONS[recurrent_activation]
  if kind == 'simple_rnn':
    return cells.simple_rnn(act)
  if kind == 'lstm':
    return cells.lstm(act, gate)
  return cells.gru(act, gate, reset_after=kind == 'gru')


@functools.partial(jax.jit, static_argnums=0)
def one_step(cell, params, carry, x, x_mask=None, h_mask=None):
  """One step by way of a sequence of one step."""
  projected = cell.project(params, x[:, None], x_mask)[:, 0]
  return cell.step(params, carry, projected, h_mask)


@pytest.mark.parametrize(
  ('dropped', 'use_bias'),
  [('no', False), ('no', True), ('shared', True), ('per_gate', True)],
)
@pytest.mark.parametrize('kind', KINDS)
def test_step_is_the_equation(kind, dropped, use_bias):
  rng = np.random.default_rng(3)
  B, D, H, n = 2, 3, 5, numpy_rnn.NUM_GATES[kind]
  arrays = numpy_rnn.random_params(rng, kind, D, H, use_bias)
  x = rng.normal(size=(B, D)).astype(np.float32)
  h, c = rng.normal(size=(2, B, H)).astype(np.float32)
  x_mask = h_mask = x_masks = h_masks = None
  if dropped == 'shared' or (dropped == 'per_gate' and n == 1):
    x_mask, h_mask = rng.uniform(size=(B, D)), rng.uniform(size=(B, H))
    x_masks, h_masks = np.stack([x_mask] * n), np.stack([h_mask] * n)
  elif dropped == 'per_gate':
    x_mask, h_mask = rng.uniform(size=(n, B, D)), rng.uniform(size=(n, B, H))
    x_masks, h_masks = x_mask, h_mask
  if x_mask is not None:
    x_mask, h_mask = jnp.float32(x_mask), jnp.float32(h_mask)

  cell = make_cell(kind)
  carry = cell.carry(h, c) if kind == 'lstm' else cell.carry(h)
  new = one_step(cell, PARAMS[kind](*arrays), carry, jnp.asarray(x), x_mask, h_mask)

  want_h, want_c, _ = numpy_rnn.run(
    kind, arrays, x[:, None], x_mask=x_masks, h_mask=h_masks, carry=(h, c)
  )
  np.testing.assert_allclose(new.h, want_h, rtol=2e-5, atol=2e-6)
  if kind == 'lstm':
    np.testing.assert_allclose(new.c, want_c, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize('name', list(cells.ACTIVATIONS))
@pytest.mark.parametrize('kind', KINDS)
def test_every_activation_is_taken_in_both_places(kind, name):
  rng = np.random.default_rng(4)
  arrays = numpy_rnn.random_params(rng, kind, 3, 2)
  x = 2 * rng.normal(size=(4, 3)).astype(np.float32)
  carry = 2 * rng.normal(size=(2, 4, 2)).astype(np.float32)
  for act, gate in [(name, 'sigmoid'), ('tanh', name)]:
    cell = make_cell(kind, act, gate)
    start = cell.carry(*carry[: len(cell.carry._fields)])
    got = one_step(cell, PARAMS[kind](*arrays), start, jnp.asarray(x))
    want, _, _ = numpy_rnn.run(
      kind, arrays, x[:, None], carry=carry, activation=act, recurrent_activation=gate
    )
    np.testing.assert_allclose(got.h, want, rtol=3e-5, atol=3e-6)


def test_activations_by_name_and_by_hand():
  x = np.float32([-9, -2.6, -1, 0, 0.5, 2.6, 9])
  for name, function in numpy_rnn.ACTIVATIONS.items():
    got = cells.activation_function(name)(x)
    np.testing.assert_allclose(got, function(np, x), rtol=1e-6, atol=1e-7)
  want = [0, 0, 0.3, 0.5, 0.6, 1, 1]
  np.testing.assert_allclose(cells.hard_sigmoid_keras2(x), want, atol=1e-7)
  assert cells.activation_function(jnp.sin) is jnp.sin
  with pytest.raises(ValueError, match=r"one of tanh, relu.*callable, got 'tahn'"):
    cells.activation_function('tahn')


@pytest.mark.parametrize('kind', KINDS)
def test_z_times_h_and_c_are_never_dropped(kind):
  """With all of h dropped before the matmuls, what bypasses them is still there."""
  rng = np.random.default_rng(5)
  arrays = numpy_rnn.random_params(rng, kind, 3, 4)
  cell, x = make_cell(kind), jnp.zeros((2, 3))
  nothing = jnp.zeros((2, 4))

  def new_h(fill):
    carry = cells.zero_carry(cell, (2, 4))
    carry = carry._replace(**{carry._fields[-1]: jnp.full((2, 4), fill)})
    return one_step(cell, PARAMS[kind](*arrays), carry, x, None, nothing).h

  changed = np.abs(new_h(2.0) - new_h(-1.0))
  if kind == 'simple_rnn':
    np.testing.assert_array_equal(changed, 0)  # all of its h enters the matmul
  else:
    assert changed.min() > 1e-3


@pytest.mark.parametrize('kind', KINDS)
def test_leading_axes_are_rows(kind):
  rng = np.random.default_rng(6)
  cell, arrays = make_cell(kind), numpy_rnn.random_params(rng, kind, 3, 4)
  x = rng.normal(size=(2, 5, 7, 3)).astype(np.float32)

  @jax.jit
  def run(params, x):
    projected, carry = (
      cell.project(params, x),
      cells.zero_carry(cell, (*x.shape[:-2], 4)),
    )
    return projected, cell.step(params, carry, projected[..., 0, :]).h

  params = PARAMS[kind](*arrays)
  projected, step = jax.device_get(run(params, x))
  assert projected.shape == (2, 5, 7, cell.num_gates * 4)
  flat, flat_step = run(params, x.reshape(10, 7, 3))
  np.testing.assert_allclose(projected.reshape(10, 7, -1), flat, rtol=1e-6, atol=1e-6)
  np.testing.assert_allclose(step.reshape(10, 4), flat_step, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('kind', KINDS)
def test_bfloat16_weights_keep_a_float32_carry(kind):
  rng = np.random.default_rng(7)
  cell, arrays = make_cell(kind), numpy_rnn.random_params(rng, kind, 3, 4)
  narrow = PARAMS[kind](*(jnp.asarray(a, jnp.bfloat16) for a in arrays))
  x = rng.normal(size=(2, 3)).astype(np.float32)
  new = one_step(
    cell, narrow, cells.zero_carry(cell, (2, 4)), jnp.asarray(x, jnp.bfloat16)
  )
  assert {leaf.dtype for leaf in new} == {jnp.dtype('float32')}
  want, _, _ = numpy_rnn.run(kind, arrays, x[:, None])
  np.testing.assert_allclose(new.h, want, atol=0.03)  # 8 bits of mantissa


def test_strict_dtypes_hold_in_the_maths():
  rng = np.random.default_rng(8)
  for kind in KINDS:
    cell, arrays = make_cell(kind), numpy_rnn.random_params(rng, kind, 3, 4)
    params = PARAMS[kind](*map(jnp.asarray, arrays))
    with jax.numpy_dtype_promotion('strict'):
      one_step(cell, params, cells.zero_carry(cell, (2, 4)), jnp.ones((2, 3)))
