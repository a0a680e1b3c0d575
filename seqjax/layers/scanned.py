"""ScannedRNN: the recurrent core of agents that learn by reinforcement, time first."""

from typing import Any, ClassVar, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp

from seqjax import cells
from seqjax.layers.base import Layer
from seqjax.layers.checks import check_carry, check_optional_sizes, described
from seqjax.layers.recurrent import GRU, LSTM, RecurrentLayer, SimpleRNN
from seqjax.types import Array, PyTree

Kind = Literal['gru', 'lstm', 'simple_rnn']


class _GRU(GRU):
  time_first = True


class _LSTM(LSTM):
  time_first = True


class _SimpleRNN(SimpleRNN):
  time_first = True


_LAYERS: dict[str, type[RecurrentLayer]] = {
  'gru': _GRU,
  'lstm': _LSTM,
  'simple_rnn': _SimpleRNN,
}


class ScannedRNN(Layer):
  """A drop-in for the class of that name in PureJaxRL and what is built like it.

  There it is a scan around flax.linen's cell that each repository writes for itself;
  here it is a layer, called the same way:

      carry, ys = ScannedRNN()(carry, (xs, resets))

  Its carry is an array [B, H]; that of an LSTM has fields h and c, flax's is (c, h).
  Parameters: those of the layer, below `rnn`. `interop.linen` moves flax's in.

  Attributes:
    features: Units, H; None: as many as there are inputs, D.
    cell: 'gru', 'lstm' or 'simple_rnn'.
    implementation: That of the layer.

  Raises:
    ValueError: when it is made, if the cell is unknown or features are less than 1.

  Example:
    >>> xs, resets = jnp.ones((7, 2, 4)), jnp.zeros((7, 2), bool)
    >>> core, carry = sj.ScannedRNN(), sj.ScannedRNN.initialize_carry(2, 4)
    >>> params = core.init(jax.random.key(0), carry, (xs, resets))
    >>> carry, ys = core.apply(params, carry, (xs, resets))
    >>> carry.shape, ys.shape
    ((2, 4), (7, 2, 4))
  """

  features: int | None = None
  cell: Kind = 'gru'
  implementation: str = 'auto'
  elsewhere: ClassVar[dict[str, str]] = {
    **dict.fromkeys(('time_major', 'batch_first'), 'its xs are [T, B, D]'),
    **dict.fromkeys(
      ('mask', 'lengths', 'seq_lengths'), 'resets say where the next episode begins'
    ),
    **dict.fromkeys(('train', 'training', 'deterministic'), 'it drops nothing'),
    **dict.fromkeys(('initial_carry', 'initial_state'), 'it is its first argument'),
    'reset': 'resets come with xs, as a pair',
    'return_carry': 'it always returns (carry, ys)',
    'return_sequences': 'it always returns all steps',
  }

  def __post_init__(self) -> None:
    check_optional_sizes(features=self.features)
    _layer_class(self.cell)
    super().__post_init__()

  @nn.compact
  def __call__(
    self, carry: PyTree, x: tuple[Array, Array], **unknown: Any
  ) -> tuple[PyTree, Array]:
    """Runs over whole sequences, to learn, or one step, to act.

    Args:
      carry: What `initialize_carry` or the last call returned: [B, H], of an LSTM an
        LSTMCarry of two.
      x: (xs [T, B, D], resets bool [T, B]), True where an episode begins: the state is
        zero before that step. One step without its axis, ([B, D], [B]), will do too.
      **unknown: Refused.

    Returns:
      (carry after the last step, h of all steps [T, B, H]; of one step [B, H]).

    Raises:
      ValueError: if the shapes do not fit together.
    """
    self.refuse(unknown)
    xs, resets = x
    if jnp.ndim(xs) not in (2, 3) or jnp.shape(resets) != jnp.shape(xs)[:-1]:
      raise ValueError(
        'ScannedRNN needs (xs [T, B, D], resets [T, B]) or ([B, D], [B]), got '
        f'{described(xs)} and {described(resets)}'
      )
    one = xs.ndim == 2
    by_row = jax.tree.map(
      lambda a: jnp.expand_dims(a, 1) if one else jnp.swapaxes(a, 0, 1),
      (xs, jnp.asarray(resets, bool)),
    )
    layer = _layer_class(self.cell)(
      self.features or xs.shape[-1],
      return_sequences=True,
      return_carry=True,
      implementation=self.implementation,
      name='rnn',
    )
    zeros = layer.zeros(by_row[0].shape[:1], xs.dtype)
    if len(zeros) == 1 and not isinstance(carry, tuple):
      carry = type(zeros)(carry)  # of one field: an array, as flax has it
    carry = check_carry('ScannedRNN', carry, zeros)
    carry, ys = layer(by_row[0], False, reset=by_row[1], initial_carry=carry)
    ys = jnp.squeeze(ys, 1) if one else jnp.swapaxes(ys, 0, 1)
    return carry if len(carry) > 1 else carry.h, ys

  @staticmethod
  def initialize_carry(batch_size: int, hidden_size: int, cell: Kind = 'gru') -> PyTree:
    """Zeros [B, H] in float32; of an LSTM, an LSTMCarry of two."""
    layer = _layer_class(cell)(1, parent=None)  # else of the module that calls this
    zeros = cells.zero_carry(layer.cell(), (batch_size, hidden_size))
    return zeros if len(zeros) > 1 else zeros.h


def _layer_class(cell: Any) -> type[RecurrentLayer]:
  if cell not in _LAYERS:
    raise ValueError(f'cell must be one of {", ".join(get_args(Kind))}, got {cell!r}')
  return _LAYERS[cell]
