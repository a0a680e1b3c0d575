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

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from seqjax import scan
from seqjax.layers.base import Flags
from seqjax.layers.checks import check_sequence
from seqjax.layers.names import Named
from seqjax.layers.recurrence import Loop, Recurrence
from seqjax.layers.recurrent import RecurrentLayer
from seqjax.types import Array, PyTree


class RNNCell(Named, nn.Module):
  """What `RNN` asks of a cell. Its variables are read in every step, and not written.

  The rng collection `dropout` gives new draws in every step.

  Example:
    >>> class Sum(sj.RNNCell):
    ...   def zero_carry(self, batch_shape, dtype):
    ...     return sj.cells.SimpleRNNCarry(jnp.zeros((*batch_shape, 1), dtype))
    ...   def __call__(self, carry, x, *, train):
    ...     return sj.cells.SimpleRNNCarry(carry.h + x)
    >>> sj.RNN(Sum()).apply({}, jnp.ones((2, 5, 1)), train=False).tolist()
    [[5.0], [5.0]]
  """

  @nn.nowrap
  def zero_carry(self, batch_shape: tuple[int, ...], dtype: Any) -> PyTree:
    """A NamedTuple of zeros [*batch_shape, H], of whatever sizes H."""
    raise NotImplementedError

  def output(self, carry: PyTree) -> PyTree:
    """What is given out after a step: its field h here, or a tree of [..., H]s.

    All that a step gives out is in its carry, so that a masked step can repeat it.
    """
    return carry.h

  def project(self, x: Array) -> PyTree:
    """What needs no carry, for all steps at once: x [..., T, D] -> [..., T, G].

    Here x itself. With parameters, this is the method that is `nn.compact`, and what
    `__call__` uses is declared in `setup`.
    """
    return x

  def __call__(self, carry: PyTree, x: PyTree, *, train: bool) -> PyTree:
    """One step: the carry and `project`'s value [..., G] -> the next carry.

    A cell that is to see the `constants` of the call takes them by that name.
    """
    raise NotImplementedError


class RNN(Recurrence):
  """Runs a cell over sequences, with all that the other recurrent layers offer.

  x may be a tree of arrays [..., T, D], of one batch and T, and y is what the cell's
  `output` makes of its carry. At the call, `constants` are handed to the cell as they
  are at every step: what has no time axis, such as the memory that an attention reads.

  Attributes, beside those of `Recurrence`:
    cell: An `RNNCell`.

  Raises:
    ValueError: when it is made, if `cell` is no RNNCell or a size is less than 1.

  Example:
    >>> x = jax.random.normal(jax.random.key(0), (2, 5, 3))
    >>> rnn = sj.RNN(sj.LayerNormLSTMCell(4), return_sequences=True)
    >>> params = rnn.init(jax.random.key(1), x, train=False)
    >>> rnn.apply(params, x, train=False, mask=jnp.ones((2, 5), bool)).shape
    (2, 5, 4)
  """

  cell: Any
  takes = (*Recurrence.takes, 'constants')

  def __post_init__(self) -> None:
    if not hasattr(self.cell, 'zero_carry'):
      got = type(self.cell).__name__
      hint = ': for several make a Stack of RNNs' if got in ('list', 'tuple') else ''
      raise ValueError(f'cell must be an RNNCell, got {got}{hint}')
    super().__post_init__()

  @nn.nowrap
  def check(self, x: Any, **flags: Flags) -> None:
    """As `Recurrence` asks, of all arrays of x."""
    arrays = jax.tree.leaves(x)
    for array in arrays:
      check_sequence('RNN', array)
    shapes = [array.shape for array in arrays]
    if len({shape[:-1] for shape in shapes}) != 1:
      raise ValueError(f'RNN needs one batch and T in all arrays of x, got {shapes}')
    check_sequence('RNN', arrays[0], **flags)

  @nn.nowrap
  def loop(self, x: Any, train: bool, constants: PyTree = None) -> Loop:
    """As `Recurrence` asks."""
    arrays = jax.tree.leaves(x)
    dtype = jnp.promote_types(jnp.float32, jnp.result_type(*arrays))
    zeros = self.cell.zero_carry(tuple(arrays[0].shape[:-2]), dtype)
    seen = {} if constants is None else {'constants': constants}
    if self.is_initializing():
      first = jax.tree.map(lambda a: a[..., :1, :], x)
      now = jax.tree.map(lambda a: jnp.squeeze(a, -2), self.cell.project(first))
      self.cell.output(self.cell(zeros, now, train=train, **seen))
    cell, variables = self.cell.unbind()
    output = functools.partial(cell.apply, variables, method='output')

    def step(carry: PyTree, x: PyTree, key: Array | None = None) -> PyTree:
      rngs = None if key is None else {'dropout': key}
      return cell.apply(variables, carry, x, train=train, rngs=rngs, **seen)

    def run(sequence: scan.Sequence, options: scan.Options) -> tuple[PyTree, Any]:
      carry = zeros if sequence.carry is None else sequence.carry
      return scan.scan_time(
        step,
        scan.varying_as(arrays[0], carry),
        sequence.x,
        sequence.mask,
        project=project,
        go_backwards=options.go_backwards,
        zero_output_for_mask=options.zero_output_for_mask,
        reset=sequence.reset,
        bptt_steps=options.bptt_steps,
        remat_chunk=options.remat_chunk,
        key=key,
        output=output,
      )

    project = functools.partial(cell.apply, variables, method='project')
    drops = train and self.has_rng('dropout')
    key = self.make_rng('dropout') if drops else None
    return Loop(jax.tree.map(jnp.asarray, x), zeros, None, run, output)


