"""Weights from Keras and back, without Keras.

`python -m seqjax.interop.keras show FILE` lists what a file holds.

  >>> from seqjax.interop import keras
  >>> model, path = sj.Stack([sj.LSTM(4), nn.Dense(1)]), tempfile.mkdtemp()
  >>> params = model.init(jax.random.key(0), jnp.ones((2, 5, 3)), train=False)['params']
  >>> keras.save_weights(f'{path}/my.weights.h5', keras.from_params(params))
  >>> keras.load_into(params, f'{path}/my.weights.h5')['layers_1']['kernel'].shape
  (4, 1)
"""

from seqjax.interop.keras.load import (
  arguments,
  arrays,
  from_params,
  load,
  load_into,
  main,
  save_weights,
)
from seqjax.interop.weights import Layer, Weights

__all__ = [
  'Layer',
  'Weights',
  'arguments',
  'arrays',
  'from_params',
  'load',
  'load_into',
  'main',
  'save_weights',
]
