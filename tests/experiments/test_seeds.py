"""Every experiment with several seeds at once: each is the run it would be alone."""

import importlib
import json
import pathlib

import numpy as np
import pytest

from experiments import predict
from seqjax import config as config_lib
from seqjax.config import TrainConfig
from seqjax.data.music import midi, rolls
from seqjax.data.series import synthetic as synthetic_series
from seqjax.data.series.series import write_csv
from seqjax.data.texts import synthetic as synthetic_texts
from seqjax.types import InputError
from seqjax.workdir.log import read_metrics

pytestmark = pytest.mark.usefixtures('quick_programs')

_EXPERIMENTS = pathlib.Path(__file__).parents[2] / 'experiments'
_SEED = 1  # the one that is compared, of 0 and 1
_SHORT = ('--num_epochs=2', '--num_steps=5', '--log_every=2', '--save_every=2')
_TEXTS = ('--dataset=synthetic', '--features=6', '--embed_size=5', '--batch_size=16')
_REVIEWS = ('--dataset=synthetic', '--synthetic_size=80', '--vocab_size=60')
_REVIEWS += ('--length=41', '--batch_size=24')
_WEATHER = ('--dataset=synthetic', '--synthetic_rows=700', '--lookback=61', '--step=1')
_WEATHER += ('--delay=12', '--steps_per_epoch=3', '--batch_size=16')
_SERIES = ('--dataset=synthetic', '--synthetic_rows=200', '--features=4')
_SERIES += ('--batch_size=16',)
_MEMORY = ('--dataset=synthetic', '--length=4', '--features=6', '--steps_per_epoch=3')
_PAIRS = (*_TEXTS, '--beam_size=2')
_CASES = {
  'addition': (*_PAIRS, '--num_pairs=90'),
  'dates': (*_PAIRS, '--num_pairs=90'),
  'translate': (*_PAIRS, '--length=12', '--warmup_steps=2'),
  'adding': _MEMORY,
  'copy_memory': _MEMORY,
  'char_lm': (*_TEXTS, '--length=16', '--warmup_steps=2'),
  'classify': (*_TEXTS[1:], '--data={folder}/own.csv'),
  'classify_series': (*_SERIES, '--length=30'),
  'forecast': (*_SERIES, '--lookback=6', '--steps_per_epoch=3', '--horizon=1,3'),
  'music': (_TEXTS[0], '--features=6', '--length=16', '--frames_per_beat=2'),
  'pixels': (_TEXTS[0], '--features=6'),
  'imdb_glove': (*_REVIEWS, '--num_train=64', '--sample_seed=3'),
  **dict.fromkeys(('answer', 'compare', 'names', 'slots', 'tagging', 'topics'), _TEXTS),
}
_REFUSED = {  # each says why
  'imdb_glove': 'it needs `sample_seed`',
  **dict.fromkeys(('jena_naive', 'jena_explore'), 'nothing is trained'),
}
_LINES = {
  'answer': 'Anna went to the hall. Bruno moved to the attic. Where is Anna?',
  'adding': '0.5* 0.125 0.25*',
  'copy_memory': '1 2 3 4 5 6 7 8 1 2',
  'pixels': ' '.join(map(str, range(16))) + ' 0' * 48,
  'compare': 'a man sleeps at home\ta man sleeps on a stage',
  'dates': 'May 3, 2021',
}


def _config_class(name):
  module = importlib.import_module(f'experiments.{name}')
  found = getattr(module, 'Config', None) if hasattr(module, 'run') else None
  return found if found and issubclass(found, TrainConfig) else None


_ALL = {p.stem for p in _EXPERIMENTS.glob('[a-z]*.py') if _config_class(p.stem)}
_TRAINED = _ALL - _REFUSED.keys() | {'imdb_glove'}  # with a sample_seed


def _flags(name, folder):
  kind = 'imdb' if name == 'cookbook_simple_rnn' else name.partition('_')[0]
  flags = _CASES.get(name) or {'imdb': _REVIEWS, 'jena': _WEATHER}[kind]
  return [*_SHORT, *(flag.format(folder=folder) for flag in flags)]


def _run(name, folder, workdir, *more):
  module = importlib.import_module(f'experiments.{name}')
  flags = [*_flags(name, folder), f'--workdir={workdir}', *more]
  return module.run(config_lib.parse(module.Config, flags))


