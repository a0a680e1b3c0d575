"""What other libraries call an argument, and what there is here."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

_RECIPE = 'docs/features.md has it as a recipe'
_TIME = 'x is [..., T, D]; of [T, B, D] hand over jnp.swapaxes(x, 0, 1)'
_SIZE = 'it is read off x'
_VARIABLES = 'the variables of a cell are read in every step, and none are written'
# A name here -> those of Keras, linen and nnx, torch.nn, and haiku.
_CALLED = {
  'features': (
    *('units', 'filters', 'hidden_size', 'output_dim', 'output_channels'),
    *('out_channels', 'embedding_dim', 'embed_dim'),
  ),
  'num_embeddings': ('input_dim', 'vocab_size'),
  'return_carry': ('return_state',),
  'initial_carry': ('initial_state', 'hx'),
  'train': ('training',),
  'lengths': ('seq_lengths', 'sequence_length'),
  'go_backwards': ('reverse',),
  'implementation': ('use_cudnn',),
  'cell': ('core',),
  'forward_layer': ('layer', 'forward_rnn'),
  'backward_layer': ('backward_rnn',),
  'merge_mode': ('merge_fn',),
  'activation': ('activation_fn', 'nonlinearity'),
  'recurrent_activation': ('gate_fn',),
  'use_bias': ('bias', 'with_bias'),
  'kernel_init': ('kernel_initializer', 'w_i_init'),
  'recurrent_kernel_init': ('recurrent_initializer', 'w_h_init'),
  'bias_init': ('bias_initializer', 'b_init'),
  'embedding_init': ('embeddings_initializer',),
  'frozen': ('_freeze',),
  'strides': ('stride',),
  'kernel_size': ('kernel_shape',),
  'dilation': ('dilation_rate', 'kernel_dilation'),
  'groups': ('feature_group_count',),
  'epsilon': ('layernorm_epsilon', 'eps'),
}
# What is told of any name of theirs.
ELSEWHERE = {
  **{theirs: f'it is called {ours}' for ours in _CALLED for theirs in _CALLED[ours]},
  'stateful': 'set return_carry and hand the carry to the next call as initial_carry',
  'carry_init': 'hand over an initial_carry',
  'return_all_states': _RECIPE,
  'deterministic': 'its opposite is called train',
  'time_major': _TIME,
  'batch_first': _TIME,
  'data_format': _TIME,
  'unroll': 'there is nothing to unroll: one loop is compiled, whatever T',
  'num_layers': 'make a Stack of layers',
  'bidirectional': 'make a Bidirectional of the layer',
  'constants': 'an RNN takes them for its cell; for other layers ' + _RECIPE,
  'residual': 'make a cell of your own: docs/guides/own_cell.md has one',
  **{
    f'{of}_{what}': _RECIPE
    for of in ('kernel', 'recurrent', 'bias', 'embeddings', 'activity')
    for what in ('regularizer', 'constraint')
  },
  **dict.fromkeys(
    ('embedding_matrix', '_weight'), 'embedding_init=pretrained(matrix) begins with one'
  ),
  'w_init': 'it is called kernel_init, or embedding_init in an Embedding',
  'padding_idx': 'with mask_zero id 0 is padding',
  'rate': 'it is called dropout; in a convolution dilation',
  'trainable': 'an Embedding has frozen; for others there is optim.freeze',
  'weights': 'they are what apply is given; of a file see docs/interop.md',
  **dict.fromkeys(('seed', 'rngs', 'init_key'), 'keys are given to init and apply'),
  **dict.fromkeys(('input_size', 'in_features', 'in_channels'), _SIZE),
  'device': 'a layer runs where its arrays are',
  **dict.fromkeys(
    ('variable_axes', 'variable_broadcast', 'variable_carry', 'split_rngs'), _VARIABLES
  ),
}


class Named:
  """Refuses options that there are not when an object is made, with their names here.

  Attributes:
    elsewhere: What else is told of a name, where a layer is not as the others are.

  Raises:
    TypeError: when it is made.
  """

  elsewhere: ClassVar[Mapping[str, str]] = {}

  def __new__(cls, *args: Any, **kwargs: Any) -> Self:
    fields = getattr(cls, '__dataclass_fields__', {})
    cls.refuse([name for name in kwargs if name not in fields])
    return super().__new__(cls)

  @classmethod
  def refuse(cls, names: Iterable[str]) -> None:
    """Raises TypeError for an argument that there is not, with its name here."""
    refuse_names(cls.__name__, names, cls.elsewhere)


def refuse_names(
  kind: str, names: Iterable[str], elsewhere: Mapping[str, str] = ELSEWHERE
) -> None:
  """Raises TypeError for an argument that there is not, with its name here."""
  for name in names:
    hint = elsewhere.get(name, ELSEWHERE.get(name))
    if hint is None:
      raise TypeError(f'{kind} has no argument {name}')
    raise TypeError(f'{kind} has no {name}: {hint}')
