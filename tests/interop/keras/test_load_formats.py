"""Files as people bring them: of older versions, other systems, and broken saves."""

import functools
import json
import subprocess
import sys
import zipfile

import flax.linen as nn
import jax
import numpy as np
import pytest

import seqjax as sj
from seqjax.interop import keras as interop
from seqjax.interop.keras import hdf5
from seqjax.types import InputError

h5py = pytest.importorskip('h5py')

D, H = 3, 4
LSTM = {'kernel': (D, 4 * H), 'recurrent_kernel': (H, 4 * H), 'bias': (4 * H,)}


def layer(class_name, name, **config):
  return {'class_name': class_name, 'config': {'name': name, **config}}


def values(shapes, seed=0):
  rng = np.random.default_rng(seed)
  return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def h5(path, groups):
  """Keras 3's layout without attributes: {group: arrays}."""
  with h5py.File(path, 'w') as file:
    for name, arrays in groups.items():
      for i, array in enumerate(arrays):
        file.create_group(f'{name}/vars') if i == 0 else None
        file[f'{name}/vars/{i}'] = array
  return path


def whole(path, groups, layers, version='2.15.0'):
  """A `.keras` file of a Sequential."""
  config = {'class_name': 'Sequential', 'config': {'name': 'm', 'layers': layers}}
  h5(path.with_suffix('.h5'), groups)
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('config.json', json.dumps(config))
    archive.writestr('metadata.json', json.dumps({'keras_version': version}))
    archive.write(path.with_suffix('.h5'), 'model.weights.h5')
  return path


LAYERS = [layer('LSTM', 'lstm', units=H), layer('Dense', 'dense', units=2)]
GROUPS = {
  'layers/lstm/cell': values(LSTM.values(), 1),
  'layers/dense': values([(H, 2), (2,)], 2),
}


def assert_same(weights, groups):
  assert list(weights) == ['lstm', 'dense']
  assert [layer.store for layer in weights.values()] == list(GROUPS)
  assert list(weights['lstm']) == list(LSTM)
  assert weights.ordered
  for array, value in zip(
    interop.arrays(weights), [v for g in groups.values() for v in g], strict=True
  ):
    np.testing.assert_array_equal(array, value)


@pytest.mark.parametrize('separator', ['/', '\\'])
@pytest.mark.parametrize('container', ['layers', '_layer_checkpoint_dependencies'])
def test_groups_as_windows_and_older_versions_name_them(tmp_path, separator, container):
  groups = {
    name.replace('layers', container).replace('/', separator): arrays
    for name, arrays in GROUPS.items()
  }
  assert_same(interop.load(whole(tmp_path / 'a.keras', groups, LAYERS)), GROUPS)
  weights = interop.load(h5(tmp_path / 'a.weights.h5', groups))
  assert {layer.store for layer in weights.values()} == set(GROUPS)
  assert weights['lstm'].class_name == 'LSTM'
  np.testing.assert_array_equal(weights['lstm']['bias'], GROUPS['layers/lstm/cell'][2])


def test_two_names_of_one_place(tmp_path):
  groups = {name.replace('/', '\\'): arrays for name, arrays in GROUPS.items()}
  path = whole(tmp_path / 'a.keras', GROUPS | groups, LAYERS)
  with pytest.raises(InputError, match="two arrays are '0' of 'layers/dense'"):
    interop.load(path)


@pytest.mark.parametrize(
  ('name', 'arrays'),
  [
    ('metrics/mean', values([(), ()])),
    ('metrics\\auc', values([(200,)] * 4)),
    ('compiled_metrics/mean', values([(), ()])),
    ('loss_tracker', values([(), ()])),
    ('optimizer', [np.int64(3)]),
    ('layers/dropout/seed_generator', [np.zeros(2, np.uint32)]),
    ('auc', values([(200,)] * 4)),
    ('confusion', values([(2, 2)])),
    ('layers/dropout/generator', [np.zeros(5, np.int64)]),
    ('layers/noise/seed', [np.zeros(2, np.uint32)]),
  ],
)
def test_what_is_no_variable_of_a_layer(tmp_path, name, arrays):
  path = whole(tmp_path / 'a.keras', {name: arrays} | GROUPS, LAYERS)
  assert_same(interop.load(path), GROUPS)


