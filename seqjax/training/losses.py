"""Losses and metrics, one value an example: [B] out, float32.

Example:
  >>> logits, labels = jnp.array([0.0, 4.0]), jnp.array([1, 0])
  >>> sj.losses.binary_xent(logits, labels).shape  # a value an example
  (2,)
  >>> sj.losses.binary_accuracy(logits, labels).tolist()
  [0.0, 0.0]
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from seqjax.types import NO_LABEL, Array, InputError

ExampleFn = Callable[[Any, Array], Array]  # (model's output, y) -> [B]


def binary_xent(logits: Array, labels: Array, label_smoothing: float = 0.0) -> Array:
  """Binary cross-entropy in nats: logits [B, ...], labels [B, ...] of 0 and 1 -> [B].

  The mean over further axes, of the labels that there are: see `has_label`. With
  `label_smoothing` a the labels are a/2 and 1 - a/2.

  Raises:
    ValueError: if the two shapes differ.
  """
  _check_same_shape(logits, labels)
  counts = has_label(labels)
  logits, labels = logits.astype(jnp.float32), _real(labels, counts)
  if label_smoothing:
    labels = labels * (1 - label_smoothing) + label_smoothing / 2
  return _mean_where(optax.sigmoid_binary_cross_entropy(logits, labels), counts)


def frame_xent(logits: Array, labels: Array) -> Array:
  """Cross-entropy of a frame, in nats: logits [B, ..., K], labels of 0 and 1 -> [B].

  The sum over the K keys that sound or not, and the mean over frames; a frame without
  labels counts for nothing: see `has_label`.

  Raises:
    ValueError: if the two shapes differ.
  """
  return binary_xent(logits, labels) * labels.shape[-1]


def softmax_xent(logits: Array, labels: Array, label_smoothing: float = 0.0) -> Array:
  """Cross-entropy of classes, in nats: logits [B, ..., C], labels int [B, ...] -> [B].

  The mean over the labels of an example, as of the steps of a sequence; a label below 0
  counts for nothing. With `label_smoothing` a each class has a/C of the target, and the
  label's 1 - a besides.

  Raises:
    ValueError: if the shapes do not fit, or the labels are no integers.
  """
  _check_classes(logits, labels)
  logits = logits.astype(jnp.float32)
  # optax subtracts the label's logit from the sum's logarithm: of large ones the digits
  # of a small loss would cancel.
  logits -= jax.lax.stop_gradient(jnp.max(logits, -1, keepdims=True))
  values = optax.softmax_cross_entropy_with_integer_labels(
    logits, jnp.maximum(labels, 0)
  )
  if label_smoothing:
    of_all = jax.nn.logsumexp(logits, -1) - jnp.mean(logits, -1)
    values += label_smoothing * (of_all - values)
  return _mean_where(values, labels >= 0)


def accuracy(output: Array, labels: Array) -> Array:
  """The share of right labels: [B, ..., C] or logits [B, ...], labels [B, ...] -> [B].

  Right is the class of the largest output, or as `binary_accuracy` has it where there
  is no axis of classes; a class below 0 counts for nothing, nor does what is no label
  (see `has_label`).

  Raises:
    ValueError: if the shapes do not fit.
  """
  if output.ndim == labels.ndim:
    return _mean_where(binary_accuracy(output, labels), has_label(labels))
  _check_classes(output, labels)
  return _mean_where(jnp.argmax(output, -1) == labels, labels >= 0)


def exact_match(logits: Array, labels: Array) -> Array:
  """1 where each label of an example is right: logits [B, ..., C], labels int -> [B].

  A label below 0 counts for nothing.

  Raises:
    ValueError: if the shapes do not fit, or the labels are no integers.
  """
  _check_classes(logits, labels)
  right = (jnp.argmax(logits, -1) == labels) | (labels < 0)
  return jnp.all(right.reshape(len(right), -1), -1).astype(jnp.float32)


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

  In the unit of the targets: of normalised ones, in their standard deviations. Only
  targets that there are count: see `has_label`.

  Raises:
    ValueError: if the two shapes differ.
  """
  _check_same_shape(predictions, targets)
  counts = has_label(targets)
  error = predictions.astype(jnp.float32) - _real(targets, counts)
  return _mean_where(jnp.abs(error), counts)


def squared_error(predictions: Array, targets: Array) -> Array:
  """(prediction - target)^2, the mean over further axes: [B, ...], [B, ...] -> [B].

  Only targets that there are count: see `has_label`.

  Raises:
    ValueError: if the two shapes differ.
  """
  _check_same_shape(predictions, targets)
  counts = has_label(targets)
  error = predictions.astype(jnp.float32) - _real(targets, counts)
  return _mean_where(jnp.square(error), counts)


