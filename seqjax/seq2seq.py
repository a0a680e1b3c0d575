"""The encoder-decoder: a sequence is read, and another written, attention between."""

import itertools
from typing import Any, ClassVar, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from seqjax import dropout as dropout_lib
from seqjax.layers import Embedding
from seqjax.layers.base import TrainedLayer, call_options, declared, dropout_key
from seqjax.layers.checks import check_layer, check_sizes, mask_of
from seqjax.layers.stack import from_the_end
from seqjax.layers.wrappers import dot_by_rows
from seqjax.types import Array, PyTree

Attention = Literal['additive', 'dot'] | None


class Memory(NamedTuple):
  """What the decoder sees of the sequences that were read."""

  h: Array  # [B, S, H], the encoder's outputs
  keys: Array | None  # [B, S, H of the decoder], what queries are compared with
  mask: Array  # bool [B, S]


class State(NamedTuple):
  """Where writing stands."""

  carry: PyTree  # of the decoder's layers
  vector: Array  # [B, H], the attentional vector of the step before, or its h


class EncoderDecoder(TrainedLayer):
  """Reads a sequence of ids, and tells the next id of another at each step.

  The encoder's last carry is the decoder's first, by a layer `bridge` with tanh where
  they are of different forms. The decoder's output h at a step is the query: its scores
  with the encoder's outputs m are v tanh(W h + U m) ('additive') or h (U m) ('dot'),
  the weights a are their softmax over real steps, and the logits are those of the
  attentional vector C [h; sum a m] + b. Without attention they are those of h. Luong et
  al. have a tanh around the vector: with 6,000 words it saturates in the direction that
  all words share before it tells one from another, and the loss stays that of how often
  words are.

  Id 0 is padding in both sequences, on either side.

  Sources: Sutskever et al. 2014, arXiv:1409.3215 (no attention); Bahdanau et al. 2015,
  arXiv:1409.0473 (additive scores, the bridge); Luong et al. 2015, arXiv:1508.04025
  (the attentional vector, its 'general' score as 'dot', input feeding); Bengio et al.
  2015, arXiv:1506.03099 (a rate of teacher forcing).

  Attributes:
    source_vocab_size: V of what is read.
    vocab_size: V of what is written.
    embed_size: E, of both embeddings.
    encoder: A recurrent layer, Bidirectional or a Stack of such, with
      `return_sequences` and `return_carry`: [B, S, E] -> (carry, [B, S, H]).
    decoder: The same, forward in time.
    attention: 'additive', 'dot' or None.
    input_feeding: The attentional vector is part of the input of the next step. The
      steps are then a loop of the model, which takes longer than the layers' own.
    teacher_forcing: Rate at which a step of training reads the token that is given, and
      not the most likely one of the step before; one draw a token. Below 1 the steps
      are such a loop too.
    dropout: Rate on the vector that the logits are made of, one mask a sequence.
    return_attention: Return (logits, weights [B, T, S]), not logits.

  Raises:
    ValueError: when it is made, if a size or a rate is out of range, the attention is
      unknown, or a layer does not return sequences and carry.

  Example:
    >>> options = {'return_sequences': True, 'return_carry': True}
    >>> encoder = sj.Bidirectional(sj.LSTM(8, **options))
    >>> model = sj.EncoderDecoder(20, 10, 6, encoder, sj.LSTM(8, **options))
    >>> ids = jnp.array([[[3, 1, 4, 1], [9, 2, 6, 0]]])  # read, and to be written
    >>> params = model.init(jax.random.key(0), ids, train=False)
    >>> model.apply(params, ids, train=False).shape
    (1, 4, 10)
  """

  source_vocab_size: int
  vocab_size: int
  embed_size: int
  encoder: Any
  decoder: Any
  attention: Attention = 'additive'
  input_feeding: bool = False
  teacher_forcing: float = 1.0
  dropout: float = 0.0
  return_attention: bool = False
  takes: ClassVar[tuple[str, ...]] = ('mask',)

  def __post_init__(self) -> None:
    check_sizes(
      source_vocab_size=self.source_vocab_size,
      vocab_size=self.vocab_size,
      embed_size=self.embed_size,
    )
    for name in ('encoder', 'decoder'):
      layer = getattr(self, name)
      check_layer(name, layer)
      known = declared(layer)
      if not known.return_sequences or not known.return_carry:
        raise ValueError(f'{name} needs return_sequences=True and return_carry=True')
    if from_the_end(self.decoder):
      raise ValueError('decoder reads from the end: it cannot write')
    if self.attention not in ('additive', 'dot', None):
      raise ValueError(
        f"attention must be 'additive', 'dot' or None, got {self.attention!r}"
      )
    if self.attention is None and (self.input_feeding or self.return_attention):
      raise ValueError('input_feeding and return_attention need attention')
    dropout_lib.check_rate('dropout', self.dropout)
    if not 0 <= self.teacher_forcing <= 1:
      raise ValueError(f'teacher_forcing must be in [0, 1], got {self.teacher_forcing}')
    super().__post_init__()

  def setup(self) -> None:
    self.source_embedding = Embedding(self.source_vocab_size, self.embed_size)
    self.embedding = Embedding(self.vocab_size, self.embed_size)
    self.bridge = _Bridge()
    if self.attention:
      self.keys = _Projection(use_bias=False)
      self.attend = _Attend(self.attention)
    glorot = nn.initializers.glorot_uniform()
    self.head = nn.Dense(self.vocab_size, kernel_init=glorot, dot_general=dot_by_rows)

  def __call__(
    self,
    ids: Array,
    train: bool | None = None,
    *,
    mask: Array | None = None,
    lengths: Array | None = None,
    **unknown: Any,
  ) -> Any:
    """int ids [B, 2, T] -> logits [B, T, V] of what follows each id that is written.

    Args:
      ids: What is read, and what is written so far, from a token for the start on.
      train: Whether dropout and `teacher_forcing` are on; None: what the field says.
      mask: bool [B, 2, T]; None: ids other than 0 are real.
      lengths: int [B, 2], in place of a mask.
      **unknown: Refused.

    Raises:
      ValueError: if ids are no pairs; as `Embedding`; and what the layers raise.
    """
    train = self.is_training(train, unknown)
    if jnp.ndim(ids) != 3 or ids.shape[1] != 2:
      raise ValueError(f'EncoderDecoder needs ids [B, 2, T], got {jnp.shape(ids)}')
    mask = mask_of('EncoderDecoder', ids, mask, lengths)
    mask = jnp.asarray(ids != 0 if mask is None else mask)
    state, memory = self.encode(ids[:, 0], train, mask=mask[:, 0])
    ids, mask = ids[:, 1], mask[:, 1]
    drop = None
    if train and self.dropout:
      drop = dropout_lib.sequence_mask(
        dropout_key(self), self.dropout, state.vector.shape
      )
    own = train and self.teacher_forcing < 1
    if (own or self.input_feeding) and not self.is_initializing():
      logits, weights = self._by_steps(state, memory, ids, mask, train, own, drop)
    else:
      x = self._input(self._embedded(ids), state.vector[:, None])
      _, h = _run(self.decoder, x, train, mask, state.carry)
      vectors, weights = self._vectors(h, memory)
      logits = self._logits(vectors, drop)
    return (logits, weights) if self.return_attention else logits

  def encode(
    self, ids: Array, train: bool = False, *, mask: Array | None = None
  ) -> tuple[State, Memory]:
    """Reads ids int [B, S]; returns where writing begins, and what it looks at.

    With a mask bool [B, S]; None: ids other than 0 are real.
    """
    mask = jnp.asarray(ids != 0 if mask is None else mask)
    late = declared(self.encoder).takes_lookup and not self.is_initializing()
    x = self.source_embedding(ids, late=late)
    carry, h = _run(self.encoder, x, train, mask)
    zeros, H = self._zeros(len(ids))
    state = State(self.bridge(carry, zeros), jnp.zeros((len(ids), H), h.dtype))
    return state, Memory(h, self.keys(h, H) if self.attention else None, mask)

  def step(
    self, state: State, ids: Array, memory: Memory
  ) -> tuple[State, Array, Array | None]:
    """Reads ids int [B]: -> (state, logits [B, V] of the next, weights [B, S] or None).

    See `decoding.decode`, which goes on with what it chooses of them.
    """
    state, vector, weights = self._step(state, self.embedding(ids), memory, None, False)
    return state, self._logits(vector[:, None], None)[:, 0], weights

  def _zeros(self, B: int) -> tuple[PyTree, int]:
    """A carry of the decoder's form, and how wide its output is."""
    decoder = self.decoder.clone(parent=None)
    x = jax.ShapeDtypeStruct((B, 1, self.embed_size), jnp.float32)

    def first(x: Array) -> Any:
      options = call_options(decoder, train=False)
      return decoder.init_with_output(jax.random.key(0), x, **options)[0]

    carry, h = jax.eval_shape(first, x)
    return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), carry), h.shape[-1]

  def _embedded(self, ids: Array) -> Any:
    """ids [B, T] -> x [B, T, E], or what becomes it in the decoder."""
    late = declared(self.decoder).takes_lookup and not self.input_feeding
    return self.embedding(ids, late=late and not self.is_initializing())

  def _input(self, x: Any, vector: Array) -> Any:
    """x [..., E], with the attentional vector of the step before if it is fed."""
    if not self.input_feeding:
      return x
    vector = jnp.broadcast_to(vector, (*x.shape[:-1], vector.shape[-1]))
    return jnp.concatenate([x, vector], -1)

  def _by_steps(
    self,
    state: State,
    memory: Memory,
    ids: Array,
    mask: Array,
    train: bool,
    own: bool,
    drop: Array | None,
  ) -> tuple[Array, Array | None]:
    """Logits and weights in a loop of the model, which may read its `own` tokens."""
    x = self.embedding(ids)
    given = jnp.ones(mask.shape, bool)
    if own:
      # A draw is of a real step, and [T, B]: padding on either side changes none.
      shape, place = mask.shape[::-1], jnp.cumsum(mask, 1)
      given = jax.random.bernoulli(dropout_key(self), self.teacher_forcing, shape).T
      given = jnp.take_along_axis(given, jnp.maximum(place - 1, 0), 1)
      given |= place <= 1  # the first real token of a row is given always

    def body(model: EncoderDecoder, so_far: Any, xs: Any) -> tuple[Any, Any]:
      (state, chosen), (x, given, real) = so_far, xs
      if own:
        x = jnp.where(_over(given, x), x, model.embedding(chosen))
      state, vector, weights = model._step(state, x, memory, real, train)
      if not own:
        return (state, chosen), (vector, weights)
      logits = model._logits(vector[:, None], drop)[:, 0]
      best = jnp.argmax(logits, -1).astype(chosen.dtype)
      return (state, jnp.where(real, best, chosen)), (logits, weights)

    scan = nn.scan(
      body,
      variable_broadcast='params',
      split_rngs={'params': False, 'dropout': False},  # masks hold for the sequence
      in_axes=1,
      out_axes=1,
    )
    first = state, jnp.zeros(len(ids), jnp.int32)
    _, (made, weights) = scan(self, first, (x, given, mask))
    return made if own else self._logits(made, drop), weights

  def _step(
    self, state: State, x: Array, memory: Memory, real: Array | None, train: bool
  ) -> tuple[State, Array, Array | None]:
    """x [B, E] -> (state, vector [B, H], weights [B, S]); what is not real stays."""
    x = self._input(x, state.vector)
    mask = None if real is None else real[:, None]
    carry, h = _run(self.decoder, x[:, None], train, mask, state.carry)
    vectors, weights = self._vectors(h, memory)
    vector = fed = vectors[:, 0]
    if real is not None:
      fed = jnp.where(_over(real, vector), vector, state.vector)
    return State(carry, fed), vector, None if weights is None else weights[:, 0]

  def _vectors(self, h: Array, memory: Memory) -> tuple[Array, Array | None]:
    """h [B, T, H] -> what logits are made of, likewise, and weights [B, T, S]."""
    return self.attend(h, memory) if self.attention else (h, None)

  def _logits(self, vectors: Array, drop: Array | None) -> Array:
    """vectors [B, T, H], dropped by a mask [B, H] -> [B, T, V]."""
    return self.head(vectors if drop is None else vectors * drop[:, None])