CELLS = {
  'LSTM': list(LSTM.values()),
  'GRU': [(D, 3 * H), (H, 3 * H), (2, 3 * H)],
  'SimpleRNN': [(D, H), (H, H), (H,)],
}


@pytest.mark.parametrize('cell', CELLS)
@pytest.mark.parametrize('bias', [True, False])
def test_wrappers_without_names_are_told_by_their_shapes(tmp_path, cell, bias):
  shapes = CELLS[cell] if bias else CELLS[cell][:2]
  path = h5(
    tmp_path / 'a.weights.h5',
    {
      'layers/bidirectional/forward_layer/cell': values(shapes, 1),
      'layers/bidirectional/backward_layer/cell': values(shapes, 2),
      'layers/rnn/cell': values(shapes, 3),
      'layers/time_distributed/layer': values([(H, 2), (2,)], 4),
      'layers/time_distributed_1/layer': values([(5, H, 2), (2,)], 5),
      'encoder/cell': values(shapes, 6),
      'layers/own/cell': values([(D, 5), (H, 5)], 7),
    },
  )
  weights = interop.load(path)
  assert {name: layer.class_name for name, layer in weights.items()} == {
    'bidirectional/forward_layer': cell,
    'bidirectional/backward_layer': cell,
    'rnn': cell,
    'time_distributed': 'Dense',
    'time_distributed_1': 'Conv1D',
    'encoder': cell,
    'own': '',
  }
  assert list(weights['own']) == ['0', '1']
  variables = ['kernel', 'recurrent_kernel', 'bias'][: len(shapes)]
  params = {
    'both': {
      f'{direction}_layer': dict(zip(variables, values(shapes), strict=True))
      for direction in ('forward', 'backward')
    },
    'head': dict(zip(['kernel', 'bias'], values([(H, 2), (2,)]), strict=True)),
  }
  mapping = {'both': 'bidirectional', 'head': 'time_distributed'}
  loaded = interop.load_into(params, weights, mapping)
  for i, direction in enumerate(('forward', 'backward')):
    for variable, value in zip(variables, values(shapes, i + 1), strict=True):
      np.testing.assert_array_equal(
        loaded['both'][f'{direction}_layer'][variable], value
      )
  np.testing.assert_array_equal(loaded['head']['kernel'], values([(H, 2)], 4)[0])


def test_cells_by_number_and_layers_without_bias_are_told(tmp_path):
  groups = {
    'layers/rnn/cell/cells/0': values(LSTM.values()),
    'layers/rnn/cell/cells/1': values([(H, 3 * H), (H, 3 * H)]),
    'layers/time_distributed/layer': values([(H, 2)]),
    'layers/time_distributed_1/layer': values([(5, H, 2)]),
  }
  weights = interop.load(h5(tmp_path / 'a.weights.h5', groups))
  assert {name: (layer.class_name, *layer) for name, layer in weights.items()} == {
    'rnn/0': ('LSTM', *LSTM),
    'rnn/1': ('GRU', 'kernel', 'recurrent_kernel'),
    'time_distributed': ('Dense', 'kernel'),
    'time_distributed_1': ('Conv1D', 'kernel'),
  }


def test_a_cell_of_another_name_is_not_taken_for_a_known_one(tmp_path):
  path = h5(tmp_path / 'a.weights.h5', {'layers/rnn/cell': values(LSTM.values())})
  with h5py.File(path, 'a') as file:
    file['layers/rnn/cell/vars'].attrs['name'] = 'my_cell'
  assert list(interop.load(path)['rnn']) == ['0', '1', '2']


