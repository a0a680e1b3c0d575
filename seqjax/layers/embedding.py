"""Embedding: rows of a trained matrix, by id."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from seqjax import fast
from seqjax.layers.base import Flags, Layer
from seqjax.layers.checks import check_known, check_sizes, described
from seqjax.layers.initializers import Initializer, keras_uniform
from seqjax.types import Array


def pretrained(matrix: np.ndarray) -> Initializer:
  """An `embedding_init` that starts from a given matrix [V, E].

  `Embedding(V, E, embedding_init=pretrained(matrix), frozen=True)`. The rows are those
  of the ids: row 0 is padding's.

  Raises:
    ValueError: when the layer is initialised, if its [V, E] is another shape.

  Example:
    >>> matrix = np.arange(6.0).reshape(3, 2)
    >>> words = sj.Embedding(3, 2, embedding_init=sj.pretrained(matrix), frozen=True)
    >>> rows, params = words.init_with_output(jax.random.key(0), jnp.array([2, 0]))
    >>> rows.tolist()
    [[4.0, 5.0], [0.0, 1.0]]
  """

  def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    del key
    if tuple(matrix.shape) != tuple(shape):
      raise ValueError(f'Embedding needs a matrix {shape}, got {tuple(matrix.shape)}')
    return jnp.asarray(matrix, dtype)

  return init


def frozen_parameters(model: nn.Module, *args: Any, **kwargs: Any) -> tuple[str, ...]:
  """Paths of the matrices of a model's frozen Embeddings, for `optim.freeze`.

  Args:
    model: A module, with Embeddings at any depth or itself one.
    *args: What it is called with; only shapes and dtypes count.
    **kwargs: Likewise.

  Returns:
    Names in `params`, such as 'encoder/embedding/embedding'; () if nothing is frozen.

  Example:
    >>> model = sj.SequenceClassifier(10, 8, sj.LSTM(4), frozen=True)
    >>> names = sj.frozen_parameters(model, jnp.zeros((2, 5), int), train=False)
    >>> names
    ('embedding/embedding',)
    >>> tx = sj.optim.freeze(optax.adamw(1e-3), *names)
  """
  paths: dict[str, None] = {}

  def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    layer, name = context.module, context.method_name
    if name == '__call__' and isinstance(layer, Embedding) and layer.frozen:
      paths['/'.join((*layer.path, 'embedding'))] = None
    return call(*args, **kwargs)

  def init(*args: Any) -> Any:
    return model.init({'params': jax.random.key(0)}, *args, **kwargs)

  with nn.intercept_methods(note):
    jax.eval_shape(init, *args)
  return tuple(paths)


class Embedding(Layer):
  """Looks ids up in a matrix `embedding` [V, E].

  Ids are checked where they are made. Here NumPy ids are checked once more; ids on the
  device can't be, and there an id outside [0, V) gives a row of NaN, which stops the
  training at the next look at the loss: it never stands for another word.

  Attributes:
    num_embeddings: V, with the reserved ids.
    features: E.
    mask_zero: Id 0 is padding: `compute_mask` is then ids != 0.
    frozen: The matrix stays as it is: it has no gradient, and `loop.train` keeps every
      other term of an optimiser from it, such as weight decay. In a loop of your own
      `optim.freeze(tx, *frozen_parameters(model, ids))` does that.
    embedding_init: Initialiser of the matrix; see `pretrained`.
    dtype: Of the rows returned; None: that of the matrix.
    param_dtype: Of the matrix.

  Raises:
    ValueError: when it is made, if V or E is less than 1.

  Example:
    >>> ids = jnp.array([[3, 1, 0], [2, 0, 0]])
    >>> words = sj.Embedding(10, 8, mask_zero=True)
    >>> rows, params = words.init_with_output(jax.random.key(0), ids)
    >>> rows.shape, words.compute_mask(ids).tolist()
    ((2, 3, 8), [[True, True, False], [True, False, False]])
  """

  num_embeddings: int
  features: int
  mask_zero: bool = False
  frozen: bool = False
  embedding_init: Initializer = keras_uniform
  dtype: Any = None
  param_dtype: Any = jnp.float32
  elsewhere = dict.fromkeys(
    ('mask', 'lengths', 'train'), 'a Stack hands it to the layers that take it'
  )

  def __post_init__(self) -> None:
    check_sizes(num_embeddings=self.num_embeddings, features=self.features)
    super().__post_init__()

  @nn.compact
  def __call__(self, ids: Array, *, late: bool = False, **unknown: Any) -> Any:
    """Integer ids [...] -> rows [..., E].

    With `late` a `fast.Lookup`, for a recurrent layer that then chooses whether to look
    up and project or to project and look up.

    Raises:
      ValueError: if ids are not integers, or NumPy ids lie outside [0, V).
    """
    self.refuse(unknown)
    V = self.num_embeddings
    is_array = hasattr(ids, 'shape') and hasattr(ids, 'dtype')
    if not is_array or not jnp.issubdtype(ids.dtype, jnp.integer):
      raise ValueError(f'Embedding needs integer ids, got {described(ids)}')
    if isinstance(ids, np.ndarray) and ids.size and not 0 <= ids.min() <= ids.max() < V:
      bad = np.argwhere((ids < 0) | (ids >= V))[0].tolist()
      raise ValueError(f'id {ids[tuple(bad)]} at index {bad} is not in [0, {V})')
    embedding = self.param(
      'embedding', self.embedding_init, (V, self.features), self.param_dtype
    )
    if self.frozen:
      embedding = jax.lax.stop_gradient(embedding)
    ids = jnp.asarray(ids)
    if jnp.iinfo(ids.dtype).max < V:
      ids = ids.astype(jnp.int32)  # or V, the mark of a bad id, would not fit
    if self.dtype is not None:
      embedding = embedding.astype(self.dtype)
    lookup = fast.Lookup(ids, embedding)
    return lookup if late else lookup.rows()

  @nn.nowrap
  def compute_mask(self, ids: Array, mask: Flags = None, y: Any = None) -> Flags:
    """Mask [..., T] of ids [..., T]: True where real, and where `mask` is."""
    if not self.mask_zero:
      return mask
    check_known('Embedding', ids)
    return ids != 0 if mask is None else (ids != 0) & mask
