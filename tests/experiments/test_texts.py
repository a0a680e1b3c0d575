"""The experiments on texts learn from generated data, predict and write."""

import functools
import importlib
import io
import json
import shutil
import types

import jax
import numpy as np
import pytest

from experiments import experiment, generate, predict
from experiments.suites import rows as suites
from experiments.texts import comparison, writing
from seqjax import config as config_lib
from seqjax.data.texts import known, shakespeare, synthetic
from seqjax.types import InputError

pytestmark = pytest.mark.usefixtures('quick_programs')

_ROWS = {row.name: row for row in suites.SUITES['texts']}
_SMALL = ('--features=16', '--embed_size=16', '--batch_size=16', '--num_epochs=2')
# A number of the result, what chance has at most, and a text to predict.
_CASES = {
  'topics': ('test_accuracy', 0.35, 'they took the rocket to the moon'),
  'names': ('test_accuracy', 0.6, 'Dravor'),
  'tagging': ('test_accuracy', 0.45, 'the old dog saw they .'),
  'slots': ('test_f1', 0.2, 'play silver by anna bell'),
  'compare': ('test_pearson_r', 0.15, 'a man sleeps at home\ta man sleeps on a stage'),
  'char_lm': ('best.val_loss', -2.9, None),
}


def _run(name, folder, *flags):
  module = importlib.import_module(f'experiments.{name}')
  arguments = ['--dataset=synthetic', *_SMALL, f'--workdir={folder}', *flags]
  return module.run(config_lib.parse(module.Config, arguments))


def _answer(capsys, folder, **settings):
  capsys.readouterr()
  predict.run(predict.Config(workdir=str(folder), json=True, **settings))
  return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize('name', _CASES)
def test_an_experiment_learns_from_generated_texts(name, tmp_path, capsys):
  more = (
    ('--length=32', '--warmup_steps=5')
    if name == 'char_lm'
    else ('--learning_rate=0.02',)
  )
  result = _run(name, tmp_path, *more)
  metric, chance, text = _CASES[name]
  value = result
  for part in metric.split('.'):
    value = value[part]
  assert (-value if metric.endswith('loss') else value) > chance
  for number in _ROWS[name].numbers:
    found = result
    for part in number.metric.split('.'):
      found = found[part]
    assert np.isfinite(found)
  assert json.loads((tmp_path / 'result.json').read_text()) == result
  assert (tmp_path / 'curves.png').exists()
  # Two runs alike are one, and sure of it.
  asked = {'text': text or 'the king'}
  (answer,) = _answer(capsys, tmp_path, **asked)
  twin = shutil.copytree(tmp_path, tmp_path / 'twin')
  held_out = None if text is None else 20
  (both,) = _answer(capsys, f'{tmp_path},{twin}', **asked, held_out=held_out)
  for again in (both, *both.pop('sure', ())):
    if name != 'tagging' or again is not both:
      assert again.pop('spread') == pytest.approx(0, abs=1e-6)
      assert again.pop('low') <= again.pop('high')
  for key, value in answer.items():
    assert both.pop(key) == (
      pytest.approx(value, rel=1e-5) if isinstance(value, float) else
      pytest.approx(value, abs=1e-5) if key == 'probabilities' else value
    )  # fmt: skip
  assert not both
  if text is None:
    assert len((tmp_path / writing.SAMPLE).read_text()) == 400
    return
  # Alone or among others, a text has the same answer.
  lines = f'{text}\n{text} again and again\n{text}\n'.encode()
  stdin = types.SimpleNamespace(buffer=io.BytesIO(lines))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr('sys.stdin', stdin)
    answers = _answer(capsys, tmp_path)
  for again in (answers[0], answers[2]):
    assert again.keys() == answer.keys()
    for key, value in answer.items():
      assert again[key] == (
        pytest.approx(value, abs=1e-5) if key in ('probability', 'score') else
        pytest.approx(value, abs=1e-5) if key == 'probabilities' else value
      )  # fmt: skip


@pytest.fixture(scope='module')
def writer(tmp_path_factory):
  """The folder of a short run of a language model of words."""
  folder = tmp_path_factory.mktemp('writer')
  _run('char_lm', folder, '--tokens=words', '--min_count=2', '--length=16', '--tied')
  return folder


