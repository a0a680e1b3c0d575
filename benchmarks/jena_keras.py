"""Keras on the very windows, batches and schedule of the experiments on weather.

KERAS_BACKEND=jax python -m benchmarks.jena_keras --data_dir=DIR --out=FILE.json

For each model and seed: the flags of experiments/flags/jena_MODEL_2020.flags, the same
batches in the same order, Keras's own layers, initialisers and RMSprop; after each
epoch an exact pass over the validation windows, and the test windows with the weights
of the best epoch. What is in FILE.json already is not run again. The first weights are
Keras's draw for the seed: single runs differ from ours, only spreads can be compared.
"""

import copy
import dataclasses
import importlib
import json
import os
import pathlib
import platform
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault('KERAS_BACKEND', 'jax')

import jax
import keras
import numpy as np

from experiments import weather
from experiments.weather.training import naive_error
from seqjax import config as config_lib
from seqjax.config import field
from seqjax.data.series import windows
from seqjax.data.series.batches import RandomWindows
from seqjax.data.series.windows import WindowSet
from seqjax.files import whole
from seqjax.types import InputError

_FLAGS = pathlib.Path(__file__).parent.parent / 'experiments' / 'flags'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config_lib.DataConfig):
  """See --help."""

  data_dir: str = field('', 'Folder of jena_climate_2020.csv.', path=True)
  models: str = field('dense,gru,gru_dropout', 'Which, with commas.')
  seeds: int = field(3, 'Seeds 0, 1, ... of each.', at_least=1)
  num_epochs: int | None = field(None, "Default: the flag file's.", at_least=1)
  out: str = field('jena_keras.json', 'File of results, added to.', path=True)


def main(config: Config) -> None:
  """Runs what is not in the file yet."""
  if keras.backend.backend() != 'jax':
    raise InputError(f'KERAS_BACKEND is {keras.backend.backend()}: expected jax')
  for name in config.models.split(','):
    if name not in _MODELS:
      raise InputError(f'--models: {name!r} is none of {", ".join(_MODELS)}')
  path = pathlib.Path(config.out)
  record: dict[str, Any] = {'runs': []}
  if path.exists():
    record = json.loads(path.read_text())
  record['versions'] = {'keras': keras.__version__, 'jax': jax.__version__}
  record['device'] = f'{jax.devices()[0].device_kind}, {platform.machine()}'
  for seed in range(config.seeds):
    for name in config.models.split(','):
      settings = _settings(config, name, seed)
      key = {'model': name, 'seed': seed, 'num_epochs': settings.num_epochs}
      if any(key.items() <= run.items() for run in record['runs']):
        continue
      run = key | _train(name, settings)
      record['runs'].append(run)
      whole.write(path, json.dumps(record, indent=1).encode() + b'\n')
      print({k: v for k, v in run.items() if k != 'val_maes'}, flush=True)


def _settings(config: Config, name: str, seed: int) -> weather.Config:
  """The config of our run with this seed."""
  module = importlib.import_module(f'experiments.jena_{name}')
  arguments = [
    f'--flagfile={_FLAGS}/jena_{name}_2020.flags',
    f'--data_dir={config.data_dir}',
    f'--cache_dir={config.cache_dir}',
    f'--seed={seed}',
  ]
  if config.num_epochs is not None:
    arguments.append(f'--num_epochs={config.num_epochs}')
  return config_lib.parse(module.Config, arguments)


_MODELS: dict[str, Callable[[Any], list[keras.Layer]]] = {
  'dense': lambda config: [
    keras.layers.Flatten(),
    keras.layers.Dense(config.features, activation='relu'),
  ],
  'gru': lambda config: [keras.layers.GRU(config.features)],
  'gru_dropout': lambda config: [
    keras.layers.GRU(
      config.features,
      dropout=config.dropout,
      recurrent_dropout=config.recurrent_dropout,
    )
  ],
}


class _Epoch(keras.utils.PyDataset):
  """The batches of one epoch of our feed, in order."""

  def __init__(self, feed: RandomWindows, chosen: WindowSet, epoch: int):
    super().__init__()
    self._feed, self._chosen, self._first = feed, chosen, epoch * feed.steps_per_epoch

  def __len__(self) -> int:
    return self._feed.steps_per_epoch

  def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    batch = self._feed.batch(self._first + index)
    return _take(self._chosen, np.asarray(batch.x))


def _take(chosen: WindowSet, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  return windows.take(chosen.values, chosen.target, chosen.shape, rows)


def _train(name: str, config: weather.Config) -> dict[str, Any]:
  """One run; MAE in standard deviations of the training rows' target."""
  data = weather.load(config)
  keras.utils.set_random_seed(config.seed)
  shape = (len(data.shape.offsets), data.series.values.shape[1])
  model = keras.Sequential(
    [keras.Input(shape), *_MODELS[name](config), keras.layers.Dense(1)]
  )
  model.compile(keras.optimizers.RMSprop(config.learning_rate), loss='mae')
  assert config.steps_per_epoch is not None  # for mypy: the flag files say it
  feed = RandomWindows(
    data.train, config.batch_size, config.seed, config.steps_per_epoch
  )
  errors: list[float] = []
  best: list[np.ndarray] = []
  start, training = time.perf_counter(), 0.0
  for epoch in range(config.num_epochs):
    began = time.perf_counter()
    model.fit(_Epoch(feed, data.train, epoch), verbose=0, shuffle=False)
    training += time.perf_counter() - began
    errors.append(_error(model, data.validation))
    if errors[-1] == min(errors):
      best = copy.deepcopy(model.get_weights())
  model.set_weights(best)
  return {
    'num_params': model.count_params(),
    'steps_per_epoch': config.steps_per_epoch,
    'val_mae': min(errors),
    'best_epoch': 1 + int(np.argmin(errors)),
    'test_mae': _error(model, data.test),
    'naive_mae': naive_error(data, data.validation),
    'naive_test_mae': naive_error(data, data.test),
    'target_std': data.std,
    'val_maes': errors,
    'training_seconds': training,
    'seconds': time.perf_counter() - start,
  }


def _error(model: keras.Model, chosen: WindowSet, batch_size: int = 512) -> float:
  """MAE over all windows of a set, each once."""
  total = 0.0
  for at in range(0, len(chosen.rows), batch_size):
    x, y = _take(chosen, chosen.rows[at : at + batch_size])
    total += np.abs(np.asarray(model.predict_on_batch(x))[:, 0] - y).sum()
  return float(total / len(chosen.rows))


if __name__ == '__main__':
  config_lib.main(Config, main)
