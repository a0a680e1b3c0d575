"""The task of the experiments on weather: flags, windows, training, forecasts."""

from experiments.weather.data import (
  MOST_STEPS,
  SCALING_FILE,
  Config,
  Data,
  Scaling,
  column,
  load,
  read,
)
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

__all__ = [
  'MOST_STEPS',
  'PLACES',
  'SCALING_FILE',
  'Config',
  'Data',
  'Scaling',
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
