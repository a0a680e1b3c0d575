"""Models of the experiments, put together from layers; EncoderDecoder is in seq2seq."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from seqjax.layers import Embedding, GlobalMaxPooling1D
from seqjax.layers.base import (
  Layer,
  TrainedLayer,
  call_layer,
  call_options,
  declared,
)
from seqjax.layers.checks import check_layer, check_sizes, mask_of
from seqjax.layers.initializers import Initializer, keras_uniform
from seqjax.layers.wrappers import dot_by_rows
from seqjax.types import Array


class _OfIds(TrainedLayer):
  """What models of rows of ids have in common.

  Attributes:
    vocab_size: V, with the reserved ids.
    embed_size: E.
    encoder: Any module called as (x [B, T, E], train=, mask=).
    mask_zero: Steps of id 0 are padding and masked.
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
  takes: ClassVar[tuple[str, ...]] = ('mask',)

  def __post_init__(self) -> None:
    check_sizes(vocab_size=self.vocab_size, embed_size=self.embed_size)
    check_layer('encoder', self.encoder)
    super().__post_init__()

  def _embedded(
    self, ids: Array, mask: Array | None, lengths: Array | None
  ) -> tuple[Any, Array | None]:
    """ids [..., T] -> (x [..., T, E], or what becomes it, and the mask)."""
    mask = mask_of(type(self).__name__, ids, mask, lengths)
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
    x = embedding(ids, late=late)
    return x, embedding.compute_mask(ids) if mask is None else mask


class SequenceClassifier(_OfIds):
  """Embedding, an encoder of the sequence, and a logit or one for each class.

  With one logit IMDB's sentiment models; of several classes one holds (the loss
  'crossentropy'), or any number of them ('binary_crossentropy').

  Source: Chollet & Allaire, Deep Learning with R, sections 6.1 and 6.2.

  Attributes:
    vocab_size: V, with the reserved ids.
    embed_size: E.
    encoder: Any module called as (x [B, T, E], train=, mask=) -> [B, H].
    mask_zero: Steps of id 0 are padding and masked; the chapter's models leave it off
      and run over the padding.
    embedding_init: Initialiser of the embedding; see `pretrained`.
    frozen: The embedding stays as it is; see `Embedding`.
    num_classes: C; None for one logit.

  Example:
    >>> ids = jnp.array([[3, 1, 4], [1, 5, 0]])
    >>> model = sj.SequenceClassifier(10, 8, sj.LSTM(4), mask_zero=True)
    >>> params = model.init(jax.random.key(0), ids, train=False)
    >>> model.apply(params, ids, train=False).shape  # logits of the label 1
    (2,)
  """

  num_classes: int | None = None
  return_sequences = False

  @nn.compact
  def __call__(
    self,
    ids: Array,
    train: bool | None = None,
    *,
    mask: Array | None = None,
    lengths: Array | None = None,
    **unknown: Any,
  ) -> Array:
    """int ids [B, T] -> logits [B], of the label 1, or [B, C].

    With a mask bool [B, T], or lengths int [B].

    Raises:
      ValueError: as `Embedding`, of the ids; and what the encoder raises.
    """
    train = self.is_training(train, unknown)
    x, mask = self._embedded(ids, mask, lengths)
    h = _encode(self.encoder, x, train, mask)  # [B, H]
    return _head(h) if self.num_classes is None else _dense(self.num_classes)(h)


class SequenceTagger(_OfIds):
  """Embedding, an encoder that keeps the steps, and the logits of a tag at each.

  Attributes:
    vocab_size: V, with the reserved ids.
    embed_size: E.
    encoder: Any module called as (x [B, T, E], train=, mask=) -> [B, T, H].
    mask_zero: Steps of id 0 are padding and masked.
    embedding_init: Initialiser of the embedding; see `pretrained`.
    frozen: The embedding stays as it is; see `Embedding`.
    num_tags: C.
    num_classes: K, of the sequence as a whole, told by the largest value of each unit
      over the real steps; None: there are none.

  Example:
    >>> encoder = sj.Bidirectional(sj.LSTM(8, return_sequences=True))
    >>> model = sj.SequenceTagger(1000, 16, encoder, num_tags=5, mask_zero=True)
    >>> ids = jnp.ones((2, 7), int)
    >>> params = model.init(jax.random.key(0), ids, train=False)
    >>> model.apply(params, ids, train=False).shape
    (2, 7, 5)
  """

  num_tags: int = 2
  num_classes: int | None = None

  @nn.compact
  def __call__(
    self,
    ids: Array,
    train: bool | None = None,
    *,
    mask: Array | None = None,
    lengths: Array | None = None,
    **unknown: Any,
  ) -> Any:
    """int ids [B, T] -> logits [B, T, C], or these and [B, K].

    With a mask bool [B, T], or lengths int [B].

    Raises:
      ValueError: as `Embedding`, of the ids; and what the encoder raises.
    """
    train = self.is_training(train, unknown)
    x, mask = self._embedded(ids, mask, lengths)
    h = _encode(self.encoder, x, train, mask)  # [B, T, H]
    tags = _dense(self.num_tags)(h)
    if self.num_classes is None:
      return tags
    top = GlobalMaxPooling1D()(h, mask=mask)  # [B, H]
    return tags, _dense(self.num_classes, 'class_head')(top)


