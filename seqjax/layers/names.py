"""What other libraries call an argument, and what there is here."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

_RECIPE = 'docs/features.md has it as a recipe'
_TIME = 'x is [..., T, D]; of [T, B, D] hand over jnp.swapaxes(x, 0, 1)'
_SIZE = 'it is read off x'
_VARIABLES = 'the variables of a cell are read in every step, and none are written'
# Of Keras, linen and nnx, torch.nn, and haiku.
ELSEWHERE = {
  **dict.fromkeys(
    (
      *('units', 'filters', 'hidden_size', 'output_dim', 'output_channels'),
      *('out_channels', 'embedding_dim', 'embed_dim'),
    ),
    'it is called features',
  ),
  **dict.fromkeys(('input_dim', 'vocab_size'), 'it is called num_embeddings'),
  'return_state': 'it is called return_carry',
  'stateful': 'set return_carry and hand the carry to the next call as initial_carry',
  'initial_state': 'it is called initial_carry',
  'hx': 'it is called initial_carry',
  'carry_init': 'hand over an initial_carry',
  'return_all_states': _RECIPE,
  'training': 'it is called train',
  'deterministic': 'its opposite is called train',
  'seq_lengths': 'it is called lengths',
  'sequence_length': 'it is called lengths',
  'time_major': _TIME,
  'batch_first': _TIME,
  'data_format': _TIME,
  'reverse': 'it is called go_backwards',
  'unroll': 'there is nothing to unroll: one loop is compiled, whatever T',
  'use_cudnn': 'it is called implementation',
  'num_layers': 'make a Stack of layers',
  'bidirectional': 'make a Bidirectional of the layer',
  'core': 'it is called cell',
  'layer': 'it is called forward_layer',
  'forward_rnn': 'it is called forward_layer',
  'backward_rnn': 'it is called backward_layer',
  'merge_fn': 'it is called merge_mode',
  'constants': 'an RNN takes them for its cell; for other layers ' + _RECIPE,
  **dict.fromkeys(('activation_fn', 'nonlinearity'), 'it is called activation'),
  'gate_fn': 'it is called recurrent_activation',
  'residual': 'make a cell of your own: docs/guides/own_cell.md has one',
  **dict.fromkeys(('bias', 'with_bias'), 'it is called use_bias'),
  **dict.fromkeys(('kernel_initializer', 'w_i_init'), 'it is called kernel_init'),
  **dict.fromkeys(
    ('recurrent_initializer', 'w_h_init'), 'it is called recurrent_kernel_init'
  ),
  **dict.fromkeys(('bias_initializer', 'b_init'), 'it is called bias_init'),
  'embeddings_initializer': 'it is called embedding_init',
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
  '_freeze': 'it is called frozen',
  'stride': 'it is called strides',
  'kernel_shape': 'it is called kernel_size',
  'rate': 'it is called dropout; in a convolution dilation',
  'trainable': 'an Embedding has frozen; for others there is optim.freeze',
  'weights': 'they are what apply is given; of a file see docs/interop.md',
  **dict.fromkeys(('seed', 'rngs', 'init_key'), 'keys are given to init and apply'),
  **dict.fromkeys(('input_size', 'in_features', 'in_channels'), _SIZE),
  'device': 'a layer runs where its arrays are',
  'dilation_rate': 'it is called dilation',
  'kernel_dilation': 'it is called dilation',
  'feature_group_count': 'it is called groups',
  **dict.fromkeys(('layernorm_epsilon', 'eps'), 'it is called epsilon'),
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
    told = elsewhere.get(name, ELSEWHERE.get(name))
    if told is None:
      raise TypeError(f'{kind} has no argument {name}')
    raise TypeError(f'{kind} has no {name}: {told}')
