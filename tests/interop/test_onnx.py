"""To ONNX, held against onnxruntime, and back; ONNX's own tests by our layers."""

import functools
import importlib

import flax.linen as nn
import jax
import numpy as np
import pytest

import seqjax as sj
from seqjax.interop import onnx as interop
from seqjax.types import InputError

onnx = pytest.importorskip('onnx')

B, T, D, H, V = 3, 6, 4, 5, 9


def drawn(model, x):
  init = functools.partial(model.init, train=False)
  shapes = jax.eval_shape(init, jax.random.key(0), x)['params']
  rng = np.random.default_rng(1)
  return jax.tree.map(
    lambda s: (0.5 * rng.standard_normal(s.shape)).astype(np.float32), shapes
  )


def rows(seed=0):
  return np.random.default_rng(seed).standard_normal((B, T, D)).astype(np.float32)


def ids():
  return np.random.default_rng(0).integers(0, V, (B, T)).astype(np.int32)


def two():
  options = {'return_sequences': True, 'zero_output_for_mask': True}
  return sj.Stack([sj.Bidirectional(sj.LSTM(H, **options)), sj.GRU(3)])


SEQUENCES = {'return_sequences': True}
MODELS = {
  'SimpleRNN': (sj.SimpleRNN(H, activation='relu', **SEQUENCES), rows()),
  'LSTM': (sj.LSTM(H, recurrent_activation='hard_sigmoid', **SEQUENCES), rows()),
  'old hard sigmoid': (
    sj.LSTM(H, recurrent_activation=sj.cells.hard_sigmoid_keras2, use_bias=False),
    rows(),
  ),
  'GRU': (sj.GRU(H, activation='linear', **SEQUENCES), rows()),
  'reset before': (sj.GRU(H, reset_after=False), rows()),
  'backwards': (sj.GRU(H, go_backwards=True, **SEQUENCES), rows()),
  'order kept': (sj.LSTM(H, go_backwards=True, keep_order=True, **SEQUENCES), rows()),
  'both directions': (two(), rows()),
  'ave': (sj.Bidirectional(sj.SimpleRNN(H), merge_mode='ave'), rows()),
  'mul': (sj.Bidirectional(sj.GRU(H, **SEQUENCES), merge_mode='mul'), rows()),
  'dense': (sj.Stack([sj.LSTM(H), nn.Dense(2)]), rows()),
  'regressor': (sj.SequenceRegressor(sj.GRU(H)), rows()),
  'numbers': (sj.SequenceRegressor(sj.GRU(H), output_shape=(2, 3)), rows()),
  'classifier': (sj.SequenceClassifier(V, D, sj.Bidirectional(sj.LSTM(H))), ids()),
  'classes': (sj.SequenceClassifier(V, D, sj.GRU(H), num_classes=3), ids()),
}


def run_onnx(model, **inputs):
  runtime = pytest.importorskip('onnxruntime')
  session = runtime.InferenceSession(
    model.SerializeToString(), providers=['CPUExecutionProvider']
  )
  return session.run(None, inputs)[0]


@pytest.mark.parametrize('name', MODELS)
def test_onnxruntime_computes_the_same_and_weights_come_back(name, tmp_path):
  model, x = MODELS[name]
  params = drawn(model, x)
  made = interop.from_model(model, params, shape=x.shape[1:], dtype=x.dtype)
  run = functools.partial(model.apply, {'params': params}, train=False)
  for part in (x, x[:1, :4]):  # any number of rows and steps
    np.testing.assert_allclose(run_onnx(made, x=part), run(part), atol=1e-5)
  interop.save(tmp_path / 'a.onnx', made)
  like = jax.tree.map(np.zeros_like, params)
  again = interop.load_into(like, tmp_path / 'a.onnx')
  jax.tree.map(np.testing.assert_array_equal, again, params)


@pytest.mark.parametrize(
  'model', [sj.LSTM(H), two(), sj.GRU(H, zero_output_for_mask=True, **SEQUENCES)]
)
def test_lengths_are_those_of_the_layers(model):
  x, lengths = rows(), np.array([6, 1, 4], np.int32)
  params = drawn(model, x)
  made = interop.from_model(model, params, shape=(T, D), lengths=True)
  y = model.apply({'params': params}, x, train=False, lengths=lengths)
  np.testing.assert_allclose(run_onnx(made, x=x, lengths=lengths), y, atol=1e-5)


def test_a_mask_of_ids_is_said_by_lengths():
  model = sj.SequenceClassifier(V, D, sj.LSTM(H), mask_zero=True)
  x, lengths = ids() % (V - 1) + 1, np.array([6, 2, 4], np.int32)
  x[np.arange(T) >= lengths[:, None]] = 0
  params = drawn(model, x)
  made = interop.from_model(model, params, shape=(T,), dtype='int32', lengths=True)
  y = model.apply({'params': params}, x, train=False)
  np.testing.assert_allclose(run_onnx(made, x=x, lengths=lengths), y, atol=1e-5)
  with pytest.raises(InputError, match='ONNX has no masks'):
    interop.from_model(model, params, shape=(T,), dtype='int32')


@pytest.mark.parametrize(
  ('model', 'lengths', 'message'),
  [
    (sj.LSTM(H, activation=jax.nn.softplus), False, 'does not know the activation'),
    (sj.RNN(sj.LayerNormGRUCell(H)), False, 'model: RNN is none of the layers'),
    (sj.GRU(H, return_carry=True), False, 'return_carry is not written'),
    (sj.GRU(H, **SEQUENCES), True, 'zero_output_for_mask=True'),
    (sj.Bidirectional(sj.GRU(H), merge_mode=None), False, 'two outputs'),
    (
      sj.Stack(
        [
          sj.GRU(H, go_backwards=True, zero_output_for_mask=True, **SEQUENCES),
          sj.GRU(H),
        ]
      ),
      True,
      'layers_0: ONNX has no rows that begin late',
    ),
  ],
)
def test_what_onnx_cannot_say_is_refused(model, lengths, message):
  x = rows()
  with pytest.raises(InputError, match=message):
    interop.from_model(model, drawn(model, x), shape=(T, D), lengths=lengths)


