"""Files of flags fit their experiments; models have the published sizes."""

import dataclasses
import importlib
import json
import pathlib
import re

import jax.numpy as jnp
import pytest

from experiments.suites import rows as suites
from seqjax import config as config_lib
from seqjax import models
from seqjax.types import InputError

pytestmark = pytest.mark.usefixtures('quick_programs')

_ROOT = pathlib.Path(__file__).parents[2]
_FLAGS = sorted((_ROOT / 'experiments' / 'flags').glob('*.flags'))
# Files that are not named after their experiment.
_OTHERS = {
  'demo': 'imdb_lstm',
  'imdb_glove_tuned': 'imdb_glove',
  'jena_explore_2020': 'jena_explore',
  'forecast_2020': 'forecast',
} | {row.name: row.experiment for rows in suites.SUITES.values() for row in rows}


@pytest.mark.parametrize('name', [path.stem for path in _FLAGS])
def test_flagfile_fits_its_experiment(name):
  _config(name)


@pytest.mark.parametrize(
  'path', sorted((_ROOT / 'experiments').glob('*.py')), ids=lambda path: path.stem
)
def test_every_flag_of_a_path_knows_home(path):
  kind = getattr(importlib.import_module(f'experiments.{path.stem}'), 'Config', None)
  specs = dataclasses.fields(kind) if kind else ()
  texts = [spec for spec in specs if 'str' in str(spec.type)]
  named = {s.name for s in texts if s.name.endswith(('dir', 'cache', 'file', 'csv'))}
  named |= {
    s.name for s in texts if s.metadata['help'].startswith(('Folder', 'File', 'PNG'))
  }
  named |= {'vectors', 'data'} & {spec.name for spec in texts}
  assert {spec.name for spec in specs if spec.metadata['path']} == named


def test_defaults_are_the_published_setting():
  from experiments import imdb_lstm

  expected = {'vocab_size': 10_000, 'length': 500, 'embed_size': 32, 'features': 32}
  expected |= {'batch_size': 128, 'num_epochs': 10, 'optimizer': 'rmsprop'}
  expected |= {'learning_rate': 1e-3, 'validation_split': 0.2, 'mask_zero': False}
  config = dataclasses.asdict(imdb_lstm.Config())
  assert {key: config[key] for key in expected} == expected


def _module(name):
  return importlib.import_module(f'experiments.{name}')


def _config(name, *flags):
  """The config of a recorded run."""
  path = _ROOT / 'experiments' / 'flags' / f'{name}.flags'
  module = _module(_OTHERS.get(name, name))
  return module, config_lib.parse(module.Config, [f'--flagfile={path}', *flags])


# Published numbers; where there is none by hand: GRU 3 * (32 * 32 + 32 * 32 + 2 * 32);
# Bidirectional twice the LSTM's 8,320 and a head of 65; convnet 7 * 128 * 32 + 32 and
# 7 * 32 * 32 + 32.
@pytest.mark.parametrize(
  ('name', 'total'),
  [
    ('imdb_embedding', 80_161),
    ('imdb_glove', 1_320_065),
    ('imdb_glove_scratch', 1_320_065),
    ('imdb_simple_rnn', 322_113),
    ('imdb_stacked_rnn', 328_320 + 33),
    ('imdb_lstm', 328_353),
    ('imdb_reversed', 328_353),
    ('imdb_gru', 320_000 + 6_336 + 33),
    ('imdb_bidirectional', 320_000 + 2 * 8_320 + 65),
    ('imdb_conv1d', 1_280_000 + 28_704 + 7_200 + 33),
    ('cookbook_simple_rnn', 133_185),
  ],
)
def test_models_have_the_published_number_of_parameters(name, total):
  module, config = _config(name)
  rows = models.summarize(
    module.make_model(config), (config.batch_size, config.length), jnp.int32
  )
  assert sum(row.num_params for row in rows) == total


@pytest.mark.parametrize(
  ('name', 'metric', 'number'),
  [
    ('imdb_lstm', 'best.val_accuracy', 0.88),
    ('imdb_glove', 'best.val_accuracy', None),  # said in words
    ('imdb_gru', 'best.val_accuracy', None),
    ('cookbook_simple_rnn', 'best.val_accuracy', None),
    ('jena_gru', 'val_mae', 0.265),
    ('jena_lstm', 'val_mae', None),
  ],
)
def test_published_numbers_are_found_by_the_name_of_the_experiment(
  name, metric, number
):
  assert suites.published(name, metric) == number


