"""Models and weights to ONNX and back, by the package onnx (the extra `onnx`).

  >>> from seqjax.interop import onnx
  >>> model, path = sj.Stack([sj.LSTM(4), nn.Dense(1)]), tempfile.mkdtemp() + '/m.onnx'
  >>> params = model.init(jax.random.key(0), jnp.ones((2, 5, 3)), train=False)['params']
  >>> onnx.save(path, onnx.from_model(model, params, shape=(5, 3)))
  >>> onnx.load_into(params, path)['layers_1']['kernel'].shape
  (4, 1)

| operator | here | gates | bias |
|---|---|---|---|
| RNN | SimpleRNN | - | two that are added |
| LSTM | LSTM, with peepholes RNN(PeepholeLSTMCell) | i, o, f, c | two that are added |
| GRU, linear_before_reset 1 | GRU | z, r, h | both rows |
| GRU, linear_before_reset 0 | GRU(reset_after=False) | z, r, h | two that are added |

ONNX has sequence_lens, so rows that end early, and no other masks; beyond a length its
outputs are 0. It has no resets. Source: the operators' documentation, opset 14.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from seqjax import cells, layers
from seqjax.interop import transfer
from seqjax.interop.files import replacing
from seqjax.interop.gates import GATES
from seqjax.interop.libraries import library
from seqjax.interop.weights import DIRECTIONS, MAX_BYTES, join
from seqjax.models import SequenceClassifier, SequenceRegressor
from seqjax.types import InputError, PyTree

OPSET, IR_VERSION = 17, 8
_OPERATORS = {'SimpleRNN': 'RNN', 'LSTM': 'LSTM', 'GRU': 'GRU'}
_CELLS = {operator: cell for cell, operator in _OPERATORS.items()}
# Of LSTM: ONNX's i, o, f, c and our i, f, c, o.
_TO_ONNX, _FROM_ONNX = (0, 3, 1, 2), (0, 2, 3, 1)
# ONNX's names; alpha and beta where they count.
_ACTIVATIONS: dict[Any, tuple[str, float, float]] = {
  jnp.tanh: ('Tanh', 0.0, 0.0),
  jax.nn.relu: ('Relu', 0.0, 0.0),
  jax.nn.sigmoid: ('Sigmoid', 0.0, 0.0),
  jax.nn.hard_sigmoid: ('HardSigmoid', 1 / 6, 0.5),
  cells.hard_sigmoid_keras2: ('HardSigmoid', 0.2, 0.5),
  cells.linear: ('Affine', 1.0, 0.0),
}
# Those that have an alpha, or an alpha and a beta.
_SCALED = {
  **dict.fromkeys(('HardSigmoid', 'Affine', 'ScaledTanh'), 2),
  **dict.fromkeys(('LeakyRelu', 'ThresholdedRelu', 'Elu'), 1),
}


def from_model(
  model: nn.Module,
  params: PyTree,
  *,
  shape: Sequence[int],
  dtype: Any = 'float32',
  lengths: bool = False,
) -> Any:
  """The ONNX model of x [B, T, ...] -> y, in evaluation; any B and T.

  Args:
    model: Of SimpleRNN, LSTM, GRU, Bidirectional, Embedding and nn.Dense: one of these,
      a Stack of them, a SequenceClassifier or a SequenceRegressor.
    params: variables['params'] of the model.
    shape: Of one example, (T, ...).
    dtype: Of x: int32 ids, or float32.
    lengths: The model has a second input `lengths`, int32 [B]: how many steps of each
      row are real, from the first on. What the model masks itself must be the rest.

  Returns:
    An onnx.ModelProto with the inputs `x` and `lengths` and the output `y`.

  Raises:
    InputError: if ONNX can't say what a layer does; it names the layer.
    ImportError: if onnx is not installed.
  """
  onnx = library('onnx')
  kinds, describe = onnx.TensorProto, onnx.helper.make_tensor_value_info
  graph = _Graph(onnx, 'lengths' if lengths else '')
  of_ids = np.dtype(dtype).kind in 'iu'
  y, rank = graph.add(model, params, 'x', len(shape) + 1, '')
  graph.node('Identity', [y], 'y')
  kind = kinds.INT32 if of_ids else kinds.FLOAT
  inputs = [describe('x', kind, ['B', 'T', *shape[1:]])]
  if lengths:
    inputs.append(describe('lengths', kinds.INT32, ['B']))
  outputs = [describe('y', kinds.FLOAT, [None] * rank)]
  made = onnx.helper.make_model(
    onnx.helper.make_graph(graph.nodes, 'seqjax', inputs, outputs, graph.arrays),
    opset_imports=[onnx.helper.make_opsetid('', OPSET)],
    ir_version=IR_VERSION,
    producer_name='seqjax',
  )
  onnx.checker.check_model(made)
  return made


def save(path: str | os.PathLike[str], model: Any) -> None:
  """Writes an onnx.ModelProto; an InputError if that is not possible."""
  with replacing(pathlib.Path(path)) as part:
    part.write_bytes(model.SerializeToString())


def load_into(
  params: PyTree,
  model: str | os.PathLike[str] | Any,
  mapping: Mapping[str, str] | None = None,
  *,
  allow_unused: bool = False,
) -> dict[str, Any]:
  """Parameters of a linen model with the weights of an ONNX model; all, or an error.

  The layers are its RNN, LSTM and GRU nodes, a part for each direction, the Gather of
  an embedding, and Gemm, or MatMul and the Add behind it; matched by kind, then by
  shapes, then by their order in the graph.

  Args:
    params: variables['params'] of the model, or their shapes (jax.eval_shape).
    model: An onnx.ModelProto, or a file, whose arrays are in itself.
    mapping: {path in `params`: node's name}, each of a layer or of what contains
      layers; of a bidirectional node 'NODE/forward_layer'. Only these are loaded.
    allow_unused: The ONNX model may have layers that the model has not.

  Returns:
    New params, in the dtypes of the old.

  Raises:
    InputError: if they do not fit, or the file is none of ONNX; it names both layers.
    ImportError: if onnx is not installed.

  Warns:
    LossyWarning: if numbers have to be rounded to a narrower dtype.
  """
  name = 'the ONNX model'
  if isinstance(model, str | os.PathLike):
    name, model = str(model), _read(pathlib.Path(model))
  source = transfer.Source(name, _weights(model, name), None)
  return transfer.fill(params, source, mapping, allow_unused)


class Part(NamedTuple):
  """One direction of a recurrent node, as a layer of seqjax."""

  direction: str  # 'forward' or 'backward'
  layer: nn.Module  # with return_sequences and return_carry, its y in the order of time
  params: dict[str, Any]


def parts_of(node: Any, arrays: Mapping[str, Any], name: str = '') -> list[Part]:
  """The layers of an RNN, LSTM or GRU node.

  Args:
    node: The onnx.NodeProto.
    arrays: By name, those of W, R, and, if it has them, B and P.
    name: What a message calls the node.

  Raises:
    InputError: if no layer here computes it: clip, input_forget, or an activation.
  """
  onnx, operator = library('onnx'), node.op_type
  where = name or node.name or operator
  options = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
  for option in ('clip', 'input_forget'):
    if options.get(option):
      raise InputError(f'{where} ({operator}): no layer here has {option}')
  given = dict(zip(_inputs(operator), node.input, strict=False))
  read = {key: np.asarray(arrays[i]) for key, i in given.items() if i and key in 'WRBP'}
  direction = options.get('direction', b'forward').decode()
  directions = {
    'forward': ['forward'],
    'reverse': ['backward'],
    'bidirectional': ['forward', 'backward'],
  }[direction]
  functions = _functions(operator, options, len(directions), where)
  H = read['R'].shape[-1]
  reset_after = bool(options.get('linear_before_reset', 0))
  order = _FROM_ONNX if operator == 'LSTM' else range(GATES[_CELLS[operator]])
  parts = []
  for i, own in enumerate(directions):

    def turned(value: np.ndarray) -> np.ndarray:
      return _ordered(value, order).T

    params = {'kernel': turned(read['W'][i]), 'recurrent_kernel': turned(read['R'][i])}
    if 'B' in read:
      both = [turned(half) for half in np.split(read['B'][i], 2)]
      of_gru = operator == 'GRU' and reset_after
      params['bias'] = np.stack(both) if of_gru else both[0] + both[1]
    if 'P' in read:  # i, o, f there
      peepholes = np.split(read['P'][i], 3)
      params['peephole'] = np.stack([peepholes[0], peepholes[2], peepholes[1]])
    layer = _layer(operator, H, functions[i], reset_after, params, own)
    parts.append(Part(own, layer, {'cell': params} if 'P' in read else params))
  return parts


def _inputs(operator: str) -> tuple[str, ...]:
  names = ('X', 'W', 'R', 'B', 'lengths', 'h')
  return (*names, 'c', 'P') if operator == 'LSTM' else names


def _functions(
  operator: str, options: Mapping[str, Any], directions: int, where: str
) -> list[list[Any]]:
  """The activations of each direction, as functions."""
  usual = {
    'RNN': ['Tanh'],
    'GRU': ['Sigmoid', 'Tanh'],
    'LSTM': ['Sigmoid', 'Tanh', 'Tanh'],
  }
  count = len(usual[operator])
  names = [n.decode() for n in options.get('activations', [])] or [
    *usual[operator] * directions
  ]
  alphas, betas = (
    iter(options.get(f'activation_{key}', [])) for key in ('alpha', 'beta')
  )
  chosen = []
  for name in names:  # each in turn takes what it has
    alpha = next(alphas, 0.2) if name in _SCALED else None
    beta = next(betas, 0.5) if _SCALED.get(name) == 2 else 0.0
    for function, (own, own_alpha, own_beta) in _ACTIVATIONS.items():
      same = alpha is None or np.allclose((alpha, beta), (own_alpha, own_beta))
      if own.lower() == name.lower() and same:
        chosen.append(function)
        break
    else:
      given = '' if alpha is None else f' (alpha {alpha}, beta {beta})'
      raise InputError(
        f'{where} ({operator}): no layer here has the activation {name}{given}'
      )
  each = [chosen[i : i + count] for i in range(0, len(chosen), count)]
  for functions in each:
    if operator == 'LSTM' and functions[1] is not functions[2]:
      raise InputError(f'{where} ({operator}): its two activations differ')
  return each


def _layer(
  operator: str, H: int, functions: Sequence[Any], reset_after: bool,
  params: Mapping[str, Any], direction: str,
) -> nn.Module:  # fmt: skip
  options: dict[str, Any] = {
    'return_sequences': True,
    'return_carry': True,
    'zero_output_for_mask': True,
    'go_backwards': direction == 'backward',
    'keep_order': direction == 'backward',
  }
  own: dict[str, Any] = {'activation': functions[-1], 'use_bias': 'bias' in params}
  if operator != 'RNN':
    own['recurrent_activation'] = functions[0]
  if 'peephole' in params:
    return layers.RNN(layers.PeepholeLSTMCell(H, **own), **options)
  if operator == 'GRU':
    own['reset_after'] = reset_after
  return getattr(layers, _CELLS[operator])(H, **own, **options)


class _Graph:
  """Nodes and arrays that are added one after another.

  Attributes:
    nodes: onnx.NodeProtos.
    arrays: onnx.TensorProtos.
  """

  def __init__(self, onnx: Any, lengths: str) -> None:
    self.onnx = onnx
    self.lengths = lengths
    self.nodes: list[Any] = []
    self.arrays: list[Any] = []

  def node(
    self, operator: str, inputs: Sequence[str], name: str = '', **options: Any
  ) -> str:
    """Adds a node; returns the name of its first output, which is the node's own."""
    name = name or f'{operator}_{len(self.nodes)}'
    outputs = options.pop('outputs', [name])
    made = self.onnx.helper.make_node(operator, inputs, outputs, name, **options)
    self.nodes.append(made)
    return name

  def array(self, value: Any) -> str:
    """Adds an array; returns its name."""
    name = f'array_{len(self.arrays)}'
    self.arrays.append(self.onnx.numpy_helper.from_array(np.asarray(value), name))
    return name

  def add(
    self, module: Any, params: Any, x: str, rank: int, path: str
  ) -> tuple[str, int]:
    """Adds a module on x of a rank; returns the name and rank of y.

    Nodes with weights are called by the path of their parameters.
    """
    if isinstance(module, layers.Stack):
      for i, layer in enumerate(module.layers):
        name = f'layers_{i}'
        if self.lengths and getattr(layer, 'turned', False) and layer.return_sequences:
          raise InputError(f'{join(path, name)}: ONNX has no rows that begin late')
        x, rank = self.add(layer, params.get(name, {}), x, rank, join(path, name))
      return x, rank
    if isinstance(module, SequenceClassifier | SequenceRegressor):
      if isinstance(module, SequenceClassifier):
        self._no_mask(module.mask_zero, path)
        x = self._gather(params['embedding'], x, join(path, 'embedding'))
        rank += 1
      y, rank = self.add(
        module.encoder, params['encoder'], x, rank, join(path, 'encoder')
      )
      y = self._dense(params['head'], y, join(path, 'head'))
      if isinstance(module, SequenceRegressor) and module.output_shape:
        shape = module.output_shape
        y = self.node('Reshape', [y, self.array(np.array([-1, *shape]))])
        rank = 1 + len(shape)
      elif getattr(module, 'num_classes', None) is None:
        y, rank = self.node('Squeeze', [y, self.array(np.array([-1]))]), rank - 1
      return y, rank
    if isinstance(module, layers.Embedding):
      self._no_mask(module.mask_zero, path)
      return self._gather(params, x, path), rank + 1
    if isinstance(module, nn.Dense):
      return self._dense(params, x, path), rank
    if isinstance(module, layers.Bidirectional):
      return self._bidirectional(module, params, x, path)
    if isinstance(module, layers.RecurrentLayer):
      return self._recurrent(module, params, x, path)
    kind = getattr(module, '__name__', type(module).__name__)
    raise _cannot(path, f'{kind} is none of the layers that are written to ONNX')

  def _no_mask(self, masks: bool, path: str) -> None:
    if masks and not self.lengths:
      raise _cannot(
        path,
        'ONNX has no masks, but rows that end early: lengths=True, and sequences '
        'padded behind',
      )

  def _gather(self, params: Any, ids: str, name: str) -> str:
    table = self.array(np.asarray(params['embedding'], np.float32))
    return self.node('Gather', [table, ids], name)

  def _dense(self, params: Any, x: str, name: str) -> str:
    kernel = self.array(np.asarray(params['kernel'], np.float32))
    y = self.node('MatMul', [x, kernel], name)
    if 'bias' not in params:
      return y
    return self.node('Add', [y, self.array(np.asarray(params['bias'], np.float32))])

  def _bidirectional(
    self, module: layers.Bidirectional, params: Any, x: str, path: str
  ) -> tuple[str, int]:
    ys = []
    for name in DIRECTIONS:
      layer = getattr(module, name)
      if not isinstance(layer, layers.RecurrentLayer):
        kind = type(layer).__name__
        raise _cannot(join(path, name), f'{kind} is not written to ONNX')
      in_time = layer.clone(keep_order=True)
      y, rank = self._recurrent(in_time, params[name], x, join(path, name))
      ys.append(y)
    if module.merge_mode == 'concat':
      return self.node('Concat', ys, axis=-1), rank
    if module.merge_mode is None:
      raise _cannot(path, 'two outputs (merge_mode None) are not written to ONNX')
    merged = self.node('Mul' if module.merge_mode == 'mul' else 'Add', ys)
    if module.merge_mode == 'ave':
      merged = self.node('Mul', [merged, self.array(np.float32(0.5))])
    return merged, rank

  def _recurrent(
    self, layer: layers.RecurrentLayer, params: Any, x: str, path: str
  ) -> tuple[str, int]:
    operator = _OPERATORS[type(layer).__name__]
    if layer.return_carry:
      raise _cannot(path, 'return_carry is not written to ONNX')
    if self.lengths and layer.return_sequences and not layer.zero_output_for_mask:
      raise _cannot(path, 'beyond a length ONNX gives zeros: zero_output_for_mask=True')
    cell = layer.cell()
    functions = [f for f in (cell.recurrent_activation, cell.activation) if f]
    functions += [cell.activation] if operator == 'LSTM' else []
    for function in functions:
      if function not in _ACTIVATIONS:
        raise _cannot(path, f'ONNX does not know the activation {function!r}')
    gates = [_ACTIVATIONS[function] for function in functions]
    order = _TO_ONNX if operator == 'LSTM' else range(cell.num_gates)

    def turned(value: Any) -> np.ndarray:
      return _ordered(np.asarray(value, np.float32).T, order)

    inputs = [self.node('Transpose', [x], perm=[1, 0, 2])]
    inputs += [
      self.array(turned(params[n])[None]) for n in ('kernel', 'recurrent_kernel')
    ]
    if 'bias' in params:
      bias = np.asarray(params['bias'], np.float32)
      both = bias if bias.ndim == 2 else np.stack([bias, np.zeros_like(bias)])
      inputs.append(self.array(np.concatenate([turned(row) for row in both])[None]))
    if self.lengths:
      inputs += [''] * (4 - len(inputs)) + [self.lengths]
    options: dict[str, Any] = {
      'hidden_size': layer.features,
      'direction': 'reverse' if layer.go_backwards else 'forward',
      'activations': [name for name, _, _ in gates],
    }
    scaled = [(a, b) for _, a, b in gates if a or b]
    if scaled:
      options['activation_alpha'], options['activation_beta'] = map(
        list, zip(*scaled, strict=True)
      )
    if operator == 'GRU':
      options['linear_before_reset'] = int(cell.name == 'gru')
    name = path or operator
    self.node(operator, inputs, name, outputs=[name, f'{name}_h'], **options)
    if not layer.return_sequences:
      return self.node('Squeeze', [f'{name}_h', self.array(np.array([0]))]), 2
    y = self.node('Squeeze', [name, self.array(np.array([1]))])  # [T, B, H]
    y = self.node('Transpose', [y], perm=[1, 0, 2])
    if layer.turned:
      turn = [self.array(np.array([n])) for n in (-1, -(2**31), 1, -1)]
      y = self.node('Slice', [y, *turn])  # from the last to the first, of axis 1, by -1
    return y, 3


def _ordered(value: np.ndarray, order: Sequence[int]) -> np.ndarray:
  """[G, ...] with its gates in another order."""
  blocks = np.split(value, len(order))
  return np.concatenate([blocks[gate] for gate in order])


def _cannot(path: str, why: str) -> InputError:
  return InputError(f'{path or "model"}: {why}')


def _read(path: pathlib.Path) -> Any:
  """The model of a file, of which nothing outside is read."""
  onnx = library('onnx')
  decode_error = library('google.protobuf.message').DecodeError  # onnx brings it
  try:
    size = path.stat().st_size
    if size > MAX_BYTES:
      raise InputError(f'{path}: {size} bytes, more than the {MAX_BYTES} allowed')
    model = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(model)
  except OSError as error:
    raise InputError(f'{path}: {error.strerror or error}') from None
  except (ValueError, decode_error, onnx.checker.ValidationError) as error:
    reason = ' '.join(str(error).split())
    raise InputError(f'{path}: no readable ONNX model: {reason[:200]}') from None
  return model


def _weights(model: Any, where: str) -> dict[str, dict[str, np.ndarray]]:
  """The layers of a graph, in its order, in seqjax's layout."""
  onnx = library('onnx')
  arrays: dict[str, Any] = {}
  for tensor in model.graph.initializer:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
      raise InputError(f'{where}: {tensor.name!r} keeps its data in another file')
    arrays[tensor.name] = onnx.numpy_helper.to_array(tensor)
  for node in model.graph.node:
    if node.op_type == 'Constant' and node.attribute[0].name == 'value':
      arrays[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
  behind = {i: node for node in model.graph.node for i in node.input}
  weights: dict[str, dict[str, np.ndarray]] = {}
  for node in model.graph.node:
    name = (node.name or node.output[0]).strip('/')
    known = [arrays[i] for i in node.input if i in arrays]
    matrices = [a for a in known if a.ndim == 2 and a.dtype.kind == 'f']
    if node.op_type in _CELLS:
      own = parts_of(node, arrays, f'{where}: {name}')
      for part in own:
        inner = f'/{part.direction}_layer' if len(own) > 1 else ''
        weights[name + inner] = part.params.get('cell', part.params)
    elif node.op_type == 'Gather' and matrices and node.input[0] in arrays:
      weights[name] = {'embedding': matrices[0]}
    elif node.op_type == 'Gemm' and matrices:
      options = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
      weights[name] = {
        'kernel': matrices[0].T if options.get('transB') else matrices[0]
      }
      weights[name] |= _bias(known)
    elif node.op_type == 'MatMul' and matrices and node.input[1] in arrays:
      weights[name] = {'kernel': matrices[0]}
      then = behind.get(node.output[0])
      if then is not None and then.op_type == 'Add':
        weights[name] |= _bias([arrays[i] for i in then.input if i in arrays])
  return weights


def _bias(arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
  vectors = [a for a in arrays if a.ndim == 1]
  return {'bias': vectors[0]} if vectors else {}