class SequenceComparer(_OfIds):
  """A siamese network: how like two sequences are, by one encoder of both.

  The vectors a and b of the two become [|a - b|, a * b], a layer of `features` units
  with a sigmoid, and one number.

  Source: Tai et al. 2015, arXiv:1503.00075, section 4.2.

  Attributes:
    vocab_size: V, with the reserved ids.
    embed_size: E.
    encoder: Any module called as (x [B, 2, T, E], train=, mask=) -> [B, 2, H].
    mask_zero: Steps of id 0 are padding and masked.
    embedding_init: Initialiser of the embedding; see `pretrained`.
    frozen: The embedding stays as it is; see `Embedding`.
    features: Units of the comparison.

  Example:
    >>> model = sj.SequenceComparer(1000, 16, sj.LSTM(8), mask_zero=True)
    >>> ids = jnp.ones((4, 2, 7), int)  # four pairs of sequences
    >>> params = model.init(jax.random.key(0), ids, train=False)
    >>> model.apply(params, ids, train=False).shape
    (4,)
  """

  features: int = 50
  return_sequences = False

  @nn.compact
  def __call__(
    self,
    ids: Array,
    train: bool | None = None,
    *,
    mask: Array | None = None,
    lengths: Array | None = None,
    **unknown: Any,
  ) -> Array:
    """int ids [B, 2, T] -> [B], in the targets' unit.

    With a mask bool [B, 2, T], or lengths int [B, 2].

    Raises:
      ValueError: if ids are no pairs; as `Embedding`; and what the encoder raises.
    """
    train = self.is_training(train, unknown)
    if jnp.ndim(ids) != 3 or ids.shape[1] != 2:
      raise ValueError(f'SequenceComparer needs ids [B, 2, T], got {jnp.shape(ids)}')
    x, mask = self._embedded(ids, mask, lengths)
    h = _encode(self.encoder, x, train, mask)  # [B, 2, H]
    a, b = h[:, 0], h[:, 1]
    both = jnp.concatenate([jnp.abs(a - b), a * b], -1)  # [B, 2H]
    return _head(nn.sigmoid(_dense(self.features, 'comparison')(both)))


class LanguageModel(_OfIds):
  """Embedding, recurrent layers, and the logits of the next token at each step.

  The embedding may be the matrix of the logits too (`tied`; Press & Wolf 2017,
  arXiv:1608.05859). With the carry of one call as `initial_carry` of the next, and
  `reset` where a text begins, a long text is read piece by piece: see `Streams`.

  Attributes:
    vocab_size: V, with the reserved ids.
    embed_size: E.
    encoder: A recurrent layer or a Stack of such, forward in time, with
      `return_sequences` and `return_carry`: [B, T, E] -> (carry, [B, T, H]).
    mask_zero: Steps of id 0 are padding and masked.
    embedding_init: Initialiser of the embedding; see `pretrained`.
    frozen: The embedding stays as it is; see `Embedding`.
    tied: The logits are h W^T + bias with the embedding's W [V, E]; H must be E.
    return_carry: Return (carry, logits), not logits.

  Example:
    >>> layer = sj.LSTM(8, return_sequences=True, return_carry=True)
    >>> model = sj.LanguageModel(65, 16, layer, return_carry=True)
    >>> ids = jnp.ones((2, 7), int)
    >>> params = model.init(jax.random.key(0), ids, train=False)
    >>> carry, logits = model.apply(params, ids, train=False)
    >>> logits.shape  # and on with initial_carry=carry
    (2, 7, 65)
  """

  tied: bool = False
  return_carry: bool = False
  takes = ('mask', 'reset', 'initial_carry')

  @nn.compact
  def __call__(
    self,
    ids: Array,
    train: bool | None = None,
    *,
    mask: Array | None = None,
    initial_carry: Any = None,
    reset: Array | None = None,
    lengths: Array | None = None,
    **unknown: Any,
  ) -> Any:
    """int ids [B, T] -> logits [B, T, V], of the ids one step later.

    Args:
      ids: Of the tokens.
      train: Whether dropout is on; None: what the field says.
      mask: bool [B, T].
      initial_carry: What the call before returned; None: zeros.
      reset: bool [B, T], True where a text begins: the state is zero again there.
      lengths: int [B], how many tokens are real, in place of a mask.
      **unknown: Refused.

    Raises:
      ValueError: as `Embedding`; what the encoder raises; or `tied`, and H is not E.
    """
    train = self.is_training(train, unknown)
    x, mask = self._embedded(ids, mask, lengths)
    options = call_options(self.encoder, train=train, mask=mask)
    options |= {'initial_carry': initial_carry, 'reset': reset}
    carry, h = self.encoder(x, **options)
    logits = self._logits(h)
    return (carry, logits) if self.return_carry else logits

  def _logits(self, h: Array) -> Array:
    """h [..., H] -> logits [..., V]."""
    if not self.tied:
      return _dense(self.vocab_size)(h)
    matrix = self.variables['params']['embedding']['embedding']  # [V, E]
    if h.shape[-1] != self.embed_size:
      raise ValueError(
        f'tied logits need as many units as the embedding is wide, {self.embed_size}; '
        f'got {h.shape[-1]}'
      )
    bias = self.param('bias', nn.initializers.zeros, (self.vocab_size,))
    logits = dot_by_rows(h, matrix.T)
    return logits + jnp.broadcast_to(bias, logits.shape)

  def zero_carry(self, B: int) -> Any:
    """What a first call begins with: zeros, of the encoder's form."""
    ids = jax.ShapeDtypeStruct((B, 1), jnp.int32)
    whole = self.clone(return_carry=True)

    def first(ids: Array) -> Any:
      (carry, _), _ = whole.init_with_output(jax.random.key(0), ids, train=False)
      return carry

    return jax.tree.map(
      lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(first, ids)
    )


