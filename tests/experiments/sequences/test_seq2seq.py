"""The experiments that make texts into texts learn, write, and predict."""

import dataclasses
import importlib
import json
import shutil

import numpy as np
import pytest

from experiments import predict
from experiments.sequences import seq2seq
from experiments.suites import rows as suites
from seqjax import config as config_lib
from seqjax.data.sources import Arrays
from seqjax.data.texts.known import Parallel
from seqjax.text import corpus_bleu
from seqjax.types import NO_LABEL, InputError

pytestmark = pytest.mark.usefixtures('quick_programs')

_ROWS = {row.name: row for row in suites.SUITES['sequences']}
# What makes a run short, a number that it must reach, and a text to predict.
_CASES = {
  'addition': (
    ('--digits=2', '--features=64', '--num_epochs=30'), ('test_accuracy', 0.55), '27+5',
  ),
  'dates': (
    ('--features=32', '--num_epochs=14'), ('test_exact_match', 0.4), 'May 3, 2021',
  ),
  'translate': (
    ('--features=24', '--embed_size=24', '--num_epochs=6', '--dropout=0',
     '--length=16'),
    ('test_bleu', 60), 'Der Hund, alt, sieht einen Ball heute.',
  ),
}  # fmt: skip


def _config(name, folder, *flags):
  module = importlib.import_module(f'experiments.{name}')
  arguments = ['--dataset=synthetic', f'--workdir={folder}', *flags]
  return module, config_lib.parse(module.Config, arguments)


@pytest.mark.slow
@pytest.mark.parametrize('name', _CASES)
def test_an_experiment_learns_writes_and_predicts(name, tmp_path, capsys):
  if name == 'translate':
    pytest.importorskip('sacrebleu')
  flags, (metric, least), text = _CASES[name]
  module, config = _config(
    name, tmp_path, *flags, '--learning_rate=0.01', '--batch_size=32'
  )
  result = module.run(config)
  assert result[metric] > least
  assert json.loads((tmp_path / 'result.json').read_text()) == result
  for number in _ROWS[name].numbers:
    assert np.isfinite(result[number.metric])
  lines = (tmp_path / seq2seq.WRITTEN).read_text().splitlines()[1:]
  _, wanted, written = zip(*(line.split('\t') for line in lines), strict=True)
  assert (tmp_path / seq2seq.PICTURE).exists() == (config.attention != 'none')
  if name == 'translate':
    assert result['test_bleu'] == corpus_bleu(written, wanted, lower=True)
  else:
    share = np.mean([a == b for a, b in zip(wanted, written, strict=True)])
    assert share == result['test_exact_written']
    # What is right after right tokens only is right as a whole, if no beam meddles.
    assert share == pytest.approx(result['test_exact_match'], abs=1e-6)
  # A text alone becomes what it becomes among others.
  source = lines[0].split('\t')[0]
  (tmp_path / 'texts').write_text(f'{source}\n{text}\n{source}\n')

  def answers(**settings):
    capsys.readouterr()
    predict.run(predict.Config(workdir=str(tmp_path), json=True, **settings))
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

  first, middle, last = answers(file=str(tmp_path / 'texts'))
  assert first == last
  assert first['text'] == written[0]
  assert middle['text']
  (alone,) = answers(text=text + 'ŵ')
  assert alone['unknown']


