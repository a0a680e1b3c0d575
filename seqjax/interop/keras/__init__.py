"""Weights from Keras and back, without Keras; `python -m seqjax.interop.keras FILE`."""

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
