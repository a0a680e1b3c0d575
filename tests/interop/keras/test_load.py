"""Weights from Keras and back: equal predictions, in every format."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax.interop import keras as interop
from seqjax.types import InputError

pytest.importorskip('h5py')
keras = pytest.importorskip('keras')

import keras_models as models  # noqa: E402  (needs both)
from keras_models import FORMATS, D, T, V  # noqa: E402

# Of Keras, where it hands its variables to NumPy.
pytestmark = pytest.mark.filterwarnings(
  'ignore:__array__ implementation:DeprecationWarning'
)


@pytest.fixture(scope='module', autouse=True)
def rank_promotion():
  with jax.numpy_rank_promotion('allow'):  # Keras adds [H] to [B, T, H]
    yield


@pytest.mark.parametrize(
  'name',
  [
    'conv',
    pytest.param('bilstm', marks=pytest.mark.slow),
    pytest.param('stacked_gru', marks=pytest.mark.slow),
  ],
)
def test_a_trained_model_moves_over_and_back(tmp_path, name):
  model = models.trained(name)
  params = models.fresh_params(model.ours, model.x)
  before = jax.tree.map(np.array, params)
  loaded = [interop.load_into(params, model.file(suffix)) for suffix in FORMATS]
  jax.tree.map(np.testing.assert_array_equal, params, before)  # a copy was filled
  for other in loaded[1:]:
    jax.tree.map(np.testing.assert_array_equal, other, loaded[0])
  predict = jax.jit(lambda p: model.ours.apply({'params': p}, model.x, train=False))
  np.testing.assert_allclose(predict(loaded[0]), model.y, rtol=1e-5, atol=1e-5)

  changed = models.shaken(loaded[0])
  y = predict(changed)
  assert np.abs(model.y - y).max() > 1e-2
  for suffix in FORMATS:
    weights = interop.from_params(changed, like=model.file(suffix))
    interop.save_weights(tmp_path / 'back.weights.h5', weights)
    model.theirs.load_weights(model.file('.weights.h5'))
    model.theirs.load_weights(tmp_path / 'back.weights.h5')
    assert_equal(model.theirs.predict_on_batch(model.x), y)
    if suffix != '.weights.h5':
      model.theirs.load_weights(model.file('.weights.h5'))
      model.theirs.set_weights(interop.arrays(weights))
      assert_equal(model.theirs.predict_on_batch(model.x), y)
  # And without a file to go by: a stack says where its layers are.
  weights = interop.from_params(changed)
  interop.save_weights(tmp_path / 'plain.weights.h5', weights)
  model.theirs.load_weights(model.file('.weights.h5'))
  model.theirs.load_weights(tmp_path / 'plain.weights.h5')
  assert_equal(model.theirs.predict_on_batch(model.x), y)
  model.theirs.load_weights(model.file('.weights.h5'))
  model.theirs.set_weights(interop.arrays(weights))
  assert_equal(model.theirs.predict_on_batch(model.x), y)


def assert_equal(actual, expected):
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('suffix', FORMATS)
def test_what_a_file_holds(suffix):
  weights = interop.load(models.trained('bilstm').file(suffix))
  shapes = {n: {v: a.shape for v, a in layer.items()} for n, layer in weights.items()}
  head = next(name for name in shapes if name.startswith('dense'))
  lstm = {'kernel': (6, 16), 'recurrent_kernel': (4, 16), 'bias': (16,)}
  bidirectional = next(name for name in shapes if 'forward' in name).split('/')[0]
  assert shapes == {
    next(name for name in shapes if name.startswith('emb')): {'embeddings': (V, 6)},
    f'{bidirectional}/forward_layer': lstm,
    f'{bidirectional}/backward_layer': lstm,
    head: {'kernel': (8, 2), 'bias': (2,)},
  }
  classes = [layer.class_name for layer in weights.values()]
  assert sorted(classes) == ['Dense', 'Embedding', 'LSTM', 'LSTM']
  assert weights.ordered == (suffix != '.weights.h5')
  if weights.ordered:
    assert classes == ['Embedding', 'LSTM', 'LSTM', 'Dense']
    assert weights.version == keras.__version__
    assert weights[f'{bidirectional}/forward_layer'].config['units'] == 4
  else:
    with pytest.raises(ValueError, match='does not say in which order'):
      interop.arrays(weights)


def test_arguments_of_the_equal_layer():
  weights = interop.load(models.trained('bilstm').file('.keras'))
  embedding, forward, backward, _ = weights
  ids = models.inputs('bilstm')
  layer = sj.Embedding(**interop.arguments(weights, embedding))
  variables = {'params': {'embedding': weights[embedding]['embeddings']}}
  x = layer.apply(variables, ids)
  np.testing.assert_array_equal(x, weights[embedding]['embeddings'][ids])
  assert layer.mask_zero
  for name, backwards in ((forward, False), (backward, True)):
    layer = sj.LSTM(**interop.arguments(weights, name))
    assert layer.go_backwards == backwards
    init = functools.partial(layer.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), x)['params']
    loaded = interop.load_into({'encoder': shapes}, weights, {'encoder': name})
    np.testing.assert_array_equal(loaded['encoder']['bias'], weights[name]['bias'])
  without = interop.load(models.trained('bilstm').file('.weights.h5'))
  with pytest.raises(InputError, match='no configuration'):
    interop.arguments(without, forward)
  with pytest.raises(InputError, match="no layer 'nope'"):
    interop.arguments(weights, 'nope')


@pytest.mark.parametrize('key', ['stateful', 'activation'])
def test_arguments_without_an_equal_are_refused(key):
  config = {'units': 3, 'activation': 'tanh', key: 'gelu' if key == 'activation' else 1}
  weights = interop.Weights(
    {'rnn': interop.Layer({}, class_name='SimpleRNN', config=config)}
  )
  with pytest.raises(InputError, match=r"layer 'rnn'.*(gelu|stateful)"):
    interop.arguments(weights, 'rnn')


@pytest.mark.slow
def test_formats_of_models_in_models_agree(tmp_path):
  L = keras.layers
  inner = keras.Sequential([keras.Input((T, 4)), L.GRU(3), L.Dense(2, name='top')])
  x = keras.Input((T, D))
  cells = [L.LSTMCell(5), L.GRUCell(4)]
  L.StackedRNNCells(cells)  # so the one below is called stacked_rnn_cells_1, or later
  y = L.RNN(L.StackedRNNCells(cells), return_sequences=True)(x)
  y = L.TimeDistributed(L.Dense(4))(y)
  y = L.BatchNormalization(scale=False)(y)
  model = keras.Model(x, inner(y))
  found = []
  for suffix in FORMATS:
    save = model.save_weights if suffix == '.weights.h5' else model.save
    save(tmp_path / f'model{suffix}')
    found.append(interop.load(tmp_path / f'model{suffix}'))
  whole, unordered, legacy = found
  assert [layer.class_name for layer in whole.values()] == [
    'LSTM',
    'GRU',
    'Dense',
    'BatchNormalization',
    'GRU',
    'Dense',
  ]
  assert list(whole) == list(legacy)
  for name, layer in whole.items():
    assert list(layer) == list(legacy[name])
    assert layer.store == legacy[name].store == unordered[name].store
    for variable, value in layer.items():
      np.testing.assert_array_equal(value, legacy[name][variable])
    for value, other in zip(layer.values(), unordered[name].values(), strict=True):
      np.testing.assert_array_equal(value, other)
  for value, theirs in zip(interop.arrays(whole), model.get_weights(), strict=True):
    np.testing.assert_array_equal(value, theirs)


def test_both_directions_of_stacked_cells_move_over(tmp_path):
  """Into a Stack in a Bidirectional, whichever way its backward one is said."""
  L, options = keras.layers, {'return_sequences': True}
  cells = [L.LSTMCell(4), L.GRUCell(4), L.LSTMCell(4)]  # two of one shape
  theirs = keras.Sequential(
    [keras.Input((T, D)), L.Bidirectional(L.RNN(cells, **options), 'ave')]
  )
  theirs.save(tmp_path / 'model.keras')
  x = np.random.default_rng(0).normal(size=(2, T, D)).astype(np.float32)

  def stack(**first):
    above = sj.GRU(4, **options), sj.LSTM(4, **options)
    return sj.Stack([sj.LSTM(4, **options, **first), *above])

  for backward in (None, stack(go_backwards=True)):
    ours = sj.Bidirectional(stack(), backward, merge_mode='ave')
    init = functools.partial(ours.init, train=False)
    params = jax.eval_shape(init, jax.random.key(0), x)['params']
    params = interop.load_into(params, tmp_path / 'model.keras', model=ours)
    y = ours.apply({'params': params}, x, train=False)
    assert_equal(y, theirs.predict_on_batch(x))
    other = ours.clone(merge_mode='sum')
    with pytest.raises(InputError, match=r"has merge_mode 'sum'.* 'ave'"):
      interop.load_into(params, tmp_path / 'model.keras', model=other)
  turned = sj.Bidirectional(ours.backward_layer, ours.forward_layer, merge_mode='ave')
  with pytest.raises(InputError, match='go_backwards'):
    interop.load_into(params, tmp_path / 'model.keras', model=turned)


def test_layers_of_a_subclassed_model_are_found_by_their_attributes(tmp_path):
  class Model(keras.Model):
    def __init__(self):
      super().__init__()
      self.codes = keras.layers.Embedding(V, 3)
      self.encoder = keras.layers.Bidirectional(keras.layers.GRU(4))
      self.heads = [keras.layers.Dense(6), keras.layers.Dense(6)]

    def call(self, ids):
      x = self.encoder(self.codes(ids))
      return self.heads[0](x) + self.heads[1](x)

  model = Model()
  model(models.inputs('bilstm'))
  model.save_weights(tmp_path / 'model.weights.h5')
  weights = interop.load(tmp_path / 'model.weights.h5')
  names = ['heads/dense', 'heads/dense_1']
  assert list(weights) == [
    'codes',
    'encoder/forward_layer',
    'encoder/backward_layer',
    *names,
  ]
  assert weights['codes'].class_name == 'Embedding'
  dense = {'kernel': jnp.zeros((8, 6)), 'bias': jnp.zeros(6)}
  params = {'head_1': dense, 'head_0': dense}
  loaded = interop.load_into(params, weights, {'head_0': names[0], 'head_1': names[1]})
  for i, head in enumerate(model.heads):
    np.testing.assert_array_equal(loaded[f'head_{i}']['kernel'], head.kernel)
  loaded = interop.load_into(params, {name: weights[name] for name in names})
  np.testing.assert_array_equal(loaded['head_1']['kernel'], model.heads[1].kernel)


@pytest.mark.parametrize('config', [True, False])
def test_files_of_keras_2(tmp_path, config):
  values = models.legacy_keras2_file(tmp_path / 'old.h5', config)
  weights = interop.load(tmp_path / 'old.h5')
  assert list(weights) == ['lstm_9', 'lstm_10', 'dense_1']
  assert weights.version == '2.2.4'
  for (name, variable), value in values.items():
    np.testing.assert_array_equal(weights[name][variable], value)
    assert weights[name][variable].dtype == np.float32
  if config:
    arguments = interop.arguments(weights, 'lstm_9')
    assert arguments['recurrent_activation'] is sj.cells.hard_sigmoid_keras2
  elif not config:
    with pytest.raises(InputError, match='no configuration'):
      interop.arguments(weights, 'lstm_9')


def test_bfloat16_survives_a_file(tmp_path):
  value = jnp.linspace(-3, 3, 12, dtype=jnp.bfloat16).reshape(3, 4)
  weights = interop.from_params({'head': {'kernel': value}})
  interop.save_weights(tmp_path / 'a.weights.h5', weights)
  kernel = interop.load(tmp_path / 'a.weights.h5')['dense']['kernel']
  assert kernel.dtype == jnp.bfloat16
  np.testing.assert_array_equal(kernel, value)
  model = keras.Sequential(
    [keras.Input((3,)), keras.layers.Dense(4, use_bias=False, dtype='bfloat16')]
  )
  model.load_weights(tmp_path / 'a.weights.h5')
  np.testing.assert_array_equal(model.layers[0].kernel, value)
  model.save_weights(tmp_path / 'b.weights.h5')
  theirs = interop.load(tmp_path / 'b.weights.h5')
  np.testing.assert_array_equal(next(iter(theirs.values()))['kernel'], value)


def test_the_command_lists_a_file(capsys):
  assert interop.main(['show', str(models.trained('bilstm').file('.keras'))]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert 'Keras 3.' in lines[0]
  assert '4 layers' in lines[0]
  assert any('forward_layer  LSTM  ' in li and 'units=4' in li for li in lines)
  assert any(
    li.split() == ['recurrent_kernel', '(4,', '16)', 'float32', '64'] for li in lines
  )
  total = V * 6 + 2 * (6 * 16 + 4 * 16 + 16) + 8 * 2 + 2
  assert lines[-1].split() == ['total', str(total)]
