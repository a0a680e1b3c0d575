"""Convolution and pooling over time, against Keras and against rows without padding."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import seqjax as sj

pytestmark = pytest.mark.usefixtures('quick_programs')

MASK = np.array([[1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1]], bool)


def random_x(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def conv_params(K, D, F, seed=1):
  return {'kernel': random_x(K, D, F, seed=seed), 'bias': random_x(F, seed=seed)}


@pytest.mark.parametrize(
  'options',
  [
    pytest.param({'padding': 'valid', 'strides': 2}, marks=pytest.mark.slow),
    pytest.param({'padding': 'same', 'strides': 3}, marks=pytest.mark.slow),
    {'padding': 'causal', 'dilation': 2},
    {'padding': 'same', 'groups': 2},
  ],
  ids=str,
)
def test_conv_values_and_gradients_are_those_of_keras(options):
  D = 6 if 'groups' in options else 3
  x, params = random_x(2, 7, D), conv_params(2, 3, 4)
  names = {'dilation': 'dilation_rate'}
  peer = keras.layers.Conv1D(
    4, 2, activation='relu', **{names.get(k, k): v for k, v in options.items()}
  )
  peer.build(x.shape)
  layer = sj.Conv1D(4, 2, activation='relu', **options)

  def keras_loss(params, x):
    y, _ = peer.stateless_call([params['kernel'], params['bias']], [], x)
    return jnp.sum(y**2), y

  def loss(params, x):
    y = layer.apply({'params': params}, x)
    return jnp.sum(y**2), y

  with jax.numpy_rank_promotion('allow'):
    want = jax.jit(jax.grad(keras_loss, (0, 1), has_aux=True))(params, x)
  got = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, x)
  jax.tree.map(
    lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-5), got, want
  )


@pytest.mark.parametrize('padding', ['valid', 'same', 'causal'])
def test_padding_changes_nothing_that_is_real(padding):
  """A padded row gives what it gives alone, and its mask says where."""
  x, params = random_x(2, 7, 3), conv_params(3, 3, 4)
  layer = sj.Conv1D(4, 3, padding=padding)

  @jax.jit
  def run(padded, row):
    y = layer.apply({'params': params}, padded, mask=MASK)
    return y, layer.apply({'params': params}, row), layer.compute_mask(x, MASK)

  found = run(np.where(MASK[..., None], x, np.float32(99)), x[:1, :4])
  y, alone, real = jax.device_get(found)
  assert real.shape == y.shape[:2]
  np.testing.assert_array_equal(np.flatnonzero(real[0]), np.arange(alone.shape[1]))
  np.testing.assert_allclose(y[:1, : alone.shape[1]], alone, rtol=1e-5, atol=1e-5)


def test_masks_follow_strides_and_dilation():
  mask = jnp.asarray(MASK)
  strided = sj.Conv1D(1, 3, strides=2, padding='same')
  np.testing.assert_array_equal(strided.compute_mask(None, mask)[0], [1, 1, 0, 0])
  dilated = sj.Conv1D(1, 2, strides=2, dilation=2)
  np.testing.assert_array_equal(dilated.compute_mask(None, mask)[0], [1, 0, 0])
  assert dilated.compute_mask(None, None) is None


@pytest.mark.parametrize('padding', ['valid', 'same'])
@pytest.mark.parametrize('strides', [None, 3])
@pytest.mark.parametrize('kind', ['Max', 'Average'])
def test_pools_are_those_of_keras(kind, strides, padding):
  x = random_x(2, 7, 3)
  options = {'pool_size': 2, 'strides': strides, 'padding': padding}
  want = getattr(keras.layers, f'{kind}Pooling1D')(**options)(x)
  layer = getattr(sj, f'{kind}Pooling1D')(**options)
  everything = np.ones((2, 7), bool)
  both = jax.jit(lambda x: [layer.apply({}, x, mask=m) for m in (None, everything)])
  for y in both(x):
    np.testing.assert_allclose(y, want, rtol=1e-6)


@pytest.mark.parametrize('kind', ['Max', 'Average'])
def test_pools_see_only_what_is_real(kind):
  x = random_x(1, 6, 2) - 5  # all negative: a padding zero would be the largest
  mask = np.array([[1, 1, 1, 0, 0, 0]], bool)
  layer = getattr(sj, f'{kind}Pooling1D')(2)
  y = layer.apply({}, np.where(mask[..., None], x, np.nan), mask=mask)
  reduce = np.max if kind == 'Max' else np.mean
  want = [reduce(x[0, :2], axis=0), x[0, 2], np.zeros(2)]
  np.testing.assert_allclose(y[0], want, rtol=1e-6)
  np.testing.assert_array_equal(layer.compute_mask(x, mask), [[1, 1, 0]])


def test_global_pools_see_only_what_is_real():
  x, none = random_x(2, 7, 3) - 5, np.zeros((2, 7), bool)
  x[0, 4:] = np.inf
  for layer, reduce in (
    (sj.GlobalMaxPooling1D(), np.max),
    (sj.GlobalAveragePooling1D(), np.mean),
  ):
    y = layer.apply({}, x, mask=MASK)
    np.testing.assert_allclose(y[0], reduce(x[0, :4], axis=0), rtol=1e-6)
    np.testing.assert_allclose(y[1], reduce(x[1], axis=0), rtol=1e-6)
    np.testing.assert_array_equal(layer.apply({}, x, mask=none), np.zeros((2, 3)))
    np.testing.assert_allclose(layer.apply({}, x[1:]), y[1:], rtol=1e-6)
    assert layer.compute_mask(x, MASK) is None


def test_gradients_of_masked_pools_are_finite_and_zero_on_padding():
  x, mask = random_x(2, 6, 3), np.zeros((2, 6), bool)
  mask[0, :3] = True
  for layer in (
    sj.MaxPooling1D(2),
    sj.AveragePooling1D(2),
    sj.GlobalMaxPooling1D(),
    sj.GlobalAveragePooling1D(),
  ):
    square = jax.jit(jax.grad(lambda x: jnp.sum(layer.apply({}, x, mask=mask) ** 2)))  # noqa: B023
    grad = np.asarray(square(x))
    assert np.isfinite(grad).all()
    np.testing.assert_array_equal(grad[~mask], 0)
    assert np.abs(grad[mask]).max() > 0


def test_flatten_leaves_zeros_for_padding():
  x = random_x(2, 7, 3)
  y = sj.Flatten().apply({}, x, mask=MASK)
  np.testing.assert_array_equal(y, (x * MASK[..., None]).reshape(2, 21))
  np.testing.assert_array_equal(sj.Flatten().apply({}, x), x.reshape(2, 21))


@pytest.mark.parametrize(
  ('layer', 'x', 'message'),
  [
    (sj.Conv1D(2, 4), np.ones((1, 3, 2), 'f'), r'T >= 4, got \(1, 3, 2\)'),
    (sj.MaxPooling1D(4), np.ones((1, 3, 2), 'f'), r'T >= 4, got \(1, 3, 2\)'),
    (sj.GlobalMaxPooling1D(), np.ones(3, 'f'), r'x \[..., T, D\] .*, got \(3,\)'),
  ],
)
def test_what_is_too_short_is_refused(layer, x, message):
  with pytest.raises(ValueError, match=message):
    layer.init(jax.random.key(0), x)


def test_wrong_options_and_masks_are_refused():
  with pytest.raises(ValueError, match='kernel_size must be at least 1, got 0'):
    sj.Conv1D(2, 0)
  with pytest.raises(ValueError, match=r'pool_size must be an integer, got 1\.5'):
    sj.MaxPooling1D(1.5)
  with pytest.raises(ValueError, match='padding must be one of valid, same, causal'):
    sj.Conv1D(2, 2, padding='full')
  with pytest.raises(
    ValueError, match="padding must be one of valid, same, got 'causal'"
  ):
    sj.MaxPooling1D(2, padding='causal')
  with pytest.raises(ValueError, match=r'mask must be bool\(2, 7\).*got bool\(2, 6\)'):
    sj.Flatten().apply({}, random_x(2, 7, 3), mask=MASK[:, :6])


@pytest.mark.parametrize('layer', [sj.AveragePooling1D(), sj.MaxPooling1D()])
def test_pools_add_no_dtype_of_their_own(layer):
  x = random_x(2, 7, 3)

  def run(x):
    return layer.apply({}, x, mask=MASK), layer.apply({}, x)

  want = jax.jit(run)(x)
  with jax.numpy_dtype_promotion('strict'):
    jax.tree.map(np.testing.assert_array_equal, jax.jit(run)(x), want)


def test_groups_that_divide_nothing_are_refused():
  with pytest.raises(ValueError, match='3 groups must divide features 4'):
    sj.Conv1D(4, 2, groups=3)
  with pytest.raises(
    ValueError, match=r'2 groups must divide the inputs of x \(2, 7, 3'
  ):
    sj.Conv1D(4, 2, groups=2).init(jax.random.key(0), random_x(2, 7, 3))