class _Projection(nn.Module):
  """x [..., D] -> [..., H], where H is known at the call."""

  use_bias: bool

  @nn.compact
  def __call__(self, x: Array, features: int) -> Array:
    glorot = nn.initializers.glorot_uniform()
    y = dot_by_rows(x, self.param('kernel', glorot, (x.shape[-1], features)))
    if not self.use_bias:
      return y
    bias = self.param('bias', nn.initializers.zeros, (features,))
    return y + jnp.broadcast_to(bias, y.shape)


class _Bridge(nn.Module):
  """An encoder's carry in the form of a decoder's."""

  @nn.compact
  def __call__(self, carry: PyTree, zeros: PyTree) -> PyTree:
    if jax.tree.map(jnp.shape, carry) == jax.tree.map(jnp.shape, zeros):
      return carry
    leaves, structure = jax.tree.flatten(zeros)
    given = jnp.concatenate(jax.tree.leaves(carry), -1)
    sizes = [a.shape[-1] for a in leaves]
    made = jnp.tanh(_Projection(use_bias=True, name='projection')(given, sum(sizes)))
    ends = list(itertools.accumulate(sizes))[:-1]
    return jax.tree.unflatten(structure, jnp.split(made, ends, -1))


class _Attend(nn.Module):
  """h [B, T, H] -> attentional vectors [B, T, H], and the weights [B, T, S]."""

  kind: str

  @nn.compact
  def __call__(self, h: Array, memory: Memory) -> tuple[Array, Array]:
    H, keys = h.shape[-1], memory.keys
    assert keys is not None  # for mypy
    if self.kind == 'additive':
      query = _Projection(use_bias=True, name='query')(h, H)
      scores = _Score(name='score')(query, keys)
    else:
      scores = jnp.einsum('bth,bsh->bts', h, keys)
    weights = masked_softmax(scores, memory.mask[:, None])
    context = jnp.einsum('bts,bsh->bth', weights, memory.h)
    both = jnp.concatenate([h, context], -1)
    return _Projection(use_bias=True, name='vector')(both, H), weights


