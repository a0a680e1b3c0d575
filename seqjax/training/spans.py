"""Precision, recall and F1 of spans, counted as the script conlleval counts them.

Example:
  >>> table = sj.spans.TagTable(['O', 'B-name', 'I-name'])
  >>> predicted, labels = jnp.array([[1, 2, 0, 1]]), jnp.array([[1, 2, 0, 0]])
  >>> counts = sj.spans.span_counts(table, predicted, labels)
  >>> {name: int(count[0]) for name, count in counts.items()}
  {'right': 1, 'found': 2, 'wanted': 1}
"""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.training.metrics import Compound
from seqjax.types import Array

_SCHEME = 'OBIES'  # outside, begin, inside, end, single


class Spans(NamedTuple):
  """Where spans are, at each step of sequences of tags [..., T]."""

  begins: Array  # bool: a span begins here
  last: Array  # int: where the span that holds this step ends, or a later one
  kind: Array  # int: its type; -1 outside


class TagTable:
  """What tags such as 'B-person' say, for arrays of their ids.

  O is outside, and so is a tag that has no such form and a step without a label. Any
  other tag is in a span: B- begins one, E- ends one, S- is one, and I- goes on with the
  one before it if that has its type, or else begins one.

  Source: conlleval.pl of the shared task of CoNLL-2000, whose count seqeval's default
  mode has too.

  Attributes:
    tags: By id.
  """

  def __init__(self, tags: Sequence[str]):
    parts = [tag.partition('-') for tag in tags]
    inside = [p in tuple('BIES') and bool(dash) for p, dash, _ in parts]
    kinds = sorted({k for (_, _, k), i in zip(parts, inside, strict=True) if i})
    self.tags = tuple(tags)
    self._prefix = np.array(
      [_SCHEME.index(p) if i else 0 for (p, _, _), i in zip(parts, inside, strict=True)]
    )
    self._kind = np.array(
      [kinds.index(k) if i else -1 for (_, _, k), i in zip(parts, inside, strict=True)]
    )

  def spans(self, tags: Array) -> Spans:
    """Ids int [..., T], below 0 where there is none -> the spans in them."""
    real = tags >= 0
    ids = jnp.maximum(tags, 0)
    prefix = jnp.where(real, jnp.asarray(self._prefix)[ids], 0)
    kind = jnp.where(real, jnp.asarray(self._kind)[ids], -1)
    before, kind_before = _shifted(prefix, 0), _shifted(kind, -1)
    O, B, _, E, S = range(len(_SCHEME))
    fresh = (prefix == B) | (prefix == S)
    fresh |= (before == O) | (before == E) | (before == S) | (kind != kind_before)
    begins = (prefix != O) & fresh
    # A span ends where the next step is outside or begins another.
    goes_on = (prefix != O) & ~begins
    ends = ~jnp.concatenate([goes_on[..., 1:], jnp.zeros_like(goes_on[..., :1])], -1)
    T = tags.shape[-1]
    places = jnp.broadcast_to(jnp.arange(T), tags.shape)
    last = jax.lax.cummin(jnp.where(ends, places, T), tags.ndim - 1, reverse=True)
    return Spans(begins, last, kind)


def span_counts(table: TagTable, predicted: Array, labels: Array) -> dict[str, Array]:
  """How many spans of [B, T] tags there are in each row: {'right', 'found', 'wanted'}.

  Right is one of the same type, first and last step. A step where `labels` is below 0
  is outside in both.
  """
  predicted = jnp.where(labels < 0, -1, predicted)
  a, b = table.spans(predicted), table.spans(labels)
  right = a.begins & b.begins & (a.last == b.last) & (a.kind == b.kind)
  count = {'right': right, 'found': a.begins, 'wanted': b.begins}
  return {name: jnp.sum(f, -1, dtype=jnp.float32) for name, f in count.items()}


def span_metrics(tags: Sequence[str]) -> dict[str, Compound]:
  """'f1', 'precision' and 'recall' of logits [B, T, C] and tags int [B, T].

  Over all spans of a set, as the script's last line has them; 0 where there is none.

  Args:
    tags: The name of each class, such as 'O', 'B-person', 'I-person'.
  """
  table = TagTable(tags)

  def count(name: str, logits: Array, labels: Array) -> Array:
    return span_counts(table, jnp.argmax(logits, -1), labels)[name]

  names = ('right', 'found', 'wanted')
  parts = {name: functools.partial(count, name) for name in names}

  def ratio(sums: Mapping[str, float], factor: float, *of: str) -> float:
    return factor * sums['right'] / max(sum(sums[name] for name in of), 1.0)

  return {
    'f1': Compound(parts, lambda sums: ratio(sums, 2.0, 'found', 'wanted')),
    'precision': Compound(parts, lambda sums: ratio(sums, 1.0, 'found')),
    'recall': Compound(parts, lambda sums: ratio(sums, 1.0, 'wanted')),
  }


def _shifted(a: Array, first: int) -> Array:
  """What is one step earlier, [..., T]; `first` before the first."""
  return jnp.concatenate([jnp.full_like(a[..., :1], first), a[..., :-1]], -1)
