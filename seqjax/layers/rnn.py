"""RNN: a loop over time around a cell of one's own.

The protocol is `RNNCell`: what the state is, and one step. A cell of a line of algebra:

    class Decay(NamedTuple):
      h: Array  # [..., H]

    class DecayCell(sj.RNNCell):
      features: int

      def zero_carry(self, batch_shape, dtype):
        return Decay(jnp.zeros((*batch_shape, self.features), dtype))

      @nn.compact
      def __call__(self, carry, x, *, train):
        return Decay(0.9 * carry.h + nn.Dense(self.features)(x))

    layer = sj.RNN(DecayCell(32), return_sequences=True)
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from seqjax import cells, scan
from seqjax.layers.checks import check_carry, check_sequence, check_sizes
from seqjax.layers.order import output_mask, resets
from seqjax.layers.recurrent import RecurrentLayer
from seqjax.types import Array, PyTree


class RNNCell(nn.Module):
  """What `RNN` asks of a cell. Its variables are read in every step, and not written.

  The rng collection `dropout` gives new draws in every step.
  """

  def zero_carry(self, batch_shape: tuple[int, ...], dtype: Any) -> PyTree:
    """A NamedTuple of zeros [*batch_shape, ...]; its field `h` is the cell's output."""
    raise NotImplementedError

  def project(self, x: Array) -> PyTree:
    """What needs no carry, for all steps at once: x [..., T, D] -> [..., T, G].

    Here x itself. With parameters, this is the method that is `nn.compact`, and what
    `__call__` uses is declared in `setup`.
    """
    return x

  def __call__(self, carry: PyTree, x: PyTree, *, train: bool) -> PyTree:
    """One step: the carry and `project`'s value [..., G] -> the next carry."""
    raise NotImplementedError


class RNN(nn.Module):
  """Runs a cell over sequences, with all that the other recurrent layers offer.

  Attributes:
    cell: An `RNNCell`.
    return_sequences: Return h of all steps [..., T, H], not only of the last real one.
    return_carry: Return (carry, y), not y.
    go_backwards: Process from the last step to the first; y is in that order.
    zero_output_for_mask: The output of a masked step is 0, not the one before it.
    bptt_steps: As in `scan.scan_time`.
    remat_chunk: As in `scan.scan_time`.

  Raises:
    ValueError: when it is made, if `cell` is no RNNCell or a size is less than 1.
  """

  cell: Any
  return_sequences: bool = False
  return_carry: bool = False
  go_backwards: bool = False
  zero_output_for_mask: bool = False
  bptt_steps: int | None = None
  remat_chunk: int | None = None

  def __post_init__(self) -> None:
    if not hasattr(self.cell, 'zero_carry'):
      raise ValueError(f'cell must be an RNNCell, got {type(self.cell).__name__}')
    check_sizes(bptt_steps=self.bptt_steps, remat_chunk=self.remat_chunk)
    super().__post_init__()

  def __call__(
    self,
    x: Array,
    *,
    train: bool,
    mask: Array | None = None,
    initial_carry: Sequence[Array] | None = None,
    reset: Array | None = None,
  ) -> Any:
    """Runs the cell; arguments, result and errors as for `RecurrentLayer`."""
    check_sequence('RNN', x, mask=mask, reset=reset)
    if mask is not None:
      x = jnp.where(jnp.broadcast_to(jnp.expand_dims(mask, -1), x.shape), x, 0)
    dtype = jnp.promote_types(jnp.float32, x.dtype)
    carry = self.cell.zero_carry(tuple(x.shape[:-2]), dtype)
    if initial_carry is not None:
      carry = check_carry('RNN', initial_carry, carry)
    if self.is_initializing():
      projected = self.cell.project(x[..., :1, :])
      now = jax.tree.map(lambda a: jnp.squeeze(a, -2), projected)
      self.cell(carry, now, train=train)
    cell, variables = self.cell.unbind()

    def step(carry: PyTree, x: PyTree, key: Array | None = None) -> PyTree:
      rngs = None if key is None else {'dropout': key}
      return cell.apply(variables, carry, x, train=train, rngs=rngs)

    drops = train and self.has_rng('dropout')
    carry, ys = scan.scan_time(
      step,
      carry,
      jnp.asarray(x),
      mask,
      project=lambda x: cell.apply(variables, x, method='project'),
      go_backwards=self.go_backwards,
      zero_output_for_mask=self.zero_output_for_mask,
      reset=resets(self, reset),
      bptt_steps=self.bptt_steps,
      remat_chunk=self.remat_chunk,
      key=self.make_rng('dropout') if drops else None,
    )
    y = ys if self.return_sequences else carry.h
    return (carry, y) if self.return_carry else y

  def compute_mask(self, x: Array, mask: Array | None) -> Array | None:
    """The mask of y, given that of x: None where y has no time axis."""
    return output_mask(self, mask)


class LayerCell(RNNCell):
  """The cell of a SimpleRNN, LSTM or GRU, for `Zoneout` and others that wrap cells.

  Parameters: those of the layer.

  Attributes:
    layer: The layer, without dropout; of its options only those of the cell count.

  Raises:
    ValueError: when it is made, if the layer has dropout.
  """

  layer: RecurrentLayer

  def __post_init__(self) -> None:
    if self.layer.dropout or self.layer.recurrent_dropout:
      raise ValueError('LayerCell has no dropout: use the layer itself')
    super().__post_init__()

  def setup(self) -> None:
    layer, cell = self.layer, self.layer.cell()
    G, dtype = cell.num_gates * layer.features, layer.param_dtype
    self.recurrent_kernel = self.param(
      'recurrent_kernel', layer.recurrent_kernel_init, (layer.features, G), dtype
    )
    self.bias = None
    if layer.use_bias:
      self.bias = self.param('bias', layer.draw_bias, layer.bias_shape(G), dtype)

  def zero_carry(self, batch_shape: tuple[int, ...], dtype: Any) -> PyTree:
    """Zeros, as the layer starts from."""
    shape = (*batch_shape, self.layer.features)
    return cells.zero_carry(self.layer.cell(), shape, dtype)

  @nn.compact
  def project(self, x: Array) -> Array:
    """Input part of all gates: x [..., T, D] -> [..., T, G]."""
    layer, G = self.layer, self.recurrent_kernel.shape[-1]
    shape, dtype = (x.shape[-1], G), layer.param_dtype
    kernel = self.param('kernel', layer.kernel_init, shape, dtype)
    params = layer.params_type(kernel, self.recurrent_kernel, self.bias)
    return layer.cell().project(params, x)

  def __call__(self, carry: PyTree, x: Array, *, train: bool) -> PyTree:
    """One step: carry of [..., H]s and projected x [..., G] -> the next carry."""
    params = self.layer.params_type(None, self.recurrent_kernel, self.bias)
    return self.layer.cell().step(params, carry, x)