def test_the_published_numbers_in_the_docs_are_those_of_the_suites():
  """They stand in rows.py; the tables of docs/results.md repeat them."""
  rows = {row.name: row for suite in suites.SUITES.values() for row in suite}
  column, compared = None, 0
  for line in (_ROOT / 'docs' / 'results.md').read_text().splitlines():
    cells = [cell.strip() for cell in line.strip('|').split('|')]
    if not line.startswith('|'):
      column = None
    elif 'published' in cells:
      column = cells.index('published')
    elif column is not None and cells[0] in rows:
      known = [f'{n.published} {n.published_text}' for n in rows[cells[0]].numbers]
      number = r'\d+(?:\.\d+)?'
      told = set(re.findall(number, cells[column]))
      assert told <= set(re.findall(number, ' '.join(known))), line
      compared += len(told)
  assert compared >= 10


# Flag files say again what the defaults of their experiments are; those of the weather
# in test_weather.py.
_VARIANTS = (
  'demo',
  'imdb_glove_tuned',
  'imdb_glove_scratch',
  'cookbook_simple_rnn_clipped',
  'cookbook_simple_rnn_relu',
  'adding_lstm',
  'adding_chrono',
  'copy_memory_chrono',
  'copy_memory_lstm',
  'forecast_2020',
  'music_nottingham',
  'pixels_permuted',
  'pixels_lstm',
  'pixels_lstm_permuted',
  'answer_2',
  'answer_3',
  'answer_1_plain',
  'answer_2_plain',
  'answer_3_plain',
)


@pytest.mark.parametrize(
  'name',
  [
    path.stem
    for path in _FLAGS
    if path.stem not in _VARIANTS and not path.stem.startswith('jena_')
  ],
)
def test_flagfiles_hold_the_defaults(name):
  module, config = _config(name)
  assert config == module.Config()


@pytest.mark.parametrize(
  ('name', 'changed'),
  [
    ('cookbook_simple_rnn_clipped', {'clip_global_norm': 1.0}),
    ('cookbook_simple_rnn_relu', {'activation': 'relu'}),
    ('imdb_glove_tuned', {'embedding': 'tuned'}),
    ('imdb_glove_scratch', {'embedding': 'scratch'}),
    ('adding_lstm', {'layer': 'lstm'}),
    ('copy_memory_lstm', {'layer': 'lstm'}),
    ('adding_chrono', {'longest_memory': 600}),
    ('copy_memory_chrono', {'layer': 'lstm', 'longest_memory': 1000}),
    ('pixels_permuted', {'permuted': True}),
    ('pixels_lstm', {'layer': 'lstm'}),
    ('pixels_lstm_permuted', {'layer': 'lstm', 'permuted': True}),
    ('answer_2', {'task': 2}),
    ('answer_3', {'task': 3}),
    ('answer_1_plain', {'hops': 0}),
    ('answer_2_plain', {'hops': 0, 'task': 2}),
    ('answer_3_plain', {'hops': 0, 'task': 3}),
    (
      'music_nottingham',
      {
        'dataset': 'nottingham',
        'frames_per_beat': 2,
        'batch_size': 4,
        'learning_rate': 2e-3,
        'clip_global_norm': 1.0,
        'num_epochs': 40,
        'dropout': 0.1,
      },
    ),
  ],
)
def test_variants_differ_in_what_they_say(name, changed):
  module, config = _config(name)
  assert config == dataclasses.replace(module.Config(), **changed)


def test_settings_that_cannot_be_are_refused_by_flag():
  with pytest.raises(InputError, match=r'--length must be at least 41 .* got 40'):
    _config('imdb_conv1d', '--length=40')
  _config('imdb_conv1d', '--length=41')
  _config('imdb_gru', '--bucket_by_length')
  with pytest.raises(InputError, match=r'--bucket_by_length .* needs --mask_zero'):
    _config('imdb_gru', '--bucket_by_length', '--recurrent_dropout=0.2')


_TEXT = sorted({row.experiment for row in suites.SUITES['text']})
_TINY = ('--dataset=synthetic', '--synthetic_size=80', '--vocab_size=60', '--length=41')


@pytest.mark.slow
@pytest.mark.parametrize('name', _TEXT)
def test_experiments_on_reviews_run_on_generated_ones(name, tmp_path, capsys):
  few = ('--num_train=64',) if name == 'imdb_glove' else ()
  module, config = _config(
    name, *_TINY, *few, '--num_epochs=1', '--batch_size=32', f'--workdir={tmp_path}'
  )
  result = module.run(config)
  assert json.loads((tmp_path / 'result.json').read_text()) == result
  assert result['experiment'] == name
  assert result['steps'] == 2
  assert 0 <= result['best']['val_accuracy'] <= 1
  assert 0 < result['test_loss'] < 2
  names = {path.name for path in tmp_path.iterdir()}
  assert names >= {'config.json', 'metrics.jsonl', 'curves.png', 'vocabulary.json'}
  review = 'first training review: '
  assert (review in capsys.readouterr().out) == (name == 'cookbook_simple_rnn')
