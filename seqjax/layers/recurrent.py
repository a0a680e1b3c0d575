"""SimpleRNN, LSTM and GRU as linen modules with Keras's semantics.

A layer declares parameters, draws dropout masks and calls the pure functions of
`seqjax.cells` and, through `seqjax.fast`, the loops over time.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from seqjax import cells, dropout, fast
from seqjax.layers.checks import check_carry, check_sequence, check_sizes
from seqjax.layers.order import output_mask, resets
from seqjax.types import Array, PyTree

Initializer = nn.initializers.Initializer


class RecurrentLayer(nn.Module):
  """What the three recurrent layers have in common.

  Attributes:
    features: Units, H.
    activation: 'tanh', 'relu', 'sigmoid', 'hard_sigmoid', 'linear' or a callable.
    use_bias: Whether there is a parameter `bias`.
    dropout: Rate on the inputs, one mask a sequence and call, in [0, 1).
    recurrent_dropout: Rate on the recurrent state, likewise.
    return_sequences: Return h of all steps [..., T, H], not only of the last real one.
    return_carry: Return (carry, y), not y.
    go_backwards: Process from the last step to the first; y is in that order.
    zero_output_for_mask: The output of a masked step is 0, not the one before it.
    bptt_steps: Gradients stop every so many steps; None: they go all the way.
    remat_chunk: Keep the carry only every so many steps for the backward pass, and
      compute the rest again: memory O(T / k + k), not O(T). None: keep all.
    implementation: 'auto' takes the fast path where it can run; its reverse-mode
      gradients are exact, forward-mode ones need 'reference', the plain scan. 'fast'
      raises ValueError where it can't run.
    kernel_init: Of `kernel` [D, G], drawn for all gates at once.
    recurrent_kernel_init: Of `recurrent_kernel` [H, G], likewise.
    bias_init: Of `bias`.
    dtype: Of the matmuls and of y; None: that of inputs and parameters together. The
      carry is float32, or wider where `dtype` is.
    param_dtype: Of the parameters.

  Raises:
    ValueError: when it is made, if a rate is outside [0, 1), a size is less than 1, or
      an activation or implementation is unknown.
  """

  features: int
  activation: str | cells.Activation = 'tanh'
  use_bias: bool = True
  dropout: float = 0.0
  recurrent_dropout: float = 0.0
  return_sequences: bool = False
  return_carry: bool = False
  go_backwards: bool = False
  zero_output_for_mask: bool = False
  bptt_steps: int | None = None
  remat_chunk: int | None = None
  implementation: str = 'auto'
  kernel_init: Initializer = nn.initializers.glorot_uniform()
  recurrent_kernel_init: Initializer = nn.initializers.orthogonal()
  bias_init: Initializer = nn.initializers.zeros_init()
  dtype: Any = None
  param_dtype: Any = jnp.float32

  def __post_init__(self) -> None:
    dropout.check_rate('dropout', self.dropout)
    dropout.check_rate('recurrent_dropout', self.recurrent_dropout)
    check_sizes(
      features=self.features, bptt_steps=self.bptt_steps, remat_chunk=self.remat_chunk
    )
    fast.check_implementation(self.implementation)
    self.cell()  # refuses an unknown activation here, not at the first call
    super().__post_init__()

  @nn.compact
  def __call__(
    self,
    x: Array | fast.Lookup,
    *,
    train: bool,
    mask: Array | None = None,
    initial_carry: PyTree | None = None,
    reset: Array | None = None,
  ) -> Any:
    """Runs the layer over sequences.

    Args:
      x: [..., T, D], any number of leading batch axes; or an embedding's `Lookup`.
      train: Whether to drop; if so the rng collection `dropout` is used.
      mask: bool [..., T], True where a step is real. A masked step carries the state
        through. A row without a real step returns its initial state.
      initial_carry: The cell's carry, each field [..., H]; None: zeros.
      reset: bool [..., T], True at the first step of an episode, for sequences that
        hold several: there the state is zero again. With `go_backwards` it is so
        before an episode's last step, so that no episode sees another either way.

    Returns:
      y [..., T, H] with `return_sequences`, else [..., H]; with `return_carry`
      (carry, y).

    Raises:
      ValueError: if the shapes of x, mask, reset and initial_carry do not fit together.
    """
    cell = self.cell()
    values: Any = x
    described: Any = x
    if isinstance(x, fast.Lookup):
      values = x.embedding
      described = jax.ShapeDtypeStruct(x.shape, values.dtype)
    check_sequence(type(self).__name__, described, mask=mask, reset=reset)
    *batch_shape, _, D = x.shape
    params = self._params(D, cell.num_gates * self.features)
    values, *params = promote_dtype(values, *params, dtype=self.dtype)
    dtype = values.dtype
    carry = None
    if initial_carry is not None:
      zeros = cells.zero_carry(
        cell, (*batch_shape, self.features), jnp.promote_types(jnp.float32, dtype)
      )
      carry = check_carry(type(self).__name__, initial_carry, zeros)
    # Where masked: even a NaN there must not reach the gradient of `kernel`.
    if isinstance(x, fast.Lookup):
      x = fast.Lookup(x.ids if mask is None else jnp.where(mask, x.ids, 0), values)
    elif mask is not None:
      x = jnp.where(jnp.broadcast_to(jnp.expand_dims(mask, -1), x.shape), values, 0)
    else:
      x = values
    x_mask = h_mask = None
    if train and (self.dropout or self.recurrent_dropout):
      x_mask, h_mask = dropout.recurrent_masks(
        self.make_rng('dropout'),
        dropout=self.dropout,
        recurrent_dropout=self.recurrent_dropout,
        batch_shape=tuple(batch_shape),
        input_size=D,
        features=self.features,
        num_gates=cell.num_gates,
      )
    sequence = fast.Sequence(x, carry, mask, resets(self, reset), x_mask, h_mask)
    options = fast.Options(
      go_backwards=self.go_backwards,
      zero_output_for_mask=self.zero_output_for_mask,
      return_sequences=self.return_sequences,
      bptt_steps=self.bptt_steps,
      remat_chunk=self.remat_chunk,
    )
    carry, ys = fast.recur(
      cell, self.params_type(*params), sequence, options, self.implementation
    )
    y = (carry.h if ys is None else ys).astype(dtype)
    return (carry, y) if self.return_carry else y

  def compute_mask(self, x: Array, mask: Array | None) -> Array | None:
    """The mask of y, given that of x: None where y has no time axis."""
    return output_mask(self, mask)

  params_type: ClassVar[type]

  def cell(self) -> cells.Cell:
    """The pure functions of the cell."""
    raise NotImplementedError

  def bias_shape(self, G: int) -> tuple[int, ...]:
    """The shape of `bias`."""
    return (G,)

  def draw_bias(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """The initialiser of `bias`."""
    return self.bias_init(key, shape, dtype)

  def _params(self, D: int, G: int) -> list[Array | None]:
    kernel = self.param('kernel', self.kernel_init, (D, G), self.param_dtype)
    recurrent_kernel = self.param(
      'recurrent_kernel',
      self.recurrent_kernel_init,
      (self.features, G),
      self.param_dtype,
    )
    bias = None
    if self.use_bias:
      bias = self.param('bias', self.draw_bias, self.bias_shape(G), self.param_dtype)
    return [kernel, recurrent_kernel, bias]


class SimpleRNN(RecurrentLayer):
  """h' = act(x W + h U + b).

  Parameters kernel [D, H], recurrent_kernel [H, H], bias [H]. Attributes and errors:
  those of `RecurrentLayer`. Source: Elman 1990, as Keras's SimpleRNN has it.
  """

  params_type = cells.SimpleRNNParams

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
  """

  recurrent_activation: str | cells.Activation = 'sigmoid'
  unit_forget_bias: bool = True
  params_type = cells.LSTMParams

  def cell(self) -> cells.Cell:
    return cells.lstm(
      cells.activation_function(self.activation),
      cells.activation_function(self.recurrent_activation),
    )

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
  """

  recurrent_activation: str | cells.Activation = 'sigmoid'
  reset_after: bool = True
  params_type = cells.GRUParams

  def cell(self) -> cells.Cell:
    return cells.gru(
      cells.activation_function(self.activation),
      cells.activation_function(self.recurrent_activation),
      reset_after=self.reset_after,
    )

  def bias_shape(self, G: int) -> tuple[int, ...]:
    return (2, G) if self.reset_after else (G,)
