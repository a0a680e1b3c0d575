"""Losses and metrics, one value an example: [B] out, float32."""

import jax
import jax.numpy as jnp

from seqjax.types import Array


def binary_xent(logits: Array, labels: Array) -> Array:
  """Binary cross-entropy in nats: logits [B], labels [B] of 0 and 1 -> [B].

  Raises:
    ValueError: if the two shapes differ.
  """
  _check_same_shape(logits, labels)
  logits, labels = logits.astype(jnp.float32), labels.astype(jnp.float32)
  # -y log p - (1 - y) log(1 - p). softplus(logits) - labels * logits is the same with
  # the digits of a small loss cancelled.
  return labels * jax.nn.softplus(-logits) + (1 - labels) * jax.nn.softplus(logits)


def binary_accuracy(logits: Array, labels: Array) -> Array:
  """1 where the probability is over 0.5 for label 1, or not for 0: [B], [B] -> [B].

  The first are logits, over 0 where the probability is over 0.5.

  Raises:
    ValueError: if the two shapes differ.
  """
  _check_same_shape(logits, labels)
  return ((logits > 0) == (labels > 0.5)).astype(jnp.float32)


def absolute_error(predictions: Array, targets: Array) -> Array:
  """|prediction - target|, the mean over further axes: [B, ...], [B, ...] -> [B].

  In the unit of the targets: of normalised ones, in their standard deviations.

  Raises:
    ValueError: if the two shapes differ.
  """
  _check_same_shape(predictions, targets)
  error = jnp.abs(predictions.astype(jnp.float32) - targets.astype(jnp.float32))
  return jnp.mean(error.reshape(len(error), -1), axis=-1)


def weighted_sum(values: Array, weight: Array) -> Array:
  """Sum of values [B] * weight [B], float32; rows of weight 0 count for nothing.

  Not even a NaN or an infinity of such a row comes into the sum. (Into its gradient it
  does: what fills a batch up must be an example.)
  """
  return jnp.sum(jnp.where(weight > 0, values * weight, 0.0), dtype=jnp.float32)


def _check_same_shape(predictions: Array, targets: Array) -> None:
  """[B] against [B, 1] would become [B, B] in silence."""
  if predictions.shape != targets.shape:
    raise ValueError(
      f'predictions {predictions.shape} and targets {targets.shape} differ in shape'
    )
