"""The experiments on sequences learn from generated data, predict and draw."""

import functools
import importlib
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from experiments import compose, experiment, predict
from experiments.sequences import images, memory, music, stories
from experiments.suites import rows as suites
from experiments.texts import classification, vocabulary
from seqjax import config as config_lib
from seqjax.data.digits import pixels
from seqjax.data.music import midi, rolls
from seqjax.data.texts import stories as told
from seqjax.types import InputError

pytestmark = pytest.mark.usefixtures('quick_programs')

_ROWS = {row.name: row for row in suites.SUITES['sequences']}


def _run(name, folder, *flags):
  module = importlib.import_module(f'experiments.{name}')
  arguments = ['--dataset=synthetic', f'--workdir={folder}', *flags]
  return module.run(config_lib.parse(module.Config, arguments))


def _answers(capsys, folder, **settings):
  capsys.readouterr()
  predict.run(predict.Config(workdir=str(folder), json=True, **settings))
  return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def _check_result(name, result, folder):
  """Holds what the suite asks for, and is on the disk."""
  for number in _ROWS[name].numbers:
    found = result
    for part in number.metric.split('.'):
      found = found[part]
    assert np.isfinite(found)
  assert json.loads((folder / 'result.json').read_text()) == result
  assert (folder / 'curves.png').exists()


@pytest.mark.slow
def test_adding_is_learnt_and_predicts_sequences_of_any_length(tmp_path, capsys):
  flags = ('--length=8', '--features=16', '--learning_rate=0.01')
  result = _run('adding', tmp_path, *flags, '--num_epochs=2', '--batch_size=32')
  assert result['test_loss'] < 0.01 < result['chance_loss'] == pytest.approx(1 / 6)
  _check_result('adding', result, tmp_path)
  assert (tmp_path / memory.PICTURE).exists()
  file = tmp_path / 'lines.txt'
  lines = ['0.5* 0.125 0.25*', '0.125 0.75* 0.5 0.1 0.3 0.9 0.25* 0.6', '0.2* 0.4*']
  file.write_text('\n'.join(lines))
  found = _answers(capsys, tmp_path, file=str(file))
  assert [answer['true'] for answer in found] == pytest.approx([0.75, 1.0, 0.6])
  assert [answer['steps'] for answer in found] == [3, 8, 2]
  assert found[1]['sum'] == pytest.approx(1.0, abs=0.35)
  # Alone or beside longer ones, a sequence has the same sum.
  (alone,) = _answers(capsys, tmp_path, text=lines[0])
  assert alone['sum'] == pytest.approx(found[0]['sum'], abs=1e-5)


@pytest.mark.slow
def test_copying_beats_chance_and_recalls_a_line(tmp_path, capsys):
  flags = ('--length=2', '--features=48', '--learning_rate=0.02', '--num_epochs=1')
  result = _run('copy_memory', tmp_path, *flags)
  assert result['test_loss'] < result['chance_loss']
  assert result['test_recall'] > 1 / 8
  _check_result('copy_memory', result, tmp_path)
  assert (tmp_path / memory.PICTURE).exists()
  (answer,) = _answers(capsys, tmp_path, text='1 2 3 4 5 6 7 8 1 2')
  assert len(answer['recalled']) == 10
  wanted = [1, 2, 3, 4, 5, 6, 7, 8, 1, 2]
  right = sum(a == b for a, b in zip(answer['recalled'], wanted, strict=True))
  assert answer['right'] == right
  # Two runs alike are one, and sure of it.
  twin = shutil.copytree(tmp_path, tmp_path / 'twin')
  text = '1 2 3 4 5 6 7 8 1 2'
  (both,) = _answers(capsys, f'{tmp_path},{twin}', text=text)
  sure = both.pop('sure')
  assert [one['spread'] for one in sure] == pytest.approx([0] * 10, abs=1e-6)
  assert [one['probability'] for one in sure] == pytest.approx(answer['probabilities'])
  assert both['recalled'] == answer['recalled']


@pytest.mark.parametrize(
  'line', ['', '0.5*', '0.5* 0.1', '0.5* 0.1* 0.2*', 'a* 0.1 b*', 'nan* 0.1*']
)
def test_lines_without_two_marked_numbers_are_refused(line):
  with pytest.raises(InputError, match='two of them marked'):
    memory._numbers(line)


