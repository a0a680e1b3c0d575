"""Layers that Keras no longer has, sharded files, Masking: each computes the same."""

import functools
import json

import flax.linen as nn
import jax
import numpy as np
import pytest

import seqjax as sj
from seqjax.interop import keras as interop
from seqjax.types import InputError

h5py = pytest.importorskip('h5py')

# Of Keras, where it hands its variables to NumPy.
pytestmark = pytest.mark.filterwarnings(
  'ignore:__array__ implementation:DeprecationWarning'
)

B, T, D, H = 3, 5, 4, 6


@pytest.fixture
def x():
  return np.random.default_rng(0).normal(size=(B, T, D)).astype(np.float32)


def legacy(path, layers, version='2.1.5', config=None):
  """A file of Keras 1 or 2: {layer: {variable: array}}."""
  with h5py.File(path, 'w') as file:
    root = file if config is None else file.create_group('model_weights')
    root.attrs['layer_names'] = [name.encode() for name in layers]
    if version:
      root.attrs['keras_version'] = version.encode()
    if config is not None:
      model = {'class_name': 'Sequential', 'config': config}
      file.attrs['model_config'] = json.dumps(model).encode()
    for name, variables in layers.items():
      group = root.create_group(name)
      group.attrs['weight_names'] = [variable.encode() for variable in variables]
      for variable, value in variables.items():
        group[variable] = value
  return path


def cudnn(module, suffix):
  """A layer of Keras 2 from a module of PyTorch, whose memory is as cuDNN has it."""
  state = {k: v.detach().numpy() for k, v in module.state_dict().items()}
  gates = 4 if len(state['weight_ih' + suffix]) == 4 * H else 3
  order = [0, 1, 2, 3] if gates == 4 else [1, 0, 2]  # torch r, z, n; Keras z, r, h

  def kernel(weight):
    rows = np.split(weight, gates)
    return np.concatenate(
      [rows[g].ravel().reshape(weight.shape[1], H) for g in order], axis=1
    )

  def bias(name):
    return np.concatenate([np.split(state[name + suffix], gates)[g] for g in order])

  return {
    'kernel:0': kernel(state['weight_ih' + suffix]),
    'recurrent_kernel:0': kernel(state['weight_hh' + suffix]),
    'bias:0': np.concatenate([bias('bias_ih'), bias('bias_hh')]),
  }


def params_of(model, x):
  init = functools.partial(model.init, train=False)
  return jax.eval_shape(init, jax.random.key(0), x)['params']


@pytest.mark.parametrize('kind', ['LSTM', 'GRU'])
@pytest.mark.parametrize('config', [True, False])
def test_cudnn_layers_compute_what_cudnns_layout_does(
  tmp_path, x, kind, config, capsys
):
  torch = pytest.importorskip('torch')
  torch.manual_seed(0)
  module = getattr(torch.nn, kind)(D, H, batch_first=True, bidirectional=True)
  with torch.no_grad():
    expected = module(torch.from_numpy(x))[0].numpy()
  variables = {
    f'both/{direction}_cu_dnn{kind.lower()}_1/{variable}': value
    for direction, suffix in (('forward', '_l0'), ('backward', '_l0_reverse'))
    for variable, value in cudnn(module, suffix).items()
  }
  inner = {'units': H, 'return_sequences': True, 'go_backwards': False, 'name': 'a'}
  layer = {'class_name': f'CuDNN{kind}', 'config': inner}
  both = {
    'class_name': 'Bidirectional',
    'config': {'name': 'both', 'layer': layer, 'merge_mode': 'concat'},
  }
  path = legacy(
    tmp_path / 'a.h5', {'both': variables}, config=[both] if config else None
  )
  one = getattr(sj, kind)(H, return_sequences=True)
  model = sj.Bidirectional(one)
  params = interop.load_into(params_of(model, x), path, model=model)
  y = model.apply({'params': params}, x, train=False)
  np.testing.assert_allclose(y, expected, atol=1e-5)

  assert interop.main(['show', str(path)]) == 0
  assert f'both/forward_layer  CuDNN{kind}' in capsys.readouterr().out
  weights = interop.load(path)
  back = interop.from_params(params, like=path)
  for name in weights:
    for variable, value in weights[name].items():
      if (kind, variable) != ('LSTM', 'bias'):
        np.testing.assert_array_equal(back[name][variable], value)
  again = interop.load_into(params_of(model, x), back)
  jax.tree.map(np.testing.assert_array_equal, again, params)
  if config:
    arguments = interop.arguments(weights, 'both/forward_layer')
    assert arguments['recurrent_activation'] == 'sigmoid'
    assert getattr(sj, kind)(**arguments).features == H
    relu = sj.Bidirectional(one.clone(activation='relu'))
    with pytest.raises(InputError, match="activation 'relu'"):
      interop.load_into(params_of(relu, x), path, model=relu)


