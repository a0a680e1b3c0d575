"""Metrics of a whole set, that are no mean over its examples: perplexity, r, spans.

Example:
  >>> perplexity = sj.metrics.perplexity  # fit knows it as 'perplexity'
  >>> logits, labels = jnp.zeros((2, 3, 8)), jnp.array([[1, 2, -1], [5, -1, -1]])
  >>> sums = sj.metrics.sums({'p': perplexity}, logits, labels, jnp.ones(2))
  >>> round(perplexity.value({'nats': sums['p/nats'], 'labels': sums['p/labels']}), 4)
  8.0
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax.numpy as jnp

from seqjax.training import losses
from seqjax.training.losses import ExampleFn
from seqjax.types import Array, InputError

Value = Callable[[Mapping[str, float]], float]  # sums over a set -> a metric


class Compound(NamedTuple):
  """A metric that follows from sums over the examples of a set.

  Attributes:
    parts: Name -> (model's output, y) -> [B], summed up over all examples that weigh
      anything, whatever their weight.
    value: The sums by name -> the metric.

  Example:
    >>> parts = {'square': lambda output, y: (output - y) ** 2, 'n': lambda _, y: y**0}
    >>> rms = sj.metrics.Compound(parts, lambda s: (s['square'] / s['n']) ** 0.5)
    >>> rms.value({'square': 8.0, 'n': 2.0})
    2.0
  """

  parts: Mapping[str, ExampleFn]
  value: Value


Metric = ExampleFn | Compound


def sums(
  metrics: Mapping[str, Metric], output: Array, y: Array, weight: Array
) -> dict[str, Array]:
  """Sums over a batch, float32; rows of weight 0 count for nothing.

  That of a function stands under its name, weighted; those of a `Compound` under
  NAME/PART, where each example counts once.
  """
  once = (weight > 0).astype(jnp.float32)
  result = {}
  for name, metric in metrics.items():
    if isinstance(metric, Compound):
      for part, fn in metric.parts.items():
        result[f'{name}/{part}'] = losses.weighted_sum(fn(output, y), once)
    else:
      result[name] = losses.weighted_sum(metric(output, y), weight)
  return result


def sum_names(metrics: Mapping[str, Metric]) -> list[str]:
  """The names that `sums` has."""
  names = []
  for name, metric in metrics.items():
    if isinstance(metric, Compound):
      names += [f'{name}/{part}' for part in metric.parts]
    else:
      names.append(name)
  return names


def values(metrics: Mapping[str, Metric]) -> dict[str, Value]:
  """What makes a metric of sums, for each `Compound`."""
  return {k: v.value for k, v in metrics.items() if isinstance(v, Compound)}


def named(what: str | Metric) -> Metric:
  """The metric of a name of `NAMED`, or a loss of that name; any other is itself.

  Raises:
    InputError: There is none of that name.
  """
  if not isinstance(what, str):
    return what
  if what not in NAMED:
    raise InputError(
      f'a metric is a function (output, y) -> [B], a Compound, or one of '
      f'{", ".join(NAMED)}; got {what!r}'
    )
  return NAMED[what]


def _labels(logits: Array, labels: Array) -> Array:
  """How many labels there are, [B]; one below 0 is none."""
  return jnp.sum(labels.reshape(len(labels), -1) >= 0, -1, dtype=jnp.float32)


def _nats(logits: Array, labels: Array) -> Array:
  return losses.softmax_xent(logits, labels) * _labels(logits, labels)


def _right(logits: Array, labels: Array) -> Array:
  return losses.accuracy(logits, labels) * _labels(logits, labels)


def _share(sums: Mapping[str, float], of: str) -> float:
  return sums[of] / max(sums['labels'], 1.0)


# All three are of logits [B, ..., C] and labels int [B, ...]: over all labels of the
# set, be its sequences long or short.
perplexity = Compound(
  {'nats': _nats, 'labels': _labels},
  lambda sums: math.exp(min(_share(sums, 'nats'), 700.0)),  # e^710 has no float
)
bits_per_character = Compound(
  {'nats': _nats, 'labels': _labels}, lambda sums: _share(sums, 'nats') / math.log(2)
)
label_accuracy = Compound(
  {'right': _right, 'labels': _labels}, lambda sums: _share(sums, 'right')
)


def _frames(logits: Array, labels: Array) -> Array:
  """How many frames [..., K] have labels, [B]."""
  return (
    jnp.sum(losses.has_label(labels).reshape(len(labels), -1), -1) / logits.shape[-1]
  )


# Of logits [B, ..., K] and labels of 0 and 1: over all frames of the set, the sum over
# keys. Source: Boulanger-Lewandowski et al. 2012, arXiv:1206.6392.
frame_nll = Compound(
  {
    'nats': lambda logits, y: losses.frame_xent(logits, y) * _frames(logits, y),
    'frames': _frames,
  },
  lambda sums: sums['nats'] / max(sums['frames'], 1.0),
)


def _correlation(sums: Mapping[str, float]) -> float:
  n = max(sums['n'], 1.0)
  a, b = sums['a'] / n, sums['b'] / n
  variances = (sums['aa'] / n - a * a) * (sums['bb'] / n - b * b)
  # What float32 sums leave of the variance of a constant is no variance.
  least = (1e-6 * sums['aa'] / n) * (1e-6 * sums['bb'] / n)
  return (sums['ab'] / n - a * b) / math.sqrt(variances) if variances > least else 0.0


# Pearson's r of predictions [B] and targets [B]; 0 where one of them is constant. The
# sums are float32: means should not be many times the spread.
pearson_r = Compound(
  {
    'n': lambda a, b: jnp.ones(a.shape, jnp.float32),
    'a': lambda a, b: a,
    'b': lambda a, b: b,
    'aa': lambda a, b: a * a,
    'bb': lambda a, b: b * b,
    'ab': lambda a, b: a * b,
  },
  _correlation,
)

# What `fit` knows by name.
NAMED: Mapping[str, Metric] = {
  **losses.NAMED,
  'label_accuracy': label_accuracy,
  'perplexity': perplexity,
  'bits_per_character': bits_per_character,
  'frame_nll': frame_nll,
  'pearson_r': pearson_r,
}
