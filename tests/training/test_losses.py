"""Losses and metrics against Keras's and by hand."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from seqjax.training import losses
from seqjax.types import NO_LABEL


def test_binary_xent_is_that_of_keras():
  rng = np.random.default_rng(0)
  logits = (4 * rng.normal(size=19)).astype(np.float32)
  labels = rng.integers(0, 2, 19).astype(np.float32)
  want = keras.ops.binary_crossentropy(
    labels[:, None], logits[:, None], from_logits=True
  )
  np.testing.assert_allclose(
    losses.binary_xent(logits, labels), np.asarray(want)[:, 0], rtol=1e-5, atol=1e-6
  )


def test_binary_xent_has_all_its_digits_where_the_probability_saturates():
  logits = jnp.float32([-200, -30, 0, 30, 200])
  got = losses.binary_xent(logits, jnp.ones(5))
  np.testing.assert_allclose(got, [200, 30, np.log(2), np.exp(-30.0), 0], rtol=1e-6)
  grads = jax.grad(lambda z: losses.binary_xent(z, jnp.ones(5)).sum())(logits)
  want = 1 / (1 + np.exp(-np.float64(logits))) - 1  # sigmoid - label
  np.testing.assert_allclose(grads, want, rtol=1e-6, atol=1e-12)


def test_binary_accuracy_thresholds_the_probability_at_one_half():
  logits = jnp.float32([-0.1, 0.1, 0.0, -3, 2])
  labels = jnp.float32([0, 1, 1, 1, 0])
  want = [1, 1, 0, 0, 0]  # a probability of exactly 0.5 counts as label 0
  np.testing.assert_array_equal(losses.binary_accuracy(logits, labels), want)
  keras_says = keras.metrics.binary_accuracy(
    labels[:, None], keras.ops.sigmoid(logits)[:, None]
  )
  np.testing.assert_array_equal(np.asarray(keras_says)[:, 0], want)


def test_absolute_error_is_the_mean_over_further_axes():
  rng = np.random.default_rng(1)
  a, b = rng.normal(size=(2, 5, 3)).astype(np.float32)
  want = np.abs(np.float64(a) - b).mean(-1)
  np.testing.assert_allclose(losses.absolute_error(a, b), want, rtol=1e-6)
  np.testing.assert_allclose(
    losses.absolute_error(a[:, 0], b[:, 0]), np.abs(a - b)[:, 0], rtol=1e-6
  )


def test_pinball_is_that_of_a_loop():
  rng = np.random.default_rng(2)
  quantiles = (0.1, 0.5, 0.75)
  predictions = rng.normal(size=(4, 2, 5, 3)).astype(np.float32)
  targets = rng.normal(size=(4, 2, 5)).astype(np.float32)
  want = np.zeros(4)
  for b, k, c, q in np.ndindex(predictions.shape):
    error = float(targets[b, k, c]) - float(predictions[b, k, c, q])
    level = quantiles[q]
    want[b] += (level * error if error > 0 else (level - 1) * error) / 30
  found = losses.pinball(quantiles)(predictions, targets)
  np.testing.assert_allclose(found, want, rtol=1e-5)
  # One target an example, by hand: 3 above 1 at 0.1, 3 below 4 at 0.75.
  value = losses.pinball((0.1, 0.75))(jnp.float32([[1, 4]]), jnp.float32([3]))
  np.testing.assert_allclose(value, [(0.1 * 2 + 0.25 * 1) / 2], rtol=1e-6)
  targets[1, 0] = np.nan  # what is no label counts for nothing
  kept = losses.pinball(quantiles)(predictions[1:2, 1:], targets[1:2, 1:])
  found = losses.pinball(quantiles)(predictions, targets)
  np.testing.assert_allclose(found[1], kept[0], rtol=1e-6)
  half = losses.pinball((0.5,))(predictions[..., :1], predictions[..., 1])
  error = losses.absolute_error(predictions[..., 0], predictions[..., 1])
  np.testing.assert_allclose(half, 0.5 * error, rtol=1e-6)


def test_the_least_pinball_is_the_quantile():
  values = np.random.default_rng(3).normal(size=1001).astype(np.float32)
  levels = np.linspace(-3, 3, 601)
  for q in (0.2, 0.9):
    one = losses.pinball((q,))
    means = [float(one(np.full((1001, 1), v, 'f4'), values).mean()) for v in levels]
    assert abs(levels[np.argmin(means)] - np.quantile(values, q)) < 0.02


@pytest.mark.parametrize('quantiles', [(), (0.0, 0.5), (0.5, 1.0), (-0.1,)])
def test_quantiles_that_cannot_be(quantiles):
  with pytest.raises(ValueError, match='quantiles must lie between 0 and 1'):
    losses.pinball(quantiles)


def test_pinball_needs_an_axis_of_quantiles():
  with pytest.raises(ValueError, match=r'\(4, 3\) of 2 quantiles need targets \(4,\)'):
    losses.pinball((0.1, 0.9))(jnp.zeros((4, 3)), jnp.zeros(4))
  with pytest.raises(ValueError, match='got'):
    losses.pinball((0.1, 0.9))(jnp.zeros((4, 2)), jnp.zeros((4, 2)))


def test_rows_of_weight_zero_count_for_nothing_not_even_nan():
  values, weight = jnp.float32([1, np.nan, 3, np.inf]), jnp.float32([1, 0, 0.5, 0])
  value, grads = jax.value_and_grad(losses.weighted_sum)(values, weight)
  assert value == 2.5
  np.testing.assert_array_equal(grads, [1, 0, 0.5, 0])


@pytest.mark.parametrize(
  'loss', [losses.binary_xent, losses.binary_accuracy, losses.absolute_error]
)
def test_labels_of_another_shape_are_refused(loss):
  with pytest.raises(ValueError, match=r'\(4, 1\).*\(4,\) differ in shape'):
    loss(jnp.zeros((4, 1)), jnp.zeros(4))


def test_losses_are_float32_for_bfloat16_logits():
  logits, labels = jnp.zeros(3, jnp.bfloat16), jnp.ones(3, jnp.bfloat16)
  for loss in (losses.binary_xent, losses.binary_accuracy, losses.absolute_error):
    assert loss(logits, labels).dtype == jnp.float32


def test_label_smoothing_is_that_of_keras():
  rng = np.random.default_rng(0)
  logits, y = rng.normal(size=6).astype(np.float32), np.array([0, 1, 1, 0, 1, 0])
  keras_loss = keras.losses.BinaryCrossentropy(
    from_logits=True, label_smoothing=0.2, reduction=None
  )
  smoothed = losses.smoothed(losses.binary_xent, 0.2)
  want = keras_loss(y[:, None], logits[:, None])
  np.testing.assert_allclose(smoothed(logits, y), want, rtol=1e-6)
  logits, y = rng.normal(size=(6, 4)).astype(np.float32), np.array([0, 1, 3, 2, 1, 0])
  keras_loss = keras.losses.CategoricalCrossentropy(
    from_logits=True, label_smoothing=0.2, reduction=None
  )
  want = keras_loss(np.eye(4)[y], logits)
  smoothed = losses.smoothed(losses.softmax_xent, 0.2)
  np.testing.assert_allclose(smoothed(jnp.array(logits), y), want, rtol=1e-6)
  with pytest.raises(ValueError, match='no such argument'):
    losses.smoothed(losses.absolute_error, 0.2)


def test_steps_without_a_label_count_for_nothing():
  rng = np.random.default_rng(0)
  logits = jnp.asarray(rng.normal(size=(2, 3, 4)), jnp.float32)
  y = jnp.array([[1, -1, 2], [-1, -1, -1]])
  p = np.exp(logits[0]) / np.exp(logits[0]).sum(-1, keepdims=True)
  want = -(np.log(p[0, 1]) + np.log(p[2, 2])) / 2
  np.testing.assert_allclose(losses.softmax_xent(logits, y), [want, 0], rtol=1e-6)
  chosen = logits.at[0, 0, 1].set(9.0).at[0, 2, 0].set(9.0)
  np.testing.assert_array_equal(losses.accuracy(chosen, y), [0.5, 0])
  np.testing.assert_array_equal(
    losses.accuracy(jnp.array([1.0, -1.0]), jnp.array([1, 1])), [1, 0]
  )


@pytest.mark.parametrize(
  'loss',
  [losses.binary_xent, losses.absolute_error, losses.squared_error, losses.accuracy],
)
@pytest.mark.parametrize(('fill', 'kind'), [(np.nan, np.float32), (NO_LABEL, np.int32)])
def test_what_fills_sequences_of_labels_counts_for_nothing(loss, fill, kind):
  rng = np.random.default_rng(0)
  outputs = rng.normal(size=(2, 4)).astype(np.float32)
  y = np.array([[1, 0, fill, fill], [0, 1, 1, 0]]).astype(kind)
  alone = [
    loss(jnp.array(outputs[i, None, :n]), y[i, None, :n]) for i, n in ((0, 2), (1, 4))
  ]
  np.testing.assert_allclose(loss(outputs, y), np.ravel(alone), rtol=1e-6)
  grads = jax.grad(lambda o: loss(o, y).sum())(outputs)
  np.testing.assert_array_equal(grads[0, 2:], 0)
  np.testing.assert_array_equal(  # -1 is a target like others
    losses.absolute_error(jnp.zeros((1, 2)), jnp.array([[-1, 2]])), [1.5]
  )
  assert np.isnan(losses.absolute_error(jnp.zeros(1), jnp.array([np.nan])))


def test_class_weights_are_those_of_keras():
  y = jnp.array([0.0, 1.0, 1.0, 2.0])
  ones = lambda output, y: jnp.ones_like(y)  # noqa: E731
  weighted = losses.class_weighted(ones, {0: 3.0, 1: 0.5})
  np.testing.assert_array_equal(weighted(y, y), [3.0, 0.5, 0.5, 1.0])
  assert losses.balanced(np.array([0, 0, 0, 1])) == {0: 4 / 6, 1: 2.0}
  with pytest.raises(ValueError, match='whole numbers'):
    losses.balanced(np.array([0.5, 1.0]))
  with pytest.raises(ValueError, match='one label an example'):
    weighted(jnp.ones((2, 3)), jnp.ones((2, 3)))