class SequenceRegressor(TrainedLayer):
  """An encoder of the sequence, and a number or several: forecasts of the weather.

  Source: Chollet & Allaire, Deep Learning with R, section 6.3.

  Attributes:
    encoder: Any module called as (x [B, T, D], train=, mask=) -> [B, H].
    output_shape: Of what is told of a sequence: () for one number, (C,) for as many as
      there are classes, (K, C, Q) for K steps ahead, C targets and Q quantiles.

  Example:
    >>> x = jax.random.normal(jax.random.key(0), (2, 5, 3))
    >>> model = sj.SequenceRegressor(sj.GRU(4))
    >>> params = model.init(jax.random.key(1), x, train=False)
    >>> model.apply(params, x, train=False).shape
    (2,)
  """

  encoder: nn.Module
  output_shape: tuple[int, ...] = ()
  takes = ('mask',)
  return_sequences = False

  def __post_init__(self) -> None:
    check_layer('encoder', self.encoder)
    check_sizes(**{f'output_shape[{i}]': n for i, n in enumerate(self.output_shape)})
    super().__post_init__()

  @nn.compact
  def __call__(
    self,
    x: Array,
    train: bool | None = None,
    *,
    mask: Array | None = None,
    lengths: Array | None = None,
    **unknown: Any,
  ) -> Array:
    """x [B, T, D] -> [B, *output_shape], in the unit of the training's targets.

    With a mask bool [B, T], or lengths int [B].

    Raises:
      ValueError: if both are given; and what the encoder raises.
    """
    train = self.is_training(train, unknown)
    mask = mask_of('SequenceRegressor', x, mask, lengths)
    h = _encode(self.encoder, x, train, mask)  # [B, H]
    if not self.output_shape:
      return _head(h)
    numbers = _dense(math.prod(self.output_shape))(h)
    return numbers.reshape(*numbers.shape[:-1], *self.output_shape)


def _encode(encoder: Any, x: Any, train: bool, mask: Array | None) -> Any:
  """x [..., T, E] -> what the encoder makes of it."""
  call = call_layer if isinstance(encoder, Layer) else type(encoder).__call__
  return call(encoder, x, train=train, mask=mask)


def _head(h: Array) -> Array:
  """h [B, H] -> [B], with a layer `head` of the module that calls."""
  return jnp.squeeze(_dense(1)(h), -1)


def _dense(features: int, name: str = 'head') -> nn.Dense:
  """A layer of the module that calls."""
  glorot = nn.initializers.glorot_uniform()
  return nn.Dense(features, kernel_init=glorot, dot_general=dot_by_rows, name=name)


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
    # None: of a copy, made for its shapes.
    captured = _at(outputs, path).get('__call__')
    if captured is not None and (own or not has_layers):
      output = jax.tree.leaves(captured)[-1]
      count = sum(math.prod(leaf.shape) for leaf in own.values())
      rows.append(LayerSummary('/'.join(path), kind, output.shape, count))
  return rows


def _at(tree: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any]:
  """The part of a nested dict at `path`; empty where there is none."""
  for name in path:
    tree = tree.get(name, {})
  return tree