@pytest.mark.parametrize('version', ['1.2.2', ''])
@pytest.mark.parametrize('fused', [False, True])
@pytest.mark.parametrize('kind', ['LSTM', 'GRU', 'SimpleRNN'])
def test_gates_of_keras_1(tmp_path, x, kind, version, fused):
  cell = {
    'LSTM': sj.LSTM(H, recurrent_activation=sj.cells.hard_sigmoid_keras2),
    'GRU': sj.GRU(H, reset_after=False),
    'SimpleRNN': sj.SimpleRNN(H),
  }[kind]
  like = {'params': params_of(cell, x)}
  params = jax.tree.map(
    lambda s: np.random.default_rng(1).normal(size=s.shape).astype(np.float32), like
  )
  expected = cell.apply(params, x, train=False)
  gates = {'LSTM': 'ifco', 'GRU': 'zrh', 'SimpleRNN': ''}[kind]
  # Keras 1 wrote an LSTM's in this order.
  written = '' if fused else {'LSTM': 'icfo', 'GRU': 'zrh', 'SimpleRNN': ''}[kind]
  variables = {}
  for gate in written or ['']:
    for letter, name in (('W', 'kernel'), ('U', 'recurrent_kernel'), ('b', 'bias')):
      value = params['params'][name]
      if gate:
        value = np.split(value, len(gates), -1)[gates.index(gate)]
      variables[f'rnn_1_{letter}{"_" * bool(gate)}{gate}:0'] = value
  path = legacy(tmp_path / 'a.h5', {'rnn_1': variables}, version)
  loaded = interop.load_into(like['params'], path)
  np.testing.assert_array_equal(
    cell.apply({'params': loaded}, x, train=False), expected
  )
  back = interop.from_params(loaded, like=path)
  for variable, value in interop.load(path)['rnn_1'].items():
    np.testing.assert_array_equal(back['rnn_1'][variable], value)


def test_a_model_of_keras_1(tmp_path, capsys):
  """An embedding, both directions in one group, and a Dense layer."""
  rng = np.random.default_rng(2)
  model = sj.Stack([sj.Embedding(9, D), sj.Bidirectional(sj.SimpleRNN(H)), nn.Dense(2)])
  ids = np.array([[1, 2, 3], [4, 5, 8]])
  like = params_of(model, ids)
  params = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), like)
  both, dense = params['layers_1'], params['layers_2']
  names = {'W': 'kernel', 'U': 'recurrent_kernel', 'b': 'bias'}
  layers = {
    'embedding_1': {'embedding_1_W:0': params['layers_0']['embedding']},
    'bidirectional_1': {
      f'{direction}_simplernn_1_{letter}:0': both[f'{direction}_layer'][name]
      for direction in ('forward', 'backward')
      for letter, name in names.items()
    },
    'dense_1': {'dense_1_W:0': dense['kernel'], 'dense_1_b:0': dense['bias']},
  }
  path = legacy(tmp_path / 'a.h5', layers, '1.1.0')
  loaded = interop.load_into(like, path)
  jax.tree.map(np.testing.assert_array_equal, loaded, params)
  assert interop.main(['show', str(path)]) == 0
  shown = capsys.readouterr().out
  for line in (
    'embedding_1  Embedding (by its shapes)',
    'bidirectional_1/backward_layer  SimpleRNN (by its shapes)',
    'dense_1  Dense (by its shapes)',
  ):
    assert line in shown