@functools.cache
def node_cases():
  """ONNX's own tests of these operators, by name; to import a module makes them."""
  from onnx.backend.test.case import node

  for operator in ('rnn', 'lstm', 'gru'):
    importlib.import_module(f'onnx.backend.test.case.node.{operator}')
  return {case.name: case for case in node._NodeTestCases}


def test_there_are_tests_of_onnx_for_all_of_it():
  operators = [case.model.graph.node[0].op_type for case in node_cases().values()]
  assert {name: operators.count(name) >= 4 for name in set(operators)} == {
    'RNN': True,
    'LSTM': True,
    'GRU': True,
  }


@pytest.mark.parametrize('name', sorted(node_cases()))
def test_node_tests_of_onnx(name):
  case = node_cases()[name]
  (node,) = case.model.graph.node
  ((inputs, outputs),) = case.data_sets
  names = [i.name for i in case.model.graph.input]
  arrays = dict(zip(names, inputs, strict=True))
  options = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
  batch_first = options.get('layout', 0) == 1
  places = ('x', 'W', 'R', 'B', 'lengths', 'h', 'c', 'P')
  given = {k: arrays[i] for k, i in zip(places, node.input, strict=False) if i}
  x = given['x'] if batch_first else np.swapaxes(given['x'], 0, 1)
  carries, ys = [], []
  for i, part in enumerate(interop.parts_of(node, arrays)):
    keywords = {'lengths': given['lengths']} if 'lengths' in given else {}
    if 'h' in given:
      first = [given[k] for k in ('h', 'c') if k in given]
      keywords['initial_carry'] = [a[:, i] if batch_first else a[i] for a in first]
    carry, y = part.layer.apply({'params': part.params}, x, train=False, **keywords)
    carries.append(carry)
    ys.append(y)
  found = [
    np.stack(ys, 2),
    *(np.stack(field, 1) for field in zip(*carries, strict=True)),
  ]
  rest = iter(outputs)
  for output, own in zip(node.output, found, strict=False):
    if output:
      expected = next(rest)
      if not batch_first:  # [T, directions, B, H] and [directions, B, H]
        expected = np.moveaxis(expected, -2, 0)
      assert expected.shape == own.shape
      np.testing.assert_allclose(own, expected, atol=1e-5)
  assert next(rest, None) is None


@pytest.mark.parametrize(
  ('attributes', 'message'),
  [
    ({'clip': 1.0}, 'no layer here has clip'),
    ({'input_forget': 1}, 'no layer here has input_forget'),
    ({'activations': ['Sigmoid', 'Tanh', 'Relu']}, 'its two activations differ'),
    ({'activations': ['Sigmoid', 'Softsign', 'Softsign']}, 'activation Softsign'),
  ],
)
def test_nodes_without_an_equal_are_refused(attributes, message):
  node = onnx.helper.make_node(
    'LSTM', ['x', 'W', 'R'], ['y'], hidden_size=2, **attributes
  )
  arrays = {'W': np.zeros((1, 8, 3)), 'R': np.zeros((1, 8, 2))}
  with pytest.raises(InputError, match=message):
    interop.parts_of(node, arrays)


def test_files_that_are_none(tmp_path):
  path = tmp_path / 'a.onnx'
  with pytest.raises(InputError, match='No such file'):
    interop.load_into({}, path)
  for content in (b'\x08\x07\xff\xff', b'not a model', b''):
    path.write_bytes(content)
    with pytest.raises(InputError, match='no readable ONNX model'):
      interop.load_into({}, path)


def test_gemm_and_both_directions_of_one_node():
  """As PyTorch writes them."""
  rng = np.random.default_rng(0)
  arrays = {
    'W': rng.standard_normal((2, 4 * H, D)),
    'R': rng.standard_normal((2, 4 * H, H)),
    'B': rng.standard_normal((2, 8 * H)),
    'weight': rng.standard_normal((2, 2 * H)),
    'bias': rng.standard_normal(2),
  }
  arrays = {k: v.astype(np.float32) for k, v in arrays.items()}
  helper = onnx.helper
  nodes = [
    helper.make_node(
      'LSTM', ['x', 'W', 'R', 'B'], ['y', 'h'], '/rnn/LSTM',
      hidden_size=H, direction='bidirectional',
    ),
    helper.make_node('Transpose', ['h'], ['turned'], perm=[1, 0, 2]),
    helper.make_node('Flatten', ['turned'], ['flat']),
    helper.make_node('Gemm', ['flat', 'weight', 'bias'], ['out'], 'head', transB=1),
  ]  # fmt: skip
  value = functools.partial(helper.make_tensor_value_info, elem_type=1)
  graph = helper.make_graph(
    nodes,
    'g',
    [value('x', shape=[T, B, D])],
    [value('out', shape=[B, 2])],
    [onnx.numpy_helper.from_array(v, k) for k, v in arrays.items()],
  )
  model = helper.make_model(
    graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8
  )
  ours = sj.Stack([sj.Bidirectional(sj.LSTM(H)), nn.Dense(2)])
  x = rows()
  params = interop.load_into(drawn(ours, x), model)
  expected = run_onnx(model, x=np.swapaxes(x, 0, 1))
  y = ours.apply({'params': params}, x, train=False)
  np.testing.assert_allclose(y, expected, atol=1e-5)