@pytest.mark.slow
def test_runs_write_together_and_samples_say_how_sure(tmp_path, capsys):
  flags = ('--features=8', '--num_steps=4', '--warmup_steps=1', '--batch_size=16')
  flags += ('--num_pairs=200', '--beam_size=3', '--length=12', '--learning_rate=0.1')
  for name, more in {
    'runs': ('--num_seeds=2', '--teacher_forcing=0.5'),
    'dropped': ('--dropout=0.3',),
  }.items():
    module, config = _config('dates', tmp_path / name, *flags, *more)
    module.run(config)
  first = tmp_path / 'runs' / 'seeds' / '0'
  for name in ('again', 'turned'):
    shutil.copytree(first, tmp_path / name)
  file = tmp_path / 'turned' / 'config.json'
  file.write_text(file.read_text().replace('"reverse": false', '"reverse": true'))
  (tmp_path / 'texts').write_text('May 3, 2021\n\n1 6 98\n')

  def answers(*workdirs, **settings):
    capsys.readouterr()
    workdir = ','.join(map(str, workdirs))
    settings |= {'workdir': workdir, 'file': str(tmp_path / 'texts'), 'json': True}
    predict.run(predict.Config(**settings))
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

  alone = answers(first)
  assert not any('spread' in one for one in alone)
  assert any(len(one['text']) == config.length + 1 for one in alone)  # has not ended
  for one, twice in zip(alone, answers(first, tmp_path / 'again'), strict=True):
    assert twice['text'] == one['text']
    # Each of the two gives what was written the score that the search gave it.
    numbers = [twice[name] for name in ('score', 'low', 'high')]
    np.testing.assert_allclose(numbers, one['score'], rtol=1e-4)
    assert twice['spread'] < 1e-5
  for one in answers(tmp_path / 'runs'):
    assert one['low'] <= one['score'] <= one['high']
    assert one['spread'] > 1e-4
  samples = answers(tmp_path / 'dropped', samples=5)
  texts = [one['text'] for one in answers(tmp_path / 'dropped')]
  assert [one['text'] for one in samples] == texts
  assert all(one['low'] < one['score'] < one['high'] for one in samples)
  # That tokens of their own are read in training is no dropout.
  with pytest.raises(InputError, match='has no dropout'):
    answers(first, samples=5)
  with pytest.raises(InputError, match='reverse differs'):
    answers(first, tmp_path / 'turned')


def test_pairs_are_padded_together_and_weigh_their_tokens():
  pairs = seq2seq.Pairs(
    [np.array([3, 4, 5]), np.arange(2, 12)], [np.array([6]), np.array([7, 8])], 9
  )
  x, y, weight, mask = pairs.take(np.array([0]))
  assert mask is None
  assert x.tolist() == [[[3, 4, 5, 0, 0, 0, 0, 0], [9, 6, 0, 0, 0, 0, 0, 0]]]
  assert y.tolist() == [[6, 10, *[NO_LABEL] * 6]]
  x, y, weight, _ = pairs.take(np.array([1, 0]))
  assert x.shape == (2, 2, 16)
  assert y[0].tolist() == [7, 8, 10, *[NO_LABEL] * 13]
  np.testing.assert_allclose(weight, [1.2, 0.8], rtol=1e-6)
  assert pairs.lengths.tolist() == [3, 10]
  every = seq2seq.Padded(pairs)
  assert every.take(np.array([0])).x.shape == (1, 2, 16)
  assert every.lengths.tolist() == pairs.lengths.tolist()
  # A run goes on with them, whichever they were.
  assert every.fingerprint == pairs.fingerprint == Arrays(*pairs.seen()).fingerprint


def test_words_put_together_are_the_text_again(tmp_path):
  _, config = _config('translate', tmp_path, '--min_count=1')
  text = "two dogs don't run, they swim (fast)."
  parts = dict.fromkeys(('train', 'validation', 'test'), Parallel([text], [text]))
  data = seq2seq.encode(config, parts)
  x, y, _, _ = data.parts[0].take(np.array([0]))
  ids = y[0][y[0] >= 0][:-1]
  assert seq2seq.text_of(config, data.vocabularies.target, ids) == text
  assert (x[0, 0][: len(ids)] == ids).all()
  turned = seq2seq.encode(dataclasses.replace(config, reverse=True), parts)
  x, _, _, _ = turned.parts[0].take(np.array([0]))
  assert (x[0, 0][: len(ids)] == ids[::-1]).all()


@pytest.mark.parametrize('digits', [1, 4])
def test_few_sums_have_the_digits_that_are_asked_for(tmp_path, digits):
  flags = f'--digits={digits}', '--num_pairs=25'
  module, config = _config('addition', tmp_path, *flags)
  texts = [t for part in module.load_texts(config).values() for t in part.sources]
  assert len(texts) == 25
  assert max(len(n) for text in texts for n in text.split('+')) == digits


def test_flags_that_do_not_fit_are_refused(tmp_path):
  for name, flag, match in (
    ('addition', '--digits=9', '`digits` must be below 9'),
    ('addition', '--length=6', '`length` must be at least 7 for `digits=3`'),
    ('addition', '--input_feeding', '`input_feeding` needs `attention`'),
    ('dates', '--teacher_forcing=1.5', '`teacher_forcing` must be at most 1'),
  ):
    with pytest.raises(InputError, match=match):
      _config(name, tmp_path, flag)