class _Score(nn.Module):
  """query [B, T, H] and keys [B, S, H] -> v tanh(query + key), [B, T, S]."""

  @nn.compact
  def __call__(self, query: Array, keys: Array) -> Array:
    glorot = nn.initializers.glorot_uniform()
    kernel = self.param('kernel', glorot, (keys.shape[-1], 1))
    scores: Array = jax.lax.platform_dependent(
      query, keys, kernel, cpu=_additive_by_step, default=_additive
    )
    return scores


def _additive(query: Array, keys: Array, kernel: Array) -> Array:
  """Scores [B, T, S] by v [H, 1]."""
  met = jnp.tanh(query[:, :, None] + keys[:, None])  # [B, T, S, H]
  return dot_by_rows(met, kernel)[..., 0]


def _additive_by_step(query: Array, keys: Array, kernel: Array) -> Array:
  """The same a step of the decoder at a time, and on the way back once more.

  The [B, S, H] of a step stay in a CPU's cache: of 24 steps of 64 rows and 192 units
  a gradient takes 12 ms, and 55 to 70 all at once (a core of an AMD EPYC, Zen 3).
  """

  def step(_: None, query: Array) -> tuple[None, Array]:
    return None, _additive(query[:, None], keys, kernel)[:, 0]

  step = jax.checkpoint(step, prevent_cse=False)
  _, scores = jax.lax.scan(step, None, jnp.swapaxes(query, 0, 1))
  return jnp.swapaxes(scores, 0, 1)


def masked_softmax(scores: Array, mask: Array) -> Array:
  """Softmax over the last axis where the mask is True, 0 elsewhere.

  Of scores [B, T, S] and a mask bool [B, 1, S]; all 0 where nothing is real.
  """
  mask = jnp.broadcast_to(mask, scores.shape)
  # A finite number, or a row without a real step would have gradients that are NaN.
  scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
  return jnp.where(mask, jax.nn.softmax(scores, -1), 0.0)


def _run(
  layer: Any, x: Any, train: bool, mask: Array | None, carry: PyTree = None
) -> tuple[PyTree, Array]:
  """A recurrent layer's carry and outputs [B, T, H]."""
  options = call_options(layer, train=train, mask=mask)
  return layer(x, **options, initial_carry=carry)


def _over(rows: Array, like: Array) -> Array:
  """bool [B] for each number of [B, H]."""
  return jnp.broadcast_to(rows[:, None], like.shape)
