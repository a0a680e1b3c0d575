"""SimpleRNN, LSTM and GRU as linen modules with Keras's semantics.

A layer declares parameters, draws dropout masks and calls the pure functions of
`seqjax.cells` and, through `seqjax.fast`, the loops over time.
"""

import contextlib
import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from seqjax import cells, dropout, fast
from seqjax.layers.base import dropout_key
from seqjax.layers.checks import check_sizes
from seqjax.layers.initializers import (
  Initializer,
  glorot_uniform,
  in_float32,
  orthogonal,
  zeros,
)
from seqjax.layers.recurrence import Loop, Recurrence
from seqjax.types import Array, PyTree


class RecurrentLayer(Recurrence):
  """What the three recurrent layers have in common.

  Attributes, beside those of `Recurrence`:
    features: Units, H.
    activation: 'tanh', 'relu', 'sigmoid', 'hard_sigmoid', 'linear' or a callable.
    use_bias: Whether there is a parameter `bias`.
    dropout: Rate on the inputs, one mask a sequence and call, in [0, 1).
    recurrent_dropout: Rate on the recurrent state, likewise.
    implementation: 'auto' takes the fast path where it can run, 'reference' is the
      plain scan; 'fast' raises ValueError where it can't run.
    kernel_init: Of `kernel` [D, G], drawn for all gates at once.
    recurrent_kernel_init: Of `recurrent_kernel` [H, G], likewise.
    bias_init: Of `bias`.
    dtype: Of the matmuls and of y; None: that of inputs and parameters together. The
      carry is float32, or wider where `dtype` is.
    param_dtype: Of the parameters.
    precision: Of the matmuls: 'default', 'high', 'highest' or a jax.lax.Precision;
      None: what `jax.default_matmul_precision` says. On a GPU JAX's default is TF32,
      right to 1e-3; 'highest' is float32. The kernels' own products are float32 always.

  Raises:
    ValueError: when it is made, if a rate is outside [0, 1), a size is less than 1, or
      an activation, implementation or precision is unknown.
  """

  features: int
  activation: str | cells.Activation = 'tanh'
  use_bias: bool = True
  dropout: float = 0.0
  recurrent_dropout: float = 0.0
  implementation: str = 'auto'
  kernel_init: Initializer = glorot_uniform
  recurrent_kernel_init: Initializer = orthogonal
  bias_init: Initializer = zeros
  dtype: Any = None
  param_dtype: Any = jnp.float32
  precision: str | jax.lax.Precision | None = None
  takes_lookup = True
  params_type: ClassVar[type]
  time_first: ClassVar[bool] = False  # as in `fast.Options`

  def __post_init__(self) -> None:
    dropout.check_rate('dropout', self.dropout)
    dropout.check_rate('recurrent_dropout', self.recurrent_dropout)
    check_sizes(features=self.features)
    fast.dispatch.check_implementation(self.implementation)
    self.cell()  # refuses an unknown activation here, not at the first call
    self._matmuls()  # likewise
    super().__post_init__()

  @nn.nowrap
  def cell(self) -> cells.Cell:
    """The pure functions of the cell."""
    raise NotImplementedError

  @nn.nowrap
  def bias_shape(self, G: int) -> tuple[int, ...]:
    """The shape of `bias`."""
    return (G,)

  @nn.nowrap
  def draw_bias(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """The initialiser of `bias`."""
    return self.bias_init(key, shape, dtype)

  @nn.nowrap
  def declare(self, module: nn.Module, name: str, D: int = 0) -> Array | None:
    """Declares in `module` one of the layer's parameters; None: there is no such bias.

    Args:
      module: The layer itself, or a cell that has its parameters.
      name: 'kernel', 'recurrent_kernel' or 'bias'.
      D: Inputs, for the kernel.
    """
    G = self.cell().num_gates * self.features
    init, shape = {
      'kernel': (self.kernel_init, (D, G)),
      'recurrent_kernel': (self.recurrent_kernel_init, (self.features, G)),
      'bias': (self.draw_bias, self.bias_shape(G)),
    }[name]
    if name == 'bias' and not self.use_bias:
      return None
    return module.param(name, in_float32(init), shape, self.param_dtype)

  @nn.nowrap
  def zeros(self, batch_shape: tuple[int, ...], dtype: Any) -> PyTree:
    """The carry of zeros, each field [*batch_shape, H], in float32 or wider."""
    dtype = jnp.promote_types(jnp.float32, dtype)
    return cells.zero_carry(self.cell(), (*batch_shape, self.features), dtype)

  @nn.nowrap
  def loop(self, x: Array | fast.Lookup, train: bool) -> Loop:
    """As `Recurrence` asks."""
    *batch_shape, _, D = x.shape
    params = [self.declare(self, n, D) for n in ('kernel', 'recurrent_kernel', 'bias')]
    values = x.embedding if isinstance(x, fast.Lookup) else x
    values, *params = promote_dtype(values, *params, dtype=self.dtype)
    x = fast.Lookup(x.ids, values) if isinstance(x, fast.Lookup) else values
    zeros = self.zeros(tuple(batch_shape), values.dtype)
    run = functools.partial(self._run, self.params_type(*params), train)
    return Loop(x, zeros, values.dtype, run)

  @nn.nowrap
  def _run(
    self,
    params: PyTree,
    train: bool,
    sequence: fast.Sequence,
    options: fast.Options,
  ) -> tuple[PyTree, Any]:
    cell, (*batch_shape, _, D) = self.cell(), sequence.x.shape
    x_mask = h_mask = None
    if train and (self.dropout or self.recurrent_dropout):
      x_mask, h_mask = dropout.recurrent_masks(
        dropout_key(self),
        dropout=self.dropout,
        recurrent_dropout=self.recurrent_dropout,
        batch_shape=tuple(batch_shape),
        input_size=D,
        features=self.features,
        num_gates=cell.num_gates,
      )
    sequence = sequence._replace(x_mask=x_mask, h_mask=h_mask)
    options = options._replace(time_first=self.time_first)
    with self._matmuls():
      return fast.recur(cell, params, sequence, options, self.implementation)

  @nn.nowrap
  def _matmuls(self) -> contextlib.AbstractContextManager[Any]:
    if self.precision is None:
      return contextlib.nullcontext()
    name = getattr(self.precision, 'name', self.precision)
    try:
      return jax.default_matmul_precision(str(name).lower())
    except ValueError as error:
      raise ValueError(f'precision: {error}') from error


class SimpleRNN(RecurrentLayer):
  """h' = act(x W + h U + b).

  Parameters kernel [D, H], recurrent_kernel [H, H], bias [H]. Attributes and errors:
  those of `RecurrentLayer`. Source: Elman 1990, as Keras's SimpleRNN has it.

  Example:
    >>> x = jax.random.normal(jax.random.key(0), (2, 5, 3))  # [B, T, D]
    >>> rnn = sj.SimpleRNN(4, activation='relu')
    >>> params = rnn.init(jax.random.key(1), x, train=False)
    >>> rnn.apply(params, x, train=False).shape  # the last output of each row
    (2, 4)
  """

  params_type = cells.SimpleRNNParams

  @nn.nowrap
  def cell(self) -> cells.Cell:
    return cells.simple_rnn(cells.activation_function(self.activation))


class LSTM(RecurrentLayer):
  """Long short-term memory; gates in the order i, f, c, o.

  c' = f * c + i * act(x Wc + h Uc + b_c); h' = o * act(c'). Parameters kernel [D, 4H],
  recurrent_kernel [H, 4H], bias [4H]. Sources: Hochreiter & Schmidhuber 1997; Gers et
  al. 2000 (forget gate); Keras's LSTM.

  Attributes, beside those of `RecurrentLayer`:
    recurrent_activation: Of the gates i, f and o.
    unit_forget_bias: The forget gate's quarter of the bias starts at 1.

  Example:
    >>> x = jax.random.normal(jax.random.key(0), (2, 5, 3))  # [B, T, D]
    >>> lstm = sj.LSTM(4, return_sequences=True, return_carry=True)
    >>> params = lstm.init(jax.random.key(1), x, train=False)
    >>> carry, y = lstm.apply(params, x, train=False, lengths=jnp.array([5, 2]))
    >>> y.shape, carry.h.shape, carry.c.shape
    ((2, 5, 4), (2, 4), (2, 4))
  """

  recurrent_activation: str | cells.Activation = 'sigmoid'
  unit_forget_bias: bool = True
  params_type = cells.LSTMParams

  @nn.nowrap
  def cell(self) -> cells.Cell:
    return cells.lstm(
      cells.activation_function(self.activation),
      cells.activation_function(self.recurrent_activation),
    )

  @nn.nowrap
  def draw_bias(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    bias = super().draw_bias(key, shape, dtype)
    if not self.unit_forget_bias:
      return bias
    return bias.at[self.features : 2 * self.features].set(1)


class GRU(RecurrentLayer):
  """Gated recurrent unit; gates in the order z, r, h, and h' = z * h + (1 - z) * n.

  Parameters kernel [D, 3H], recurrent_kernel [H, 3H], bias [2, 3H] (input row and
  recurrent row; [3H] without `reset_after`). Sources: Cho et al. 2014, arXiv:1406.1078
  (without `reset_after`); Keras's GRU.

  Attributes, beside those of `RecurrentLayer`:
    recurrent_activation: Of the gates z and r.
    reset_after: The reset gate multiplies h U (as cuDNN and Keras have it), not h.

  Example:
    >>> x = jax.random.normal(jax.random.key(0), (2, 5, 3))  # [B, T, D]
    >>> gru = sj.GRU(4, dropout=0.2, recurrent_dropout=0.2)
    >>> params = gru.init(jax.random.key(1), x, train=False)
    >>> gru.apply(params, x, train=True, rngs={'dropout': jax.random.key(2)}).shape
    (2, 4)
  """

  recurrent_activation: str | cells.Activation = 'sigmoid'
  reset_after: bool = True
  params_type = cells.GRUParams

  @nn.nowrap
  def cell(self) -> cells.Cell:
    return cells.gru(
      cells.activation_function(self.activation),
      cells.activation_function(self.recurrent_activation),
      reset_after=self.reset_after,
    )

  @nn.nowrap
  def bias_shape(self, G: int) -> tuple[int, ...]:
    return (2, G) if self.reset_after else (G,)
