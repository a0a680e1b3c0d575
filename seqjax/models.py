"""Models of the experiments, put together from layers."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from seqjax.layers import Embedding
from seqjax.layers.base import (
  Layer,
  TrainedLayer,
  call_layer,
  call_options,
  declared,
)
from seqjax.layers.initializers import Initializer, keras_uniform
from seqjax.types import Array


class SequenceClassifier(TrainedLayer):
  """Embedding, an encoder of the sequence, and one logit: IMDB's sentiment models.

  Source: Chollet & Allaire, Deep Learning with R, sections 6.1 and 6.2.

  Attributes:
    vocab_size: V, with the reserved ids.
    embed_size: E.
    encoder: Any module called as (x [B, T, E], train=, mask=) -> [B, H].
    mask_zero: Steps of id 0 are padding and masked; the chapter's models leave it off
      and run over the padding.
    embedding_init: Initialiser of the embedding; see `pretrained`.
    frozen: The embedding stays as it is; see `Embedding`.

  Example:
    >>> ids = jnp.array([[3, 1, 4], [1, 5, 0]])
    >>> model = sj.SequenceClassifier(10, 8, sj.LSTM(4), mask_zero=True)
    >>> params = model.init(jax.random.key(0), ids, train=False)
    >>> model.apply(params, ids, train=False).shape  # logits of the label 1
    (2,)
  """

  vocab_size: int
  embed_size: int
  encoder: nn.Module
  mask_zero: bool = False
  embedding_init: Initializer = keras_uniform
  frozen: bool = False
  takes = ('mask',)
  return_sequences = False

  @nn.compact
  def __call__(
    self,
    ids: Array,
    train: bool | None = None,
    *,
    mask: Array | None = None,
    **unknown: Any,
  ) -> Array:
    """int ids [B, T] and mask bool [B, T] -> logits [B], of the label 1.

    Raises:
      ValueError: as `Embedding`, of the ids; and what the encoder raises.
    """
    train = self.is_training(train, unknown)
    embedding = Embedding(
      self.vocab_size,
      self.embed_size,
      mask_zero=self.mask_zero,
      frozen=self.frozen,
      embedding_init=self.embedding_init,
      name='embedding',
    )
    # A recurrent layer right on the embedding may project its rows before it looks them
    # up; `summarize`, which initialises, sees the plain [B, T, E].
    late = declared(self.encoder).takes_lookup and not self.is_initializing()
    x = embedding(ids, late=late)  # [B, T, E]
    if mask is None:
      mask = embedding.compute_mask(ids)
    return _number(self.encoder, x, train, mask)


class SequenceRegressor(TrainedLayer):
  """An encoder of the sequence, and one number: forecasts of the weather.

  Source: Chollet & Allaire, Deep Learning with R, section 6.3.

  Attributes:
    encoder: Any module called as (x [B, T, D], train=, mask=) -> [B, H].

  Example:
    >>> x = jax.random.normal(jax.random.key(0), (2, 5, 3))
    >>> model = sj.SequenceRegressor(sj.GRU(4))
    >>> params = model.init(jax.random.key(1), x, train=False)
    >>> model.apply(params, x, train=False).shape
    (2,)
  """

  encoder: nn.Module
  takes = ('mask',)
  return_sequences = False

  @nn.compact
  def __call__(
    self,
    x: Array,
    train: bool | None = None,
    *,
    mask: Array | None = None,
    **unknown: Any,
  ) -> Array:
    """x [B, T, D] and mask bool [B, T] -> [B], in the unit of the training's targets.

    Raises:
      ValueError: what the encoder raises.
    """
    return _number(self.encoder, x, self.is_training(train, unknown), mask)


def _number(encoder: Any, x: Any, train: bool, mask: Array | None) -> Array:
  """x [B, T, E] -> [B], with a layer `head` of the module that calls."""
  call = call_layer if isinstance(encoder, Layer) else type(encoder).__call__
  h = call(encoder, x, train=train, mask=mask)  # [B, H]
  head = nn.Dense(1, kernel_init=nn.initializers.glorot_uniform(), name='head')
  return jnp.squeeze(head(h), -1)


class LayerSummary(NamedTuple):
  """One row of a model's summary."""

  name: str
  kind: str
  output_shape: tuple[int, ...]
  num_params: int


def summarize(
  model: nn.Module, x_shape: tuple[int, ...], x_dtype: Any
) -> list[LayerSummary]:
  """Lists the layers of a model in the order of their calls, without running it.

  Args:
    model: Called as (x, train=False).
    x_shape: Shape of a batch.
    x_dtype: Its dtype.

  Returns:
    A row for each layer that has parameters of its own or none below it; `num_params`
    add up to the model's.
  """
  kinds: dict[tuple[str, ...], str] = {}

  def record(next_fn: Any, args: Any, kwargs: Any, context: Any) -> Any:
    if context.method_name == '__call__':
      kinds.setdefault(context.module.path, type(context.module).__name__)
    return next_fn(*args, **kwargs)

  def init(key: Array, x: Array) -> Any:
    with nn.intercept_methods(record):
      options = call_options(model, train=False)
      return model.init(key, x, **options, capture_intermediates=True)

  x = jax.ShapeDtypeStruct(x_shape, x_dtype)
  variables = jax.eval_shape(init, jax.random.key(0), x)
  params, outputs = variables.get('params', {}), variables['intermediates']
  rows = []
  for path, kind in kinds.items():
    own = {k: v for k, v in _at(params, path).items() if not isinstance(v, Mapping)}
    has_layers = any(other[: len(path)] == path != other for other in kinds)
    if own or not has_layers:
      output = jax.tree.leaves(_at(outputs, path)['__call__'])[-1]
      count = sum(math.prod(leaf.shape) for leaf in own.values())
      rows.append(LayerSummary('/'.join(path), kind, output.shape, count))
  return rows


def _at(tree: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any]:
  """The part of a nested dict at `path`; empty where there is none."""
  for name in path:
    tree = tree.get(name, {})
  return tree