def _asked(name, folder, workdir):
  """What `predict` is asked of a run."""
  if name == 'music':
    midi.write(folder / 'piece.mid', rolls.synthetic(0, 9).test[0], frames_per_beat=2)
    return {'file': str(folder / 'piece.mid')}
  if name.startswith('jena'):
    path = folder / 'series.csv'
    write_csv(synthetic_series.weather(0, 120, faults=False), path)
    return {'file': str(path)}
  if name in ('forecast', 'classify_series'):
    return {'file': str(workdir / 'series.csv')}
  return {'text': _LINES.get(name, 'they took the old dog to the moon')}


def _answers(capsys, workdir, asked):
  capsys.readouterr()
  predict.run(predict.Config(workdir=str(workdir), json=True, **asked))
  return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def _check_alike(ours, theirs, place=''):
  """Raises AssertionError unless numbers are the same to 1e-5, and all else alike."""
  if isinstance(ours, dict):
    assert ours.keys() == theirs.keys(), place
    for key, value in ours.items():
      if 'sha256' not in key:
        _check_alike(value, theirs[key], f'{place}/{key}')
  elif isinstance(ours, list):
    assert len(ours) == len(theirs), place
    for number, pair in enumerate(zip(ours, theirs, strict=True)):
      _check_alike(*pair, f'{place}/{number}')
  elif isinstance(ours, float):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5, err_msg=place)
  else:
    assert ours == theirs, place


def _left(workdir):
  """Names of all files of a run but those of its single saves."""
  paths = (path.relative_to(workdir) for path in workdir.rglob('*') if path.is_file())
  return {str(path) for path in paths if path.parts[0] not in ('checkpoints', 'tb')}


def _saves(workdir):
  return {path.name for path in (workdir / 'checkpoints').iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize('name', sorted(_TRAINED))
def test_each_seed_leaves_what_its_run_alone_does(name, tmp_path, capsys, request):
  if name == 'translate':
    pytest.importorskip('sacrebleu')
  if name not in ('imdb_lstm', 'forecast', 'tagging'):
    request.getfixturevalue('unrendered')  # that would take as long as the training
  with (tmp_path / 'own.csv').open('w', encoding='utf-8') as file:
    part = synthetic_texts.topics(1, 100).train
    rows = zip(part.labels, part.texts, strict=True)
    file.write('\n'.join(['label,text', *(f'{a},{b}' for a, b in rows)]))
  alone, many = tmp_path / 'alone', tmp_path / 'many'
  _run(name, tmp_path, alone, f'--seed={_SEED}')
  result = _run(name, tmp_path, many, '--num_seeds=2')
  assert json.loads((many / 'result.json').read_text()) == result
  assert result['seeds'] == [0, _SEED]
  assert (many / 'curves.png').stat().st_size > 10_000
  ours = many / 'seeds' / str(_SEED)
  _check_same_run(ours, alone)
  asked = _asked(name, tmp_path, alone)
  answers = _answers(capsys, ours, asked)
  assert answers
  _check_alike(answers, _answers(capsys, alone, asked))
  # A folder of seeds answers as one.
  assert len(_answers(capsys, many, asked)) == len(answers)


def _check_same_run(ours, alone):
  assert _left(ours) == _left(alone)
  assert _saves(ours) == _saves(alone)
  for path in alone.glob('*.png'):
    assert (ours / path.name).stat().st_size > path.stat().st_size / 2
  _check_alike(read_metrics(ours), read_metrics(alone))
  found = [json.loads((f / 'result.json').read_text()) for f in (ours, alone)]
  for one in found:
    one.pop('seconds', None)
    one.pop('sequences_per_second', None)
  _check_alike(*found)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['imdb_lstm', 'topics', 'forecast', 'pixels', 'dates'])
def test_seeds_share_the_examples_that_lie_on_the_device(name, tmp_path):
  more = ('--resident', '--steps_per_dispatch=2')
  # Dates are padded to the longest of all then, and alone to that of their batch.
  alone = () if name == 'dates' else more
  _run(name, tmp_path, tmp_path / 'alone', f'--seed={_SEED}', *alone)
  _run(name, tmp_path, tmp_path / 'many', '--num_seeds=2', *more)
  _check_same_run(tmp_path / 'many' / 'seeds' / str(_SEED), tmp_path / 'alone')


@pytest.mark.parametrize('name', sorted(_REFUSED))
def test_what_is_not_to_be_trained_with_many_seeds_says_so(name):
  with pytest.raises(InputError, match=f'`num_seeds`.*{_REFUSED[name]}'):
    _config_class(name)(num_seeds=2)


@pytest.mark.parametrize('name', sorted(_TRAINED))
def test_every_other_experiment_takes_many_seeds(name, tmp_path):
  flags = [*_flags(name, tmp_path), '--num_seeds=2']
  assert config_lib.parse(_config_class(name), flags).num_seeds == 2