class LayerCell(RNNCell):
  """The cell of a SimpleRNN, LSTM or GRU, for `Zoneout` and others that wrap cells.

  Parameters: those of the layer.

  Attributes:
    layer: The layer, without dropout; of its options only those of the cell count.

  Raises:
    ValueError: when it is made, if the layer has dropout.

  Example:
    >>> x = jax.random.normal(jax.random.key(0), (2, 5, 3))
    >>> layer = sj.RNN(sj.LayerCell(sj.GRU(4)))
    >>> params = layer.init(jax.random.key(1), x, train=False)['params']['cell']
    >>> y = sj.GRU(4).apply({'params': params}, x, train=False)
    >>> bool(jnp.allclose(y, layer.apply({'params': {'cell': params}}, x, train=False)))
    True
  """

  layer: RecurrentLayer

  def __post_init__(self) -> None:
    if self.layer.dropout or self.layer.recurrent_dropout:
      raise ValueError('LayerCell has no dropout: use the layer itself')
    super().__post_init__()

  def setup(self) -> None:
    self.recurrent_kernel = self.layer.declare(self, 'recurrent_kernel')
    self.bias = self.layer.declare(self, 'bias')

  @nn.nowrap
  def zero_carry(self, batch_shape: tuple[int, ...], dtype: Any) -> PyTree:
    """Zeros, as the layer starts from."""
    return self.layer.zeros(batch_shape, dtype)

  @nn.compact
  def project(self, x: Array) -> Array:
    """Input part of all gates: x [..., T, D] -> [..., T, G]."""
    return self.layer.cell().project(self._params(x.shape[-1]), x)

  def __call__(self, carry: PyTree, x: Array, *, train: bool) -> PyTree:
    """One step: carry of [..., H]s and projected x [..., G] -> the next carry."""
    return self.layer.cell().step(self._params(), carry, x)

  @nn.nowrap
  def _params(self, D: int | None = None) -> PyTree:
    """The cell's parameters; without D those of a step, which needs no kernel."""
    kernel = None if D is None else self.layer.declare(self, 'kernel', D)
    return self.layer.params_type(kernel, self.recurrent_kernel, self.bias)
