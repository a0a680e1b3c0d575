"""ConvLSTM: equal to that of Keras, and what masks and states do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from masked_loop import MASK, B, T, drawn

import seqjax as sj


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

    def gradients(run, params):
      def loss(*args):
        y = run(*args)
        return jnp.sum(jnp.sin(y)), y

      return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, x)

    (dvariables, dx), wanted = gradients(expected, variables)
  run = functools.partial(layer.apply, train=False)
  (dparams, dours), found = gradients(run, params)
  np.testing.assert_allclose(found, wanted, atol=1e-5)
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
  carry, ys = jax.device_get(run(params, x, mask=MASK))
  for row, mask in enumerate(MASK):
    if mask.any():
      one, alone = run(params, x[row : row + 1, mask])
      np.testing.assert_allclose(ys[row, mask], alone[0], atol=1e-6)
      np.testing.assert_allclose(carry.c[row], one.c[0], atol=1e-6)
  np.testing.assert_array_equal(carry.h[2], np.zeros((5, 3)))


def test_conv_lstm_goes_on_and_names_what_does_not_fit():
  x = np.random.default_rng(0).standard_normal((B, T, 7, 2)).astype(np.float32)
  layer = sj.ConvLSTM(3, (3,), padding='same', return_carry=True)
  params = drawn(layer, x)
  run = functools.partial(layer.apply, params, train=False)
  step = jax.jit(run)  # two halves, which are one program
  whole, _ = step(x)
  first, _ = step(x[:, :3], initial_carry=jax.tree.map(np.zeros_like, whole))
  again, _ = step(x[:, 3:], initial_carry=first)
  jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), again, whole)
  with pytest.raises(ValueError, match=r'needs float x \[B, T, W, C\], got float32'):
    run(x[..., None])
  with pytest.raises(ValueError, match=r'initial_carry.h \(3, 7, 3\), got \(3, 1\)'):
    run(x, initial_carry=sj.cells.LSTMCarry(jnp.zeros((3, 1)), jnp.zeros((3, 1))))
  with pytest.raises(ValueError, match='one number or two, got'):
    sj.ConvLSTM(3, (3, 3, 3))