def test_names_of_wrappers_hold_where_their_inner_layer_has_no_kind(tmp_path):
  path = h5(
    tmp_path / 'a.weights.h5', {'layers/time_distributed/layer': values([(4,), (4,)])}
  )
  assert list(interop.load(path)['time_distributed']) == ['0', '1']


def legacy(path, layers, groups, version='2.15.0'):
  """A legacy `.h5` of a Sequential: {layer: {path of a variable: array}}."""
  config = {'class_name': 'Sequential', 'config': {'name': 'm', 'layers': layers}}
  with h5py.File(path, 'w') as file:
    file.attrs['model_config'] = json.dumps(config)
    root = file.create_group('model_weights')
    root.attrs['keras_version'] = version
    root.attrs['layer_names'] = [name.encode() for name in groups]
    for name, variables in groups.items():
      group = root.create_group(name)
      group.attrs['weight_names'] = [variable.encode() for variable in variables]
      for variable, array in variables.items():
        group[variable] = array
  return path


def bidirectional(path, go_backwards=False, **options):
  """A Bidirectional as Keras 2 describes it: one layer, the other made from it."""
  cells = {
    f'both/{direction}_lstm/lstm_cell/{variable}:0': value
    for i, direction in enumerate(('forward', 'backward'))
    for variable, value in zip(LSTM, values(LSTM.values(), i), strict=True)
  }
  inner = layer('LSTM', 'lstm', units=H, go_backwards=go_backwards)
  return legacy(
    path, [layer('Bidirectional', 'both', layer=inner, **options)], {'both': cells}
  )


@pytest.mark.parametrize('go_backwards', [False, True])
def test_the_second_layer_of_keras_2_runs_the_other_way(tmp_path, go_backwards):
  weights = interop.load(bidirectional(tmp_path / 'a.h5', go_backwards))
  made = [
    interop.arguments(weights, f'both/{direction}_layer')['go_backwards']
    for direction in ('forward', 'backward')
  ]
  assert made == [go_backwards, not go_backwards]


@pytest.mark.parametrize('merge_mode', ['concat', 'ave', 'sum', 'mul'])
def test_a_bidirectional_of_keras_2_computes_the_same(tmp_path, merge_mode):
  """Both layers made by their own arguments, against Keras."""
  keras = pytest.importorskip('keras')
  path = bidirectional(tmp_path / 'a.h5', merge_mode=merge_mode)
  weights = interop.load(path)
  forward, backward = (
    sj.LSTM(**interop.arguments(weights, f'both/{direction}_layer'))
    for direction in ('forward', 'backward')
  )
  ours = sj.Bidirectional(forward, backward, **interop.arguments(weights, 'both'))
  x = np.random.default_rng(0).normal(size=(2, 5, D)).astype(np.float32)
  params = {
    f'{direction}_layer': dict(weights[f'both/{direction}_layer'])
    for direction in ('forward', 'backward')
  }
  with jax.numpy_rank_promotion('allow'):
    theirs = keras.layers.Bidirectional(keras.layers.LSTM(H), merge_mode=merge_mode)
    theirs.build(x.shape)
    theirs.set_weights(interop.arrays(weights))
    expected = np.asarray(theirs(x))
  y = ours.apply({'params': params}, x, train=False)
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_the_merge_mode_is_told(tmp_path, capsys):
  path = bidirectional(tmp_path / 'a.h5', merge_mode='ave')
  weights = interop.load(path)
  assert interop.arguments(weights, 'both') == {'merge_mode': 'ave'}
  assert 'merge_mode' not in interop.arguments(weights, 'both/forward_layer')
  assert interop.main(['show', str(path)]) == 0
  assert capsys.readouterr().out.count('merge_mode=ave') == 2


def params_of(model):
  x = np.zeros((1, 5, D), np.float32)
  init = functools.partial(model.init, train=False)
  return jax.eval_shape(init, jax.random.key(0), x)['params']