def test_words_put_together_are_the_text_again():
  text = synthetic.play(0, 20) + "  Don't stop -- he's  gone;\n\n\tsee?"
  config = types.SimpleNamespace(tokens='words')
  assert ''.join(writing.tokens_of(config, text)) == text


@pytest.mark.slow
def test_what_is_written_follows_from_prompt_and_seed(writer, capsys):
  def written(**settings):
    capsys.readouterr()
    generate.run(generate.Config(workdir=str(writer), **settings))
    return capsys.readouterr().out

  one = written(prompt='ANNA:\n', num_tokens=150, temperature=0.9)
  assert one.startswith('ANNA:\n')
  assert len(writing.tokens_of(types.SimpleNamespace(tokens='words'), one[6:-1])) > 100
  assert written(prompt='ANNA:\n', num_tokens=150, temperature=0.9) == one
  assert written(prompt='ANNA:\n', num_tokens=150, temperature=0.9, seed=1) != one
  short = written(prompt='ANNA:\n', num_tokens=20, temperature=0.9)
  assert one.startswith(short[:-1])
  safest = {'num_tokens': 30, 'temperature': 0.0}
  assert written(**safest) == written(**safest, seed=4)
  # The safest text is that of whole passes over what is there so far.
  model, params, tokenizer = writing.open_writer(experiment.open_run(str(writer)))
  ids = tokenizer.encode([['\n']])[0]
  apply = jax.jit(functools.partial(model.apply, train=False))
  for _ in range(30):  # what comes later changes nothing
    row = np.array([ids + [0] * (31 - len(ids))])
    _, logits = apply({'params': params}, row)
    ids.append(int(np.asarray(logits)[0, len(ids) - 1, 2:].argmax()) + 2)
  words = list(tokenizer.word_index)
  assert written(**safest) == ''.join(words[i - 1] for i in ids) + '\n'


@pytest.mark.slow
def test_a_prompt_is_needed_and_a_text_has_a_likelihood(writer, capsys):
  with pytest.raises(InputError, match='--prompt is empty'):
    generate.run(generate.Config(workdir=str(writer), prompt=''))
  likely, unlikely = (
    _answer(capsys, writer, text=text)[0]
    for text in ('the old dog saw a river', 'river a saw dog old the')
  )
  assert likely['tokens'] == 6
  assert likely['perplexity'] < unlikely['perplexity']
  model, params, tokenizer = writing.open_writer(experiment.open_run(str(writer)))
  tokens = [
    '\n',
    *writing.tokens_of(types.SimpleNamespace(tokens='words'), 'the old dog'),
  ]
  (ids,) = tokenizer.encode([tokens])
  _, logits = model.apply({'params': params}, np.array([ids]), train=False)
  logits = np.float64(logits[0])
  p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  nats = -np.mean([np.log(p[t, ids[t + 1]]) for t in range(3)])
  (answer,) = _answer(capsys, writer, text='the old dog')
  assert answer['perplexity'] == pytest.approx(np.exp(nats), rel=1e-4)


def test_what_is_no_pair_is_refused():
  assert comparison._pair('a\tb c') == ('a', 'b c')
  with pytest.raises(InputError, match='two texts with a tab between them, got 1'):
    comparison._pair('a b')


@pytest.mark.real_data
def test_the_real_collections_have_their_published_sizes(real_data):
  data = str(real_data)
  r8 = known.r8(data, 0.1)
  assert (len(r8.train.texts) + len(r8.validation.texts), len(r8.test.texts)) == (
    5485, 2189,
  )  # fmt: skip
  assert len(set(known.names(data, 0.1, 0.1).train.labels)) == 18
  treebank = known.ud_partut(data)
  assert [len(part.words) for part in treebank.values()] == [1781, 156, 153]
  assert len({tag for row in treebank['train'].tags for tag in row}) == 17
  commands = known.snips(data)
  assert [len(part.words) for part in commands.values()] == [13_084, 700, 700]
  assert len(set(commands['train'].classes)) == 7
  pairs = known.sick(data)
  assert [len(part.pairs) for part in pairs.values()] == [4500, 500, 4927]
  assert len(shakespeare.load(data)) == 1_115_394