@pytest.mark.parametrize(
  'line', ['', '1 2 3', '1 2 3 4 5 6 7 8 9 1', '1 2 a 4 5 6 7 8 1 2']
)
def test_lines_that_are_no_ten_symbols_are_refused(line):
  with pytest.raises(InputError, match='10 numbers from 1 to 8'):
    memory._symbols(line)


_MUSIC = ('--features=32', '--learning_rate=0.03', '--dropout=0', '--num_epochs=15')


@pytest.fixture(scope='module')
def musician(tmp_path_factory):
  """The folder of a short run of music, and its result."""
  folder = tmp_path_factory.mktemp('music')
  return folder, _run('music', folder, *_MUSIC, '--length=16', '--frames_per_beat=2')


def test_pieces_are_cut_without_losing_a_frame():
  pieces = [np.random.default_rng(0).random((T, 88)) < 0.2 for T in (2, 9, 10, 11)]
  for length in (None, 3, 9, 10):
    found = music.examples(pieces, length)
    rows = found.take(np.arange(len(found)))
    x = np.concatenate([row[real] for row, real in zip(rows.x, rows.mask, strict=True)])
    y = np.concatenate([row[real] for row, real in zip(rows.y, rows.mask, strict=True)])
    np.testing.assert_array_equal(x, np.concatenate([roll[:-1] for roll in pieces]))
    np.testing.assert_array_equal(y, np.concatenate([roll[1:] for roll in pieces]))
    np.testing.assert_allclose(
      rows.weight, rows.mask.sum(1) / rows.mask.sum(1).mean(), rtol=1e-6
    )


def test_frames_that_midi_cannot_write_are_refused_before_training():
  with pytest.raises(InputError, match='`frames_per_beat` must be below 481, got 481'):
    music.Config(frames_per_beat=481)


@pytest.mark.parametrize('out', ['a.png', 'b/A.PNG'])
def test_music_is_not_written_where_its_picture_will_be(out):
  with pytest.raises(InputError, match=f'`out={out}` must not end in .png'):
    compose.Config(out=out)


@pytest.mark.slow
def test_music_is_learnt_and_its_likelihood_is_that_of_a_loop(musician, capsys):
  folder, result = musician
  _check_result('music', result, folder)
  frames = np.concatenate([r[1:] for r in rolls.synthetic(0, 200).test]).astype(float)
  p = np.clip(np.concatenate(rolls.synthetic(0, 200).train).mean(0), 1e-6, 1 - 1e-6)
  alone = -(frames * np.log(p) + (1 - frames) * np.log(1 - p)).sum(1).mean()
  assert result['test_frame_nll'] < 0.75 * alone  # than each key's own frequency
  assert result['test_frame_nll'] == pytest.approx(result['test_loss'], rel=1e-4)
  for name in (music.PICTURE, music.SAMPLE):
    assert (folder / name).exists()
  piece = folder / 'piece.mid'
  roll = rolls.synthetic(0, 200).test[0]
  midi.write(piece, roll, frames_per_beat=2)
  (answer,) = _answers(capsys, folder, file=str(piece))
  trained = experiment.open_run(str(folder))
  x = roll[None, :-1].astype(np.float32)
  params = experiment.best_params(trained, x)
  logits = np.float64(trained.model.apply({'params': params}, x, train=False)[0])
  p = 1 / (1 + np.exp(-logits))
  nats = [
    -sum(np.log(p[t, k] if roll[t + 1, k] else 1 - p[t, k]) for k in range(88))
    for t in range(len(roll) - 1)
  ]
  assert answer['nats'] == pytest.approx(np.mean(nats), rel=1e-4)
  assert answer['frames'] == len(roll)
  for asked, message in (({'text': 'C E G'}, 'takes --file$'), ({}, 'needs --file=F')):
    with pytest.raises(InputError, match=f'a run of music {message}'):
      predict.run(predict.Config(workdir=str(folder), **asked))