@pytest.mark.parametrize('stacked', [False, True])
def test_a_model_that_merges_otherwise_is_refused(tmp_path, stacked):
  path = bidirectional(tmp_path / 'a.h5', merge_mode='ave')

  def load(**options):
    model = sj.Bidirectional(sj.LSTM(H), **options)
    model = sj.Stack([model]) if stacked else model
    return interop.load_into(params_of(model), path, model=model)

  loaded = load(merge_mode='ave')
  loaded = loaded['layers_0'] if stacked else loaded
  np.testing.assert_array_equal(
    loaded['backward_layer']['kernel'], values(LSTM.values(), 1)[0]
  )
  with pytest.raises(InputError, match=r"has merge_mode 'sum', layer 'both/.* 'ave'"):
    load(merge_mode='sum')
  with pytest.raises(InputError, match="has merge_mode 'concat'"):
    load()
  model = sj.Bidirectional(sj.LSTM(H, go_backwards=True), merge_mode='ave')
  with pytest.raises(
    InputError, match=r"'backward_layer' .* go_backwards False, .* True"
  ):
    interop.load_into(params_of(model), path, model=model)


class InSetup(nn.Module):
  def setup(self):
    self.both = sj.Bidirectional(sj.LSTM(H), merge_mode='ave')

  def __call__(self, x, *, train):
    return self.both(x, train=train)


class Compact(nn.Module):
  @nn.compact
  def __call__(self, x, *, train):
    both = sj.Bidirectional(sj.LSTM(H), merge_mode='ave', name='both')
    return both(x, train=train)


@pytest.mark.parametrize('model', [InSetup(), Compact()])
def test_layers_that_cannot_be_compared_are_refused(tmp_path, model):
  path = bidirectional(tmp_path / 'a.h5', merge_mode='sum')
  params = {'both': params_of(sj.Bidirectional(sj.LSTM(H)))}
  interop.load_into(params, path)
  with pytest.raises(InputError, match="'both' of the model cannot be compared"):
    interop.load_into(params, path, model=model)


def test_a_model_of_another_activation_is_refused(tmp_path):
  cells = dict(zip([f'lstm/{v}:0' for v in LSTM], values(LSTM.values()), strict=True))
  options = {'activation': 'relu', 'recurrent_activation': 'hard_sigmoid'}
  layers = [layer('LSTM', 'lstm', units=H, stateful=True, **options)]
  path = legacy(tmp_path / 'a.h5', layers, {'lstm': cells})

  def load(**options):
    model = sj.LSTM(H, **options)
    return interop.load_into(params_of(model), path, model=model)

  keras2 = sj.cells.hard_sigmoid_keras2
  for activation in ('relu', jax.nn.relu, lambda x: jax.nn.relu(x)):
    load(activation=activation, recurrent_activation=keras2)
  with pytest.raises(
    InputError, match=r"'' of the model has activation 'tanh', .* 'relu'"
  ):
    load(recurrent_activation=keras2)
  with pytest.raises(InputError, match=r"'hard_sigmoid', .* hard_sigmoid_keras2"):
    load(activation='relu', recurrent_activation='hard_sigmoid')


def broken(path, change, config=True):
  """Saved without a configuration if asked; then `change`d below the layers' group."""
  bidirectional(path)
  with h5py.File(path, 'a') as file:
    root = file['model_weights']
    root.create_group('dense').attrs['weight_names'] = [b'dense/kernel:0']
    root['dense/dense/kernel:0'] = np.ones((2 * H, 1), np.float32)
    root.attrs['layer_names'] = [b'both', b'dense']
    if not config:
      del file.attrs['model_config']
    change(root)
  return path


def missing_array(root):
  del root['both/both/backward_lstm/lstm_cell/bias:0']


def missing_half(root):
  del root['both/both/backward_lstm']


def missing_layer(root):
  del root['dense']


def listed_twice(root):
  names = list(root['both'].attrs['weight_names'])
  root['both'].attrs['weight_names'] = [*names[:3], *names[:3]]
  del root['both/both/backward_lstm']


