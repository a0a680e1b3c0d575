"""The task of the experiments on weather: flags, windows, training, forecasts."""

from experiments.series.data import SCALING_FILE
from experiments.weather.data import Config, Data, Untrained, column, load, read
from experiments.weather.prediction import about, predict
from experiments.weather.training import (
  PLACES,
  draw_forecasts,
  facts,
  forecast,
  naive_error,
  naive_numbers,
  show,
  train,
)

# What makes inputs of rows: a file that the run left, and fields of its config.
INPUTS = (
  SCALING_FILE,
  *('target', 'lookback', 'step', 'delay', 'windows', 'across_gaps'),
)
ASKED = ('file', 'held_out', 'picture')  # of predict's flags

__all__ = [
  'ASKED',
  'INPUTS',
  'PLACES',
  'SCALING_FILE',
  'Config',
  'Data',
  'Untrained',
  'about',
  'column',
  'draw_forecasts',
  'facts',
  'forecast',
  'load',
  'naive_error',
  'naive_numbers',
  'predict',
  'read',
  'show',
  'train',
]
