"""Every file of flags is one that its experiment takes."""

import dataclasses
import importlib
import pathlib
import typing

import pytest

_ROOT = pathlib.Path(__file__).parent.parent
_FLAGS = sorted((_ROOT / 'experiments' / 'flags').glob('*.flags'))
_OTHERS = {'demo': 'imdb_lstm'}  # files that are not named after their experiment


@pytest.mark.parametrize('path', _FLAGS, ids=lambda path: path.stem)
def test_flagfile_fits_its_experiment(path):
  name = _OTHERS.get(path.stem, path.stem)
  config = importlib.import_module(f'experiments.{name}').Config
  kinds = typing.get_type_hints(config)
  values = {}
  for line in path.read_text().splitlines():
    if line and not line.startswith('#'):
      flag, _, value = line.removeprefix('--').partition('=')
      assert flag in kinds, f'{path.name}: {line}'
      kind = kinds[flag] if kinds[flag] in (int, float) else str
      values[flag] = kind(value)
  config(**values)


def test_defaults_are_the_published_setting():
  from experiments import imdb_lstm

  expected = {'vocab_size': 10_000, 'length': 500, 'embed_size': 32, 'features': 32}
  expected |= {'batch_size': 128, 'num_epochs': 10, 'optimizer': 'rmsprop'}
  expected |= {'learning_rate': 1e-3, 'validation_split': 0.2, 'mask_zero': False}
  config = dataclasses.asdict(imdb_lstm.Config())
  assert {key: config[key] for key in expected} == expected
