"""Embedding: rows, ids out of range, masks, given and frozen matrices."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

import seqjax as sj


def test_rows_and_gradients_are_those_of_keras():
  rng = np.random.default_rng(0)
  matrix = rng.normal(size=(7, 3)).astype(np.float32)
  ids = rng.integers(0, 7, (2, 5))
  w = rng.normal(size=(2, 5, 3)).astype(np.float32)
  layer = keras.layers.Embedding(7, 3)
  layer.build((2, 5))

  def keras_loss(m):
    return jnp.sum(w * layer.stateless_call([m], [], jnp.asarray(ids))[0])

  def loss(m):
    params = {'embedding': m}
    return jnp.sum(w * sj.Embedding(7, 3).apply({'params': params}, jnp.asarray(ids)))

  want, want_grad = jax.value_and_grad(keras_loss)(matrix)
  value, grad = jax.value_and_grad(loss)(matrix)
  np.testing.assert_allclose(value, want, rtol=1e-6)
  np.testing.assert_allclose(grad, want_grad, rtol=1e-6, atol=1e-6)


def test_rows_begin_uniform_between_minus_and_plus_a_twentieth():
  params = sj.Embedding(300, 40).init(jax.random.key(0), np.zeros((1, 1), int))[
    'params'
  ]
  matrix = np.asarray(params['embedding'])
  assert matrix.shape == (300, 40)
  assert -0.05 <= matrix.min() < -0.0499
  assert 0.0499 < matrix.max() < 0.05
  # Of a uniform variable: mean 0, standard deviation 0.1 / sqrt(12).
  assert abs(matrix.mean()) < 5 * 0.1 / np.sqrt(12 * matrix.size)
  assert abs(matrix.std() - 0.1 / np.sqrt(12)) < 5e-4


@pytest.mark.parametrize('dtype', [np.int8, np.uint8, np.int16, np.int32, np.uint16])
def test_ids_of_any_integer_type(dtype):
  """300 rows: more than an int8 can say, which the mark of a bad id has to survive."""
  matrix = np.arange(600, dtype=np.float32).reshape(300, 2)
  ids = np.array([[0, 1, 127]], dtype)
  layer = sj.Embedding(300, 2)
  rows = layer.apply({'params': {'embedding': matrix}}, ids)
  np.testing.assert_array_equal(rows, matrix[ids.astype(int)])


def test_an_id_out_of_range_is_an_error_or_nan_and_never_a_word():
  matrix = np.ones((4, 2), np.float32)
  apply = lambda ids: sj.Embedding(4, 2).apply({'params': {'embedding': matrix}}, ids)  # noqa: E731
  for bad in (-1, 4, 10**6):
    ids = np.array([[0, 1], [bad, 3]])
    with pytest.raises(
      ValueError, match=rf'id {bad} at index \[1, 0\] is not in \[0, 4\)'
    ):
      apply(ids)
    on_device = np.asarray(apply(jnp.asarray(ids)))
    assert np.isnan(on_device[1, 0]).all()
    assert not np.isnan(on_device).reshape(4, 2)[[0, 1, 3]].any()
  with pytest.raises(ValueError, match='num_embeddings must be at least 1, got 0'):
    sj.Embedding(0, 2)
  with pytest.raises(ValueError, match='needs integer ids, got a list'):
    apply([[0, 1]])
  with pytest.raises(ValueError, match='needs integer ids, got float32'):
    apply(np.zeros((1, 2), np.float32))


def test_mask_zero_masks_id_zero():
  ids = np.array([[0, 3, 1], [0, 0, 2]])
  layer = sj.Embedding(4, 2, mask_zero=True)
  np.testing.assert_array_equal(layer.compute_mask(ids), ids != 0)
  given = np.array([[1, 0, 1], [1, 1, 1]], bool)
  np.testing.assert_array_equal(layer.compute_mask(ids, given), (ids != 0) & given)
  assert sj.Embedding(4, 2).compute_mask(ids) is None
  assert sj.Embedding(4, 2).compute_mask(ids, given) is given


def test_a_given_matrix_is_where_it_starts():
  matrix = np.random.default_rng(1).normal(size=(5, 3))
  layer = sj.Embedding(5, 3, embedding_init=sj.pretrained(matrix))
  params = layer.init(jax.random.key(0), np.zeros((1, 1), int))['params']
  np.testing.assert_array_equal(params['embedding'], matrix.astype(np.float32))
  other = sj.Embedding(6, 3, embedding_init=sj.pretrained(matrix))
  with pytest.raises(ValueError, match=r'needs a matrix \(6, 3\), got \(5, 3\)'):
    other.init(jax.random.key(0), np.zeros((1, 1), int))


def test_frozen_means_no_gradient_and_with_freeze_no_update_at_all():
  ids = jnp.array([[1, 2, 4]])
  layer = sj.Embedding(5, 3, frozen=True)
  params = {'embedding': jnp.ones((5, 3))}

  def loss(params):
    return jnp.sum(layer.apply({'params': params}, ids) ** 2)

  grads = jax.grad(loss)(params)
  np.testing.assert_array_equal(grads['embedding'], 0)
  decaying = optax.adamw(0.1, weight_decay=0.5)
  updates, _ = decaying.update(grads, decaying.init(params), params)
  assert (updates['embedding'] != 0).all()  # no gradient is not enough
  frozen = sj.optim.freeze(decaying, *sj.frozen_parameters(layer, ids))
  updates, _ = frozen.update(grads, frozen.init(params), params)
  np.testing.assert_array_equal(updates['embedding'], 0)


class _Both(nn.Module):
  """A frozen Embedding within a model within a model, called twice, and a free one."""

  @nn.compact
  def __call__(self, ids, *, train):
    inner = sj.SequenceClassifier(7, 3, sj.LSTM(2), frozen=True, name='inner')
    free = sj.Embedding(7, 3, name='free')(ids)
    return inner(ids, train=train) + inner(ids, train=train) + free.sum((1, 2))


def test_frozen_parameters_are_found_at_any_depth():
  ids = np.zeros((4, 5), int)
  paths = sj.frozen_parameters(_Both(), ids, train=False)
  assert paths == ('inner/embedding/embedding',)
  params = _Both().init(jax.random.key(0), ids, train=False)['params']
  assert params['inner']['embedding']['embedding'].shape == (7, 3)
  assert sj.frozen_parameters(sj.Embedding(7, 3), ids) == ()


def test_bfloat16_rows_of_a_float32_matrix():
  layer = sj.Embedding(5, 3, dtype=jnp.bfloat16)
  variables = layer.init(jax.random.key(0), np.zeros((1, 1), int))
  assert variables['params']['embedding'].dtype == jnp.float32
  assert layer.apply(variables, np.zeros((1, 2), int)).dtype == jnp.bfloat16