def pinball(quantiles: Sequence[float]) -> ExampleFn:
  """The loss of quantiles: (predictions [B, ..., Q], targets [B, ...]) -> [B].

  With e = target - prediction it is max(q e, (q - 1) e), the mean over quantiles and
  further axes, in the unit of the targets: half the absolute error for q = 0.5. Only
  targets that there are count: see `has_label`.

  Source: Koenker & Bassett 1978, Econometrica 46, 33.

  Args:
    quantiles: Q of them, each in (0, 1).

  Raises:
    ValueError: if a quantile is outside of (0, 1); when called, if the shapes do not
      fit.
  """
  if not quantiles or not all(0 < q < 1 for q in quantiles):
    raise ValueError(f'quantiles must lie between 0 and 1, got {list(quantiles)}')
  q = np.asarray(quantiles, np.float32)

  def loss(predictions: Array, targets: Array) -> Array:
    if predictions.shape != (*targets.shape, len(q)):
      raise ValueError(
        f'predictions {predictions.shape} of {len(q)} quantiles need targets '
        f'{predictions.shape[:-1]}, got {targets.shape}'
      )
    counts = has_label(targets)
    error = _real(targets, counts)[..., None] - predictions.astype(jnp.float32)
    at = q.reshape((1,) * targets.ndim + q.shape)
    values = jnp.maximum(at * error, (at - 1) * error)
    return _mean_where(jnp.mean(values, -1), counts)

  return loss


# What `fit` knows by name; better is lower but for the last two.
NAMED: Mapping[str, ExampleFn] = {
  'binary_crossentropy': binary_xent,
  'crossentropy': softmax_xent,
  'frame_crossentropy': frame_xent,
  'mae': absolute_error,
  'mse': squared_error,
  'accuracy': accuracy,
  'exact_match': exact_match,
}


def named(what: str | ExampleFn) -> ExampleFn:
  """The loss or metric of a name of `NAMED`; a function is itself.

  Raises:
    InputError: There is none of that name.
  """
  if callable(what):
    return what
  if what not in NAMED:
    raise InputError(
      f'a loss or metric is a function (output, y) -> [B], or one of '
      f'{", ".join(NAMED)}; got {what!r}'
    )
  return NAMED[what]


def smoothed(loss: ExampleFn, label_smoothing: float) -> ExampleFn:
  """The loss with so much label smoothing; without any, itself.

  Raises:
    InputError: It has no argument `label_smoothing`.
  """
  if not label_smoothing:
    return loss
  if 'label_smoothing' not in inspect.signature(loss).parameters:
    raise InputError(
      f'`label_smoothing={label_smoothing}`: the loss has no such argument; '
      f'binary_crossentropy and crossentropy have'
    )
  return functools.partial(loss, label_smoothing=label_smoothing)  # type: ignore[call-arg]


def class_weighted(loss: ExampleFn, weights: Mapping[int, float]) -> ExampleFn:
  """The loss of each example times the weight of its class; 1 where there is none.

  The mean is still over the number of examples, as in Keras.

  Args:
    loss: Of one label an example.
    weights: Class -> weight.
  """
  table = (
    jnp.ones(max(weights, default=0) + 1)
    .at[jnp.array(list(weights))]
    .set(jnp.array(list(weights.values())))
  )

  def weighted(output: Array, y: Array) -> Array:
    if y.ndim != 1:
      raise ValueError(f'`class_weight` needs one label an example, got {y.shape}')
    factor = table.at[y.astype(jnp.int32)].get(mode='fill', fill_value=1.0)
    return loss(output, y) * factor

  return weighted


def balanced(labels: np.ndarray) -> dict[int, float]:
  """N / (C n_c) for each class c of the labels [N]: classes weigh the same in all."""
  classes, counts = np.unique(labels, return_counts=True)
  if labels.ndim != 1 or not np.array_equal(classes, classes.astype(np.int64)):
    raise InputError('`class_weight=balanced` needs labels [N] that are whole numbers')
  weights = len(labels) / (len(classes) * counts)
  return {int(c): float(w) for c, w in zip(classes, weights, strict=True)}


def has_label(y: Array) -> Array:
  """Where y [B, ...] holds a label, and not what fills a sequence up, bool.

  That is NaN, or `NO_LABEL` among whole numbers. One label an example [B] is always
  one: a NaN there is a mistake, which the loss shows.
  """
  if y.ndim == 1:
    return jnp.ones(y.shape, bool)
  return ~jnp.isnan(y) if jnp.issubdtype(y.dtype, jnp.floating) else y != NO_LABEL


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


def _check_classes(logits: Array, labels: Array) -> None:
  if logits.shape[:-1] != labels.shape or not jnp.issubdtype(labels.dtype, jnp.integer):
    raise ValueError(
      f'logits {logits.shape} of classes need integer labels {logits.shape[:-1]}, got '
      f'{labels.dtype} {labels.shape}'
    )


def _real(y: Array, counts: Array) -> Array:
  """float32, 0 where it does not count: a NaN times 0 would still be one."""
  return jnp.where(counts, y.astype(jnp.float32), 0.0)


def _mean_where(values: Array, counts: Array) -> Array:
  """[B, ...] -> [B], the mean of those that count; 0 where none does."""
  values, counts = values.astype(jnp.float32), counts.astype(jnp.float32)
  if values.ndim == 1:
    return values * counts
  values, counts = (a.reshape(len(a), -1) for a in (values, counts))
  return jnp.sum(values * counts, -1) / jnp.maximum(jnp.sum(counts, -1), 1.0)