@pytest.mark.slow
def test_what_is_composed_is_that_of_whole_passes(musician, tmp_path, capsys):
  folder, _ = musician
  begin = rolls.synthetic(0, 200).test[1][:8]
  midi.write(tmp_path / 'begin.mid', begin, frames_per_beat=2)

  def composed(name, **settings):
    path = tmp_path / f'{name}.mid'
    settings = {'begin': str(tmp_path / 'begin.mid'), 'num_frames': 12, **settings}
    compose.run(compose.Config(workdir=str(folder), out=str(path), **settings))
    assert path.with_suffix('.png').exists()
    return midi.read(path, frames_per_beat=2)

  safest = composed('a', temperature=0.0)
  trained = experiment.open_run(str(folder))
  params = experiment.best_params(trained, begin[None].astype(np.float32))
  roll = np.pad(begin.astype(np.float32), [(0, 12), (0, 0)])
  apply = jax.jit(functools.partial(trained.model.apply, train=False))
  for n in range(8, 20):  # what comes later changes nothing
    logits = apply({'params': params}, roll[None])
    roll[n] = np.asarray(logits)[0, n - 1] > 0
  sounding = np.flatnonzero(roll.any(1))[-1] + 1  # a file ends with its last note
  np.testing.assert_array_equal(safest, roll[:sounding] > 0)
  drawn = composed('b', seed=1)
  np.testing.assert_array_equal(drawn, composed('c', seed=1))
  assert not np.array_equal(drawn, composed('d', seed=2))
  assert len(composed('e', begin='')) > 1


@pytest.mark.slow
@pytest.mark.parametrize('permuted', [False, True])
def test_digits_are_told_by_their_pixels(tmp_path, capsys, permuted):
  flags = ('--features=24', '--learning_rate=0.01', '--num_epochs=40')
  order = '--permuted' if permuted else '--nopermuted'
  result = _run('pixels', tmp_path, *flags, order, '--batch_size=32')
  assert result['test_accuracy'] > 0.25  # and chance has 0.14 at most
  _check_result('pixels_permuted' if permuted else 'pixels', result, tmp_path)
  assert (tmp_path / classification.CONFUSION).exists()
  assert np.sum(result['confusion']) == 120
  # What predict says of the test set is the run's accuracy.
  seen = pixels.synthetic(0, 600)
  rows = np.random.RandomState(0).permutation(600)[480:]
  file = tmp_path / 'digits.txt'
  file.write_text('\n'.join(' '.join(map(str, seen.x[row])) for row in rows))
  answers = _answers(capsys, tmp_path, file=str(file))
  right = np.mean([a['digit'] == seen.y[r] for a, r in zip(answers, rows, strict=True)])
  assert right == pytest.approx(result['test_accuracy'])


@pytest.mark.parametrize(
  'line', ['', '1 2 3', '1 2 x 4', '1 2 17 4', '1 2 -1 4', '1 nan 2 3']
)
def test_lines_that_are_no_pixels_are_refused(line):
  assert images.values('1, 2,16 0', 4, 16).tolist() == [1, 2, 16, 0]
  with pytest.raises(InputError, match='expected 4 numbers from 0 to 16'):
    images.values(line, 4, 16)


def _reader(hops):
  """A reader of B 3, T 7, its weights, ids and mask."""
  encoder = sj.LSTM(5, return_sequences=True)
  reader = stories.Reader(11, 4, encoder, 6, hops, return_weights=True)
  ids = np.random.default_rng(0).integers(1, 11, (3, 7))
  mask = np.arange(7) < np.array([[7], [4], [1]])
  init = jax.jit(functools.partial(reader.init, train=False))
  params = jax.device_get(init(jax.random.key(1), ids, mask=mask)['params'])
  return reader, jax.tree.map(lambda a: np.float32(3) * a, params), ids, mask


@pytest.mark.parametrize('hops', [0, 1, 3])
def test_a_reader_looks_as_a_loop_does(hops):
  reader, params, ids, mask = _reader(hops)
  apply = jax.jit(
    lambda *a: reader.apply({'params': a[0]}, a[1], train=False, mask=a[2])
  )
  logits, weights = jax.device_get(apply(params, ids, mask))
  assert weights.shape == (3, hops, 7)
  p = jax.tree.map(np.float64, params)
  x = params['embedding']['embedding'][ids]
  layer = jax.jit(functools.partial(reader.encoder.apply, train=False))
  h = np.float64(layer({'params': params['encoder']}, x))
  for row, n in enumerate((7, 4, 1)):
    query = h[row, n - 1]
    for hop in range(hops):
      scores = []
      for t in range(n):
        key = h[row, t] @ p['keys']['kernel'] + p['keys']['bias']
        asked = query @ p[f'query_{hop}']['kernel']
        scores.append(np.tanh(key + asked) @ p[f'score_{hop}']['kernel'][:, 0])
      shares = np.exp(scores) / np.exp(scores).sum()
      np.testing.assert_allclose(weights[row, hop, :n], shares, rtol=1e-4)
      assert not weights[row, hop, n:].any()
      found = sum(share * h[row, t] for t, share in enumerate(shares))
      joined = p[f'joined_{hop}']
      query = np.tanh(
        np.concatenate([query, found]) @ joined['kernel'] + joined['bias']
      )
    wanted = query @ p['head']['kernel'] + p['head']['bias']
    np.testing.assert_allclose(logits[row], wanted, rtol=1e-4, atol=1e-5)