BROKEN = {
  missing_array: "layer 'both' has no 'both/backward_lstm/lstm_cell/bias:0'",
  missing_half: "layer 'both' has no 'both/backward_lstm/lstm_cell/kernel:0'",
  missing_layer: "has no layer 'dense'",
  listed_twice: "layer 'both' lists 'both/forward_lstm/lstm_cell/kernel:0' twice",
}


@pytest.mark.parametrize('config', [True, False])
@pytest.mark.parametrize('change', BROKEN, ids=lambda change: change.__name__)
def test_a_save_that_broke_off(tmp_path, change, config):
  path = broken(tmp_path / 'a.h5', change, config)
  with pytest.raises(InputError, match=BROKEN[change]) as error:
    interop.load(path)
  assert 'a.h5' in str(error.value)
  assert list(interop.load(broken(tmp_path / 'b.h5', lambda root: None, config)))


PARTS = {
  'half': ("layer 'both", [layer('Bidirectional', 'both', layer=LAYERS[0])]),
  'absent': ("layer 'dense", LAYERS),
  'no bias': (
    "layer 'lstm.* has 2 of its 3 variables",
    [layer('LSTM', 'lstm', units=H, use_bias=True)],
  ),
}


@pytest.mark.parametrize('format_', ['keras', 'h5'])
@pytest.mark.parametrize('part', PARTS)
def test_a_part_of_what_the_configuration_says(tmp_path, format_, part):
  """Saves that broke off without a trace but the configuration."""
  message, layers = PARTS[part]
  arrays = values(LSTM.values())[: 2 if part == 'no bias' else 3]
  path = tmp_path / f'a.{format_}'
  if format_ == 'keras':
    inner = 'bidirectional/forward_layer' if part == 'half' else 'lstm'
    whole(path, {f'layers/{inner}/cell': arrays}, layers)
  else:
    inner = 'both/forward_lstm' if part == 'half' else 'lstm'
    paths = [f'{inner}/lstm_cell/{variable}:0' for variable in LSTM]
    legacy(path, layers, {inner.split('/')[0]: dict(zip(paths, arrays, strict=False))})
  with pytest.raises(InputError, match=f'{path}: a save that broke off: {message}'):
    interop.load(path)


def test_a_layer_that_two_models_share_is_stored_once(tmp_path):
  models = [
    {'class_name': 'Sequential', 'config': {'name': name, 'layers': LAYERS[:1]}}
    for name in 'ab'
  ]
  group = {'layers/sequential/layers/lstm/cell': GROUPS['layers/lstm/cell']}
  weights = interop.load(whole(tmp_path / 'a.keras', group, models))
  assert list(weights) == ['a/lstm']


@pytest.mark.slow
def test_the_command_knows_home_and_a_reader_that_goes(tmp_path, monkeypatch, capsys):
  h5(tmp_path / 'a.keras', GROUPS)
  h5(tmp_path / 'b.keras', GROUPS | {f'layers/{i}': values([(1,)]) for i in range(999)})
  monkeypatch.setenv('HOME', str(tmp_path))
  assert interop.main(['show', '~/a.keras']) == 0
  assert 'LSTM' in capsys.readouterr().out
  command = f'{sys.executable} -m seqjax.interop.keras show {tmp_path}/b.keras'
  done = subprocess.run(
    ['sh', '-c', f'{command} | head -1'], capture_output=True, text=True
  )
  assert '1001 layers' in done.stdout
  assert done.stderr == ''


def test_names_of_many_layers_in_several_attributes(tmp_path, monkeypatch):
  """More than 64 KB do not fit into one attribute: Keras numbers them."""

  def split(root):
    del root.attrs['layer_names']
    root.attrs['layer_names0'], root.attrs['layer_names1'] = [b'both'], [b'dense']

  weights = interop.load(broken(tmp_path / 'a.h5', split, config=False))
  assert list(weights) == ['both/forward_layer', 'both/backward_layer', 'dense']
  monkeypatch.setattr(hdf5, 'MAX_ATTRIBUTE', 8)
  with pytest.raises(InputError, match=r"layer_names of '/model_weights' is too long"):
    interop.load(tmp_path / 'a.h5')
