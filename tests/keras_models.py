"""Keras models, trained and saved, and the same models out of seqjax's layers."""

import atexit
import functools
import json
import pathlib
import shutil
import tempfile
from typing import Any, NamedTuple

import flax.linen as nn
import h5py
import jax
import jax.numpy as jnp
import keras
import numpy as np

import seqjax as sj

B, T, D, V = 5, 7, 3, 11
FORMATS = ['.keras', '.weights.h5', '.h5']


def keras_stacked_gru():
  L = keras.layers
  return keras.Sequential(
    [
      keras.Input((T, D)),
      L.GRU(4, dropout=0.2, recurrent_dropout=0.3, return_sequences=True),
      L.Dropout(0.3),
      L.GRU(6, activation='relu', reset_after=False),
      L.Dense(1),
    ]
  )


def keras_bilstm():
  L = keras.layers
  ids = keras.Input((T,), dtype='int32')
  x = L.Embedding(V, 6, mask_zero=True)(ids)
  return keras.Model(ids, L.Dense(2)(L.Bidirectional(L.LSTM(4))(x)))


def keras_conv():
  L = keras.layers
  return keras.Sequential(
    [
      keras.Input((T, D)),
      L.Conv1D(5, 3, activation='relu'),
      L.LayerNormalization(),
      L.GlobalMaxPooling1D(),
      L.Dense(2),
    ]
  )


# Each with the same model out of seqjax's layers.
MODELS = {
  'stacked_gru': (
    keras_stacked_gru,
    sj.Stack(
      [
        sj.GRU(4, dropout=0.2, recurrent_dropout=0.3, return_sequences=True),
        nn.Dropout(0.3),
        sj.GRU(6, activation='relu', reset_after=False),
        nn.Dense(1),
      ]
    ),
  ),
  'bilstm': (
    keras_bilstm,
    sj.Stack(
      [
        sj.Embedding(V, 6, mask_zero=True),
        sj.Bidirectional(sj.LSTM(4)),
        nn.Dense(2),
      ]
    ),
  ),
  'conv': (
    keras_conv,
    sj.Stack(
      [
        sj.Conv1D(5, 3, activation='relu'),
        nn.LayerNorm(epsilon=1e-3, use_fast_variance=False),
        sj.GlobalMaxPooling1D(),
        nn.Dense(2),
      ]
    ),
  ),
}


def inputs(name):
  rng = np.random.default_rng(len(name))
  if name == 'bilstm':
    ids = rng.integers(1, V, (B, T)).astype(np.int32)
    ids[0, :3] = ids[1, 4:] = 0  # padding before and after
    return ids
  return rng.normal(size=(B, T, D)).astype(np.float32)


def fresh_params(model, x):
  """Parameters of zeros; without the compilation of the initialisers."""
  init = functools.partial(model.init, train=False)
  shapes = jax.eval_shape(init, jax.random.key(3), x)['params']
  return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)


def shaken(params):
  """Other values of the same size, so that nothing can be right by being left alone."""
  rng = np.random.default_rng(7)
  return jax.tree.map(
    lambda a: a + 0.1 * rng.normal(size=a.shape).astype(a.dtype), params
  )


class Trained(NamedTuple):
  name: str
  theirs: Any  # the Keras model; tests change its weights
  ours: nn.Module
  x: np.ndarray
  y: np.ndarray  # what the saved model predicts
  folder: pathlib.Path

  def file(self, suffix):
    return self.folder / f'model{suffix}'


@functools.cache
def trained(name):
  """A model, trained for some steps and saved in each format; once in a process."""
  folder = pathlib.Path(tempfile.mkdtemp())
  atexit.register(shutil.rmtree, folder)
  keras.utils.set_random_seed(len(name))
  make, ours = MODELS[name]
  theirs, x = make(), inputs(name)
  y = np.random.default_rng(1).normal(size=(B, theirs.output_shape[-1]))
  theirs.compile(keras.optimizers.RMSprop(0.02), 'mse')
  theirs.fit(x, y, epochs=3, batch_size=B, verbose=0)
  for suffix in FORMATS:
    save = theirs.save_weights if suffix == '.weights.h5' else theirs.save
    save(folder / f'model{suffix}')
  theirs = make()  # without an optimiser, whose state it would miss in our files
  theirs.load_weights(folder / 'model.weights.h5')
  return Trained(name, theirs, ours, x, theirs.predict_on_batch(x), folder)


def legacy_keras2_file(path, config=True):
  """As tf.keras 2 wrote it: bytes in attributes, ':0' after names."""
  rng = np.random.default_rng(5)
  kernels = {
    'lstm_9': {'kernel': (3, 16), 'recurrent_kernel': (4, 16), 'bias': (16,)},
    'lstm_10': {'kernel': (4, 16), 'recurrent_kernel': (4, 16), 'bias': (16,)},
    'dense_1': {'kernel': (4, 2), 'bias': (2,)},
  }
  values = {}
  with h5py.File(path, 'w') as file:
    root = file.create_group('model_weights') if config else file
    root.attrs['keras_version'] = b'2.2.4'
    root.attrs['layer_names'] = [b'lstm_9', b'drop', b'lstm_10', b'dense_1']
    if config:
      layers = [
        {
          'class_name': 'LSTM' if 'lstm' in name else 'Dense',
          'config': {
            'name': name,
            'units': 4,
            'activation': 'tanh',
            'recurrent_activation': 'hard_sigmoid',
          },
        }
        for name in kernels
      ]
      config = {'class_name': 'Sequential', 'config': layers}
      file.attrs['model_config'] = json.dumps(config).encode()
    root.create_group('drop').attrs['weight_names'] = []
    for name, variables in kernels.items():
      group = root.create_group(name)
      inner = 'lstm_cell/' if 'lstm' in name and name != 'lstm_9' else ''
      names = [f'{name}/{inner}{variable}:0' for variable in variables]
      group.attrs['weight_names'] = [n.encode() for n in names]
      for (variable, shape), full in zip(variables.items(), names, strict=True):
        group[full] = values[name, variable] = rng.normal(size=shape).astype('>f4')
  return values
