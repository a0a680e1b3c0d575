"""What configurations and legacy names of Keras say, and what of it is refused."""

import json
import time

import jax
import numpy as np
import pytest

import seqjax as sj
from seqjax.interop import keras as interop
from seqjax.interop.keras import configs
from seqjax.types import InputError


def layer(class_name, **config):
  return {'class_name': class_name, 'config': config}


def described(*layers):
  return configs.describe(layer('Sequential', layers=list(layers)), 'a.keras')


def arguments(class_name, version='3.15.1', **config):
  weights = interop.Weights(
    {'rnn': interop.Layer({}, class_name=class_name, config=config)}, version=version
  )
  return interop.arguments(weights, 'rnn')


def arguments_of(item):
  return configs.arguments(item.class_name, item.config, '3.15.1', item.name)


def test_the_options_of_an_rnn_around_a_cell():
  cell = layer('LSTMCell', name='cell', units=4, activation='relu')
  options = {'return_sequences': True, 'return_state': True, 'go_backwards': True}
  [item] = described(layer('RNN', name='rnn', cell=cell, **options))
  assert arguments_of(item) == {
    'features': 4,
    'activation': 'relu',
    'return_sequences': True,
    'return_carry': True,
    'go_backwards': True,
  }
  [item] = described(layer('RNN', name='rnn', cell=cell, stateful=True))
  with pytest.raises(InputError, match='is stateful'):
    arguments_of(item)


def test_stacked_cells_are_a_stack_of_layers():
  cells = [layer('GRUCell', name=f'cell_{i}', units=3 + i) for i in range(3)]
  stack = layer('StackedRNNCells', cells=cells)
  options = {'go_backwards': True, 'return_sequences': False}
  items = described(layer('RNN', name='rnn', cell=stack, **options))
  found = [arguments_of(item) for item in items]
  assert [each['features'] for each in found] == [3, 4, 5]
  assert [each['go_backwards'] for each in found] == [True, False, False]
  assert [each['return_sequences'] for each in found] == [True, True, False]
  assert [item.store for item in items] == [
    'layers/rnn/cell/cells/gru_cell',
    'layers/rnn/cell/cells/gru_cell_1',
    'layers/rnn/cell/cells/gru_cell_2',
  ]


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore:__array__ implementation:DeprecationWarning')
def test_stacked_cells_compute_what_the_arguments_say(tmp_path):
  keras = pytest.importorskip('keras')
  pytest.importorskip('h5py')
  x = np.random.default_rng(0).normal(size=(5, 7, 3)).astype(np.float32)
  cells = [keras.layers.GRUCell(4), keras.layers.LSTMCell(6)]
  with jax.numpy_rank_promotion('allow'):  # Keras adds [H] to [B, H]
    model = keras.Sequential(
      [keras.Input((7, 3)), keras.layers.RNN(cells, go_backwards=True)]
    )
    expected = model.predict_on_batch(x)
  model.save(tmp_path / 'model.keras')
  weights = interop.load(tmp_path / 'model.keras')
  made = [
    {'GRU': sj.GRU, 'LSTM': sj.LSTM}[weights[name].class_name](
      **interop.arguments(weights, name)
    )
    for name in weights
  ]
  params = {f'layers_{i}': dict(weights[name]) for i, name in enumerate(weights)}
  y = sj.Stack(made).apply({'params': params}, x, train=False)
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_settings_that_older_versions_do_not_write():
  old = arguments('GRU', '2.1.0', units=4, recurrent_activation='sigmoid')
  assert old['reset_after'] is False  # those before the option computed this
  assert 'reset_after' not in arguments('GRU', units=4)
  keras1 = {'output_dim': 4, 'inner_activation': 'hard_sigmoid'}
  with pytest.raises(InputError, match=r"layer 'rnn'.* has no units"):
    arguments('LSTM', '1.2.2', **keras1)
  with pytest.raises(InputError, match='has time before batch'):
    arguments('LSTM', '2.15.0', units=4, time_major=True)


def test_a_layer_of_ones_own_may_count_its_layers():
  custom = layer('Encoder', name='mine', layers=2, layer='gelu')
  items = described(custom, layer('Dense', name='head'))
  assert [(item.name, item.store) for item in items] == [
    ('mine', 'layers/encoder'),
    ('head', 'layers/dense'),
  ]


@pytest.mark.parametrize('between', ['', 'Sequential', 'TimeDistributed'])
def test_bidirectionals_in_bidirectionals_are_not_unfolded(between):
  """Each would be described twice: 2^40 layers out of a file of a few kilobytes."""
  config = layer('Sequential', name='m', layers=[])
  for _ in range(40):
    if between == 'Sequential':
      config = layer('Sequential', name='m', layers=[config])
    elif between:
      config = layer(between, name='t', layer=config)
    config = layer('Bidirectional', name='b', layer=config)
  start = time.monotonic()
  with pytest.raises(InputError, match='a Bidirectional of a model or of a wrapper'):
    described(json.loads(json.dumps(config)))
  assert time.monotonic() - start < 5


def legacy(path, names, values):
  """A file of weights, without a configuration, as Keras 2 wrote it."""
  h5py = pytest.importorskip('h5py')
  with h5py.File(path, 'w') as file:
    file.attrs['layer_names'] = [b'decoder']
    group = file.create_group('decoder')
    group.attrs['weight_names'] = [name.encode() for name in names]
    for name, value in zip(names, values, strict=True):
      group[name] = np.full((2, 3), value, np.float32)


def test_two_cells_of_one_legacy_layer_stay_apart(tmp_path):
  cells = ('lstm_cell_1', 'lstm_cell_2')
  names = [f'decoder/{c}/{v}:0' for c in cells for v in ('kernel', 'recurrent_kernel')]
  legacy(tmp_path / 'a.h5', names, range(4))
  weights = interop.load(tmp_path / 'a.h5')
  found = {
    (name, variable): float(value.max())
    for name, layer in weights.items()
    for variable, value in layer.items()
  }
  assert found == {
    ('decoder/lstm_cell_1', 'kernel'): 0,
    ('decoder/lstm_cell_1', 'recurrent_kernel'): 1,
    ('decoder/lstm_cell_2', 'kernel'): 2,
    ('decoder/lstm_cell_2', 'recurrent_kernel'): 3,
  }
  legacy(tmp_path / 'b.h5', ['decoder/kernel:0', 'decoder/kernel:1'], range(2))
  with pytest.raises(InputError, match="two arrays are 'kernel' of 'decoder'"):
    interop.load(tmp_path / 'b.h5')


def test_names_with_more_digits_than_a_number_has(tmp_path):
  h5py = pytest.importorskip('h5py')
  names = ['gru_\u00b2', 'gru_' + '9' * 5000]
  with h5py.File(tmp_path / 'a.weights.h5', 'w') as file:
    for name in names:
      file[f'layers/{name}/vars/0'] = np.ones((2, 3))
  weights = interop.load(tmp_path / 'a.weights.h5')
  assert {layer.store for layer in weights.values()} == {f'layers/{n}' for n in names}
  layer = {'kernel': np.ones((2, 3), np.float32)}
  with pytest.raises(InputError, match='no order'):
    interop.load_into(dict.fromkeys(names, layer), dict.fromkeys('ab', layer))