def test_what_fills_a_story_up_changes_no_answer_and_no_gradient():
  reader, params, ids, mask = _reader(2)

  def loss(params, ids, mask):
    y = reader.apply({'params': params}, ids, train=False, mask=mask)[0]
    return jnp.sum(y**2), y

  run = jax.jit(jax.grad(loss, has_aux=True))
  want, y = run(params, ids, mask)
  poisoned = np.where(mask, ids, 10)
  longer = np.pad(poisoned, ((0, 0), (0, 3)), constant_values=9)
  wide = np.pad(mask, ((0, 0), (0, 3)))
  for other, real in ((poisoned, mask), (longer, wide)):
    gradients, found = run(params, other, real)
    np.testing.assert_allclose(found, y, rtol=1e-5, atol=1e-6)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
      gradients,
      want,
    )


def test_looks_at_words_are_summed_over_sentences():
  tokenizer = vocabulary.fit(['a b c d e'], by='words')
  weights = np.arange(16.0).reshape(2, 8)  # six words, and two steps of padding
  found = stories.by_sentence(tokenizer, weights, ['a b', 'c d, e'])
  np.testing.assert_array_equal(found, [[1, 9, 18], [17, 33, 42]])


def test_what_is_left_of_a_sentence_without_a_word_is_none():
  tokenizer = vocabulary.fit([told.words(1)], by='words')
  text = '"Anna went to the hall..." "Bruno ran back to the attic." "Where is Anna?"'
  anna, bruno, question = stories.sentences_of(tokenizer, text)
  assert 'Anna went' in anna
  assert 'Bruno ran' in bruno
  assert 'Where is' in question


@pytest.mark.parametrize('task', told.TASKS)
def test_few_stories_have_the_ids_of_many(task):
  few, more = (
    stories.load(stories.Config(num_stories=number, task=task)) for number in (2, 300)
  )
  assert few.tokenizer.word_index == more.tokenizer.word_index
  ids = np.concatenate(few.parts[2].seen()[0])
  assert sorted({*ids.tolist()}) == list(range(2, few.tokenizer.num_ids))


@pytest.mark.slow
@pytest.mark.parametrize('hops', [0, 2])
def test_questions_are_answered(tmp_path, capsys, hops):
  flags = ('--features=24', '--embed_size=24', '--learning_rate=0.01', '--num_epochs=8')
  result = _run('answer', tmp_path, *flags, f'--hops={hops}', '--batch_size=16')
  assert result['test_accuracy'] > 0.3
  _check_result('answer_1' if hops else 'answer_1_plain', result, tmp_path)
  assert (tmp_path / stories.PICTURE).exists()
  assert (tmp_path / stories.ATTENTION).exists() == bool(hops)
  test = told.stories(1, 200, 1)
  (tmp_path / 'stories.txt').write_text('\n'.join(story.text for story in test))
  answers = _answers(capsys, tmp_path, file=str(tmp_path / 'stories.txt'))
  right = [a['answer'] == s.answer for a, s in zip(answers, test, strict=True)]
  assert np.mean(right) == pytest.approx(result['test_accuracy'])
  if hops:
    assert len(answers[0]['looked_at']) == hops
    assert {line + '.' for line in answers[0]['looked_at']} <= {
      f'{sentence}.' for sentence in test[0].sentences
    }
  (alone,) = _answers(capsys, tmp_path, text=test[0].text)
  assert alone['probability'] == pytest.approx(answers[0]['probability'], abs=1e-5)