def test_what_only_looks_like_keras_1_is_left_alone(tmp_path):
  value = np.ones((D, 1), np.float32)
  path = legacy(tmp_path / 'a.h5', {'attention': {'attention_W:0': value}})
  loaded = interop.load_into({'attention': {'attention_W': value * 0}}, path)
  np.testing.assert_array_equal(loaded['attention']['attention_W'], value)


@pytest.fixture(scope='module')
def sharded(tmp_path_factory):
  """A model of Keras, what it computes, and its weights in many files."""
  keras = pytest.importorskip('keras')
  L, folder = keras.layers, tmp_path_factory.mktemp('sharded')
  layers = [
    keras.Input((T, D)),
    L.Masking(-1.0),
    L.LSTM(H, return_sequences=True),
    L.Bidirectional(L.GRU(5)),
  ]
  x = np.random.default_rng(0).normal(size=(B, T, D)).astype(np.float32)
  x[:2, 3:] = -1
  with jax.numpy_rank_promotion('allow'):
    model = keras.Sequential(layers)
    model.save_weights(folder / 'a.weights.json', max_shard_size=600 / 2**30)
    model.save(folder / 'a.keras')
    return folder, x, np.asarray(model(x))


def masked():
  return sj.Stack(
    [sj.Masking(-1.0), sj.LSTM(H, return_sequences=True), sj.Bidirectional(sj.GRU(5))]
  )


def test_sharded_weights_compute_the_same(sharded):
  folder, x, expected = sharded
  assert len(list(folder.glob('*.weights.h5'))) > 5
  model = masked()
  params = interop.load_into(params_of(model, x), folder / 'a.weights.json')
  y = model.apply({'params': params}, x, train=False)
  np.testing.assert_allclose(y, expected, atol=1e-5)
  whole = interop.load_into(params_of(model, x), folder / 'a.keras', model=model)
  jax.tree.map(np.testing.assert_array_equal, params, whole)


def test_a_masking_layer_is_told_and_missed(sharded, capsys):
  folder, x, _ = sharded
  assert interop.main(['show', str(folder / 'a.keras')]) == 0
  assert 'masking  Masking  mask_value=-1.0' in capsys.readouterr().out
  weights = interop.load(folder / 'a.keras')
  assert sj.Masking(**interop.arguments(weights, 'masking')) == sj.Masking(-1.0)
  for layers in (masked().layers[1:], [sj.Masking(), *masked().layers[1:]]):
    model = sj.Stack(layers)
    with pytest.raises(InputError, match=r'Masking layer \(mask_value -1.0\)'):
      interop.load_into(params_of(model, x), weights, model=model)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda config: config.pop('weight_map'), 'no weight_map'),
    (lambda config: config['weight_map'].update(a=['../a.h5']), 'not a file beside it'),
    (lambda config: config['weight_map'].update(a=['b.h5']), "'b.h5' is not beside it"),
    (lambda config: config['weight_map'].update(a=[]), "the variables of 'a'"),
    (lambda config: config['weight_map'].update(a='a'), 'no weight_map'),
  ],
)
def test_broken_shards_are_refused(sharded, change, message):
  folder, _, _ = sharded
  config = json.loads((folder / 'a.weights.json').read_text())
  change(config)
  path = folder / 'broken.weights.json'
  path.write_text(json.dumps(config))
  with pytest.raises(InputError, match=message):
    interop.load(path)


def test_shards_share_the_bytes_allowed(sharded):
  folder, _, _ = sharded
  sizes = sum(
    v.nbytes for a in interop.load(folder / 'a.keras').values() for v in a.values()
  )
  interop.load(folder / 'a.weights.json', max_bytes=sizes)
  with pytest.raises(InputError, match='bytes allowed'):
    interop.load(folder / 'a.weights.json', max_bytes=sizes - 1)
