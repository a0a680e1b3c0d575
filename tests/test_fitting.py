"""`fit` from Python: it is a command's run, and what is set does what it says."""

import dataclasses
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy

import seqjax as sj
from seqjax.cluster import signals
from seqjax.types import InputError

pytestmark = pytest.mark.usefixtures('no_pictures', 'quick_programs')

TOY = {
  'loss': 'binary_crossentropy',
  'metrics': ['accuracy'],
  'num_epochs': 4,
  'batch_size': 32,
  'learning_rate': 0.01,
  'log_every': 3,
  'save_every': 3,
  'quiet': True,
}


def data():
  x, y = toy.examples()
  return (x[:150], y[:150]), (x[150:], y[150:])


def fit(**more):
  train, held_out = data()
  options = {'validation': held_out, 'test': held_out, **TOY, **more}
  return sj.fit(toy.model(), train, **options)


class Tagger(nn.Module):
  """A class a step."""

  classes: int = 3

  @nn.compact
  def __call__(self, ids, train, mask=None):
    x = sj.Embedding(12, 5)(ids)
    x = sj.GRU(6, return_sequences=True)(x, train=train, mask=mask)
    return nn.Dense(self.classes)(x)


def ragged(N=60):
  rng = np.random.default_rng(0)
  x = [rng.integers(1, 12, rng.integers(2, 9)) for _ in range(N)]
  return x, [row % 3 for row in x]


@pytest.fixture(scope='module')
def fitted():
  return fit()


@pytest.fixture(scope='module')
def on_disk(tmp_path_factory):
  """The folders of a command's run and of the same one by `fit`, and what they gave."""
  folder = tmp_path_factory.mktemp('runs')
  command, own = folder / 'command', folder / 'fit'
  return (command, toy.train(command)), (own, fit(workdir=own))


def test_it_is_the_run_of_a_command_with_or_without_a_workdir(on_disk, fitted):
  (command, result), (folder, on_disk) = on_disk
  assert fitted.result['params_sha256'] == result['params_sha256']
  assert on_disk.result['params_sha256'] == result['params_sha256']
  assert fitted.result['best'] == on_disk.result['best'] == result['best']
  assert fitted.result['test_loss'] == result['test_loss']
  lines = [(path / 'metrics.jsonl').read_bytes() for path in (command, folder)]
  assert lines[0] == lines[1]


@pytest.mark.slow
def test_an_experiment_called_from_python_has_the_digest_of_its_command(tmp_path):
  from experiments import imdb_lstm, reviews

  flags = {
    'dataset': 'synthetic', 'synthetic_size': 400, 'length': 40, 'features': 8,
    'num_epochs': 2, 'dropout': 0.2, 'recurrent_dropout': 0.2,
  }  # fmt: skip
  command = [sys.executable, '-m', 'experiments.imdb_lstm', f'--workdir={tmp_path}']
  command += [f'--{name}={value}' for name, value in flags.items()]
  root = pathlib.Path(__file__).parent.parent
  subprocess.run(command, check=True, capture_output=True, cwd=root)
  result = json.loads((tmp_path / 'result.json').read_text())
  config = imdb_lstm.Config(**flags)
  loaded = reviews.load(config)
  parts = (loaded.train, loaded.validation, loaded.test)
  train, validation, test = ((part.x, part.y) for part in parts)
  found = sj.fit(
    imdb_lstm.make_model(config), train, validation, test=test,
    loss='binary_crossentropy', metrics=['accuracy'], num_epochs=2, quiet=True,
    num_devices=1,
  )  # fmt: skip
  assert found.result['params_sha256'] == result['params_sha256']
  assert found.result['test_accuracy'] == result['test_accuracy']


def test_what_comes_back_can_be_used(tmp_path, fitted):
  (x, _), held_out = data()
  assert fitted.history['epoch'].tolist() == [1, 2, 3, 4]
  assert fitted.history.keys() == {
    'step', 'epoch', 'loss', 'accuracy', 'val_loss', 'val_accuracy'
  }  # fmt: skip
  again = fitted.evaluate(held_out)
  assert again['loss'] == pytest.approx(fitted.result['test_loss'], rel=1e-5)
  logits = fitted.predict(x)
  assert logits.shape == (150,)
  want = fitted.model.apply({'params': fitted.params}, x, train=False)
  np.testing.assert_allclose(logits, want, rtol=1e-5, atol=1e-6)
  assert fitted.predict(x[:1]).shape == (1,)
  figure = fitted.plot(tmp_path / 'curves.png')
  assert (tmp_path / 'curves.png').stat().st_size > 10_000
  assert figure.axes[0].get_ylabel().startswith('Loss')


def test_a_run_is_loaded_by_its_folder_a_command_s_too(tmp_path, on_disk):
  (x, _), held_out = data()
  loaded = [sj.load(folder) for folder, _ in reversed(on_disk)]
  assert loaded[0].model == loaded[1].model == toy.model()
  np.testing.assert_array_equal(loaded[0].predict(x), loaded[1].predict(x))
  assert len(loaded[0].history['loss']) == 4
  values = loaded[0].evaluate(held_out, loss='binary_crossentropy')
  assert values['loss'] == pytest.approx(loaded[0].result['test_loss'], rel=1e-5)
  with pytest.raises(InputError, match='needs `loss`'):
    loaded[0].evaluate(held_out)
  with pytest.raises(InputError, match=r'config\.json'):
    sj.load(tmp_path)


def test_lists_of_unequal_length_are_padded_arrays_with_masks():
  x, _ = ragged()
  y = np.array([row.sum() % 2 for row in x], np.float32)
  T = max(map(len, x))
  padded = np.array([np.pad(row, (0, T - len(row))) for row in x]).astype(np.int32)
  lists = sj.fit(
    toy.model(rate=0.0), (x, y), loss='binary_crossentropy', num_epochs=2, quiet=True
  )
  model = toy.model(rate=0.0).clone(mask_zero=True)
  arrays = sj.fit(
    model, (padded, y), loss='binary_crossentropy', num_epochs=2, quiet=True
  )
  # All in one batch: the order within it does not matter.
  np.testing.assert_allclose(lists.history['loss'], arrays.history['loss'], rtol=1e-6)
  np.testing.assert_allclose(
    lists.predict(x), arrays.predict(padded), rtol=1e-5, atol=1e-6
  )


def test_a_tagger_of_unequal_sequences_learns_and_answers_a_step_each():
  x, y = ragged(120)
  found = sj.fit(
    Tagger(), (x[:100], y[:100]), (x[100:], y[100:]), loss='crossentropy',
    metrics=['accuracy'], optimizer='adam', learning_rate=0.03, num_epochs=30,
    batch_size=20, quiet=True,
  )  # fmt: skip
  assert found.history['val_accuracy'][-1] > 0.97
  tags = found.predict(x[100:])
  assert [t.shape for t in tags] == [(len(row), 3) for row in x[100:]]
  right = np.mean(
    np.concatenate([t.argmax(-1) for t in tags]) == np.concatenate(y[100:])
  )
  assert right > 0.9


class Scores(nn.Module):
  """A number a step, from its x alone."""

  @nn.compact
  def __call__(self, x, mask=None):
    return nn.Dense(1)(x)[..., 0]


@pytest.mark.parametrize(
  ('loss', 'whole'), [('mse', False), ('mae', True), ('binary_crossentropy', True)]
)
def test_a_step_that_fills_a_sequence_up_is_no_target(loss, whole):
  rng = np.random.default_rng(0)
  x = [rng.normal(size=(n, 2)).astype(np.float32) for n in (2, 10, 10, 2)]
  y = [rng.integers(0, 2, len(row)) for row in x]
  y = y if whole else [row.astype(np.float32) for row in y]
  settings = {'loss': loss, 'metrics': ['accuracy'], 'quiet': True, 'num_epochs': 1}
  found = sj.fit(Scores(), (x, y), batch_size=2, num_steps=1, **settings)
  alone = [found.evaluate((row[None], t[None])) for row, t in zip(x, y, strict=True)]
  together = found.evaluate((x, y))
  for name, value in together.items():
    assert value == pytest.approx(np.mean([one[name] for one in alone]), rel=1e-5)

  class Zero(Scores):
    def __call__(self, x, mask=None):
      return 0 * super().__call__(x, mask)

  zeros = [np.zeros(len(row), t.dtype) for row, t in zip(x, y, strict=True)]
  still = sj.fit(Zero(), (x, zeros), batch_size=2, **settings)
  assert still.history['loss'][0] == pytest.approx(
    np.log(2) if loss == 'binary_crossentropy' else 0
  )


def test_outputs_are_cut_where_they_follow_the_steps_not_where_sizes_agree():
  x = [np.ones(n, np.int64) for n in (2, 5, 3, 4)]
  model = sj.SequenceClassifier(12, 4, sj.GRU(3), num_classes=5)
  found = sj.fit(
    model, (x, np.arange(4)), loss='crossentropy', num_epochs=1, quiet=True
  )
  logits = found.predict(x)
  assert isinstance(logits, np.ndarray)
  assert logits.shape == (4, 5)
  found = sj.fit(
    Tagger(classes=5), (x, x), loss='crossentropy', num_epochs=1, quiet=True
  )
  assert [row.shape for row in found.predict(x)] == [(2, 5), (5, 5), (3, 5), (4, 5)]


def test_sequences_to_evaluate_may_be_longer_than_those_to_train_on():
  x, y = ragged()
  short = [row[:3] for row in x]
  options = {'loss': 'crossentropy', 'num_epochs': 1, 'quiet': True}
  found = sj.fit(Tagger(), (short, [t[:3] for t in y]), (x, y), test=(x, y), **options)
  want = found.evaluate((x, y))['loss']
  assert found.history['val_loss'][0] == pytest.approx(want, rel=1e-6)
  assert found.result['test_loss'] == pytest.approx(want, rel=1e-6)


def test_a_source_with_encode_is_the_arrays_it_holds():
  (x, y), _ = data()

  class Table:
    def __len__(self):
      return len(x)

    def __getitem__(self, i):
      return {'ids': x[i].tolist(), 'label': float(y[i])}

  def encode(row):
    return np.array(row['ids']), row['label']

  got = sj.fit(toy.model(), Table(), encode=encode, **{**TOY, 'num_epochs': 2})
  want = sj.fit(toy.model(), (x, y), **{**TOY, 'num_epochs': 2})
  np.testing.assert_array_equal(got.history['loss'], want.history['loss'])
  with pytest.raises(InputError, match=r'`encode` fails for example \d+: KeyError'):
    sj.fit(toy.model(), Table(), encode=lambda row: row['text'], **TOY)
  with pytest.raises(InputError, match='give `encode`'):
    sj.fit(toy.model(), Table(), **TOY)
  with pytest.raises(InputError, match='`resident` needs examples in arrays or lists'):
    sj.fit(toy.model(), Table(), encode=encode, resident=True, **TOY)


def test_weights_of_examples_count():
  (x, y), _ = data()
  weight = np.zeros(150, np.float32)
  weight[:70] = 2
  options = {**TOY, 'num_epochs': 1, 'batch_size': 150, 'num_steps': 1}
  some = sj.fit(toy.model(rate=0.0), (x, y, weight), **options)
  part = sj.fit(toy.model(rate=0.0), (x[:70], y[:70]), **{**options, 'batch_size': 70})
  np.testing.assert_allclose(some.history['loss'], part.history['loss'], rtol=1e-6)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    some.params,
    part.params,
  )


def test_a_plain_linen_model_needs_neither_train_nor_mask():
  class Plain(nn.Module):
    @nn.compact
    def __call__(self, x):
      return nn.Dense(1)(x.mean(1))[:, 0]

  x = np.random.default_rng(0).standard_normal((40, 5, 3))
  y = x.sum((1, 2))
  found = sj.fit(
    Plain(), (x, y), loss='mse', optimizer=optax.adam(0.1), num_epochs=80, quiet=True
  )
  assert found.history['loss'][-1] < 0.01 * found.history['loss'][0]
  with pytest.raises(TypeError, match=r'does not take.*mask'):
    sj.fit(Plain(), ([x[0], x[1, :3]], y[:2]), loss='mse', quiet=True)


@pytest.mark.parametrize(
  ('change', 'error', 'match'),
  [
    ({'epochs': 3}, TypeError, 'fit has no epochs: it is called num_epochs'),
    ({'validation_data': 1}, TypeError, 'it is called validation'),
    ({'steps_per_execution': 3}, TypeError, 'it is called steps_per_dispatch'),
    ({'steps_per_dispatch': 2}, InputError, 'must divide `log_every=3`, got 2'),
    ({'units': 3}, TypeError, r'sj.LSTM\(features\)'),
    ({'deterministic': True}, TypeError, 'sets train by itself'),
    ({'lurning_rate': 1}, TypeError, 'fit has no argument lurning_rate'),
    ({'distributed': True}, TypeError, 'fit has no argument distributed'),
    ({'loss': 'xent'}, InputError, 'one of binary_crossentropy'),
    ({'loss': 'crossentropy'}, InputError, 'do not fit.*integer labels'),
    ({'loss': lambda o, y: (o - y).mean()}, InputError, r'a value an example, \[2\]'),
    ({'monitor': 'auc'}, InputError, '`monitor` must be one of loss, accuracy'),
    ({'optimizer': 'sdg'}, InputError, "must be one of.*'sdg'"),
    ({'learning_rate': -1}, InputError, '`learning_rate` must be above 0'),
    ({'schedule': 'piecewise'}, InputError, 'rate_changes'),
    ({'rate_changes': '10=2'}, InputError, "NUMBER:NUMBER.*'10=2'"),
    ({'warmup_steps': 20}, InputError, 'less than the 20'),
    ({'nesterov': True}, InputError, 'momentum'),
    ({'validation': None, 'early_stopping': 2}, InputError, '`early_stopping` needs'),
    ({'workdir': ''}, InputError, '`workdir` is empty'),
    ({'optimizer': 'custom'}, InputError, "must be one of sgd.*'custom'"),
    ({'optimizer': optax.adam}, InputError, r'such as optax.adam\(1e-3\)'),
    ({'optimizer': optax.adam(0.1)}, InputError, '`learning_rate` is of optimizers by'),
    ({'learning_rate': optax.cosine_decay_schedule(1.0, 9)}, InputError, 'a schedule'),
    (
      {'compute_dtype': 'float16'},
      InputError,
      "one of float32, bfloat16, got 'float16'",
    ),
    ({'data_parallel': 'foo'}, InputError, '`data_parallel` must be one of jit, pmap'),
    ({'early_stopping': True}, InputError, 'early_stopping` must be a whole.*True'),
    ({'num_epochs': 2.5}, InputError, '`num_epochs` must be a whole number, got 2.5'),
    ({'batch_size': '32'}, InputError, "`batch_size` must be a whole number, got '32'"),
    ({'seed': None}, InputError, '`seed` must be a whole number, got None'),
    (
      {'class_weight': [1, 2]},
      InputError,
      r'`class_weight` must be text, got \[1, 2\]',
    ),
    ({'length': 0}, InputError, '`length` must be a whole number from 1'),
    ({'frozen': ['dense']}, InputError, "no parameter to freeze at 'dense'"),
    ({'frozen': 'tail'}, InputError, "no parameter to freeze at 'tail'"),
    ({'metrics': {'loss': 'mae'}}, InputError, 'loss is what the log calls'),
    ({'metrics': {'weight': 'mae'}}, InputError, 'weight is what the log calls'),
    ({'metrics': {'val_x': 'mae'}}, InputError, 'val_x is what the log calls'),
    ({'metrics': [lambda o, y: o - y]}, InputError, 'a dict, name -> function'),
    ({'metrics': ['mae', 'mae']}, InputError, 'a name each'),
    (
      {'metrics': {'nll': 'mse'}, 'monitor': 'nll'},
      InputError,
      'say min:nll or max:nll',
    ),
  ],
)
def test_what_cannot_be_is_said_before_any_training(change, error, match, tmp_path):
  with pytest.raises(error, match=match):
    fit(**{'workdir': tmp_path / 'run', **change})
  assert not (tmp_path / 'run' / 'config.json').exists()


@pytest.mark.parametrize(
  ('change', 'match'),
  [
    ({'y': -1}, r'y\[149\] is -1: labels of binary_crossentropy'),
    ({'y': 2}, r'y\[149\] is 2: labels of binary_crossentropy'),
    ({'x': 12}, r'x\[149, 4\] is 12: the Embedding has rows from 0 to 11'),
    ({'y': np.nan}, r'y\[149\] holds nan'),
    ({'x': -1}, r'x\[149, 4\] is -1: the Embedding'),
  ],
)
def test_a_value_that_is_none_is_named_with_its_place(change, match):
  x, y = (a.copy() for a in data()[0])
  ((name, value),) = change.items()
  (x[149:, 4:5] if name == 'x' else y[149:])[:] = value
  with pytest.raises(InputError, match=f'train: {match}'):
    sj.fit(toy.model(), (x, y), **TOY)
  with pytest.raises(InputError, match=f'test: {match}'):
    fit(test=(x, y))


@pytest.mark.parametrize(
  ('y', 'match'),
  [(3, r'y\[1\] is 3: the model has classes from 0 to 2'), (-1, r'y\[1\] is -1')],
)
def test_a_class_that_the_model_has_not_is_named(y, match):
  x, labels = np.ones((3, 4), np.int64), np.array([0, y, 2])
  model = sj.SequenceClassifier(12, 4, sj.GRU(3), num_classes=3)
  with pytest.raises(InputError, match=f'train: {match}'):
    sj.fit(model, (x, labels), loss='crossentropy', quiet=True)
  rows, tags = ragged(3)
  tags[1] = tags[1] * 0 + y
  if y < 0:  # of a step it is no label
    sj.fit(Tagger(), (rows, tags), loss='crossentropy', num_epochs=1, quiet=True)
    return
  with pytest.raises(InputError, match=r'train: y\[1, 0\] is 3'):
    sj.fit(Tagger(), (rows, tags), loss='crossentropy', quiet=True)


def test_a_call_that_was_refused_leaves_its_folder_to_the_one_that_is_right(tmp_path):
  class Normed(nn.Module):
    @nn.compact
    def __call__(self, x, train):
      return nn.BatchNorm(use_running_average=not train)(x.mean(1))[:, 0]

  x, y = np.ones((8, 4, 3), np.float32), np.ones(8, np.float32)
  options = {'loss': 'mse', 'num_epochs': 1, 'quiet': True, 'workdir': tmp_path}
  with pytest.raises(InputError, match='batch_stats beside params'):
    sj.fit(Normed(), (x, y), **options)
  model = sj.SequenceRegressor(sj.GRU(2))
  with pytest.raises(InputError, match='one label an example'):
    sj.fit(Scores(), (x, x[..., 0]), **options, class_weight={0: 1, 1: 3})
  assert sj.fit(model, (x, y), **options).result['epochs'] == 1


@pytest.mark.slow
def test_an_optimizer_of_optax_is_named_so_and_its_run_goes_on(tmp_path):
  options = {'optimizer': optax.adam(0.01), 'workdir': tmp_path, 'num_epochs': 1}
  settings = {k: v for k, v in TOY.items() if k != 'learning_rate'}
  train, held_out = data()

  def start(**more):
    return sj.fit(toy.model(), train, held_out, **{**settings, **options, **more})

  assert start().title == 'SequenceClassifier: custom, batch 32, seed 0'
  assert sj.load(tmp_path).title == start().title
  with pytest.raises(InputError, match='"custom" -> "adam"'):
    start(optimizer='adam')


def test_the_parameters_of_an_epoch_are_the_hook_s_to_keep():
  kept = []
  found = fit(on_epoch=lambda values, params: kept.append(params))
  kernels = [np.asarray(params['head']['kernel']) for params in kept]
  assert len(kernels) == 4
  assert not np.array_equal(kernels[0], kernels[3])
  best = int(found.result['best']['epoch'])
  np.testing.assert_array_equal(kernels[best - 1], found.params['head']['kernel'])


@pytest.mark.parametrize(('way', 'pick'), [('min', np.argmin), ('max', np.argmax)])
def test_a_metric_of_one_s_own_says_which_way_it_is_better(way, pick):
  found = fit(metrics={'brier': 'mse'}, monitor=f'{way}:brier')
  values = found.history['val_brier']
  assert found.result['best']['epoch'] == pick(values) + 1
  assert values.argmin() != values.argmax()


def test_a_metric_is_called_by_its_function_s_name():
  def far(output, y):
    return abs(output - y) > 1

  assert 'val_far' in fit(metrics=['mae', far], num_epochs=1).history


def test_samples_are_the_model_with_masks_of_their_own():
  x = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)
  settings = {'loss': 'mse', 'num_epochs': 1, 'batch_size': 3, 'quiet': True}
  layer = sj.GRU(4, dropout=0.3, recurrent_dropout=0.3)
  found = sj.fit(sj.SequenceRegressor(layer), (x, x[:, 0, 0]), **settings)
  samples = found.predict(x, samples=2, seed=7)
  for number, rows in enumerate((x[:3], np.append(x[3:], x[:1], 0))):  # batches of 3
    for i in range(2):
      key = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), number), i)
      want = found.model.apply(
        {'params': found.params}, rows, train=True, rngs={'dropout': key}
      )
      part = samples[i, 3 * number :][:3]
      np.testing.assert_allclose(part, want[: len(part)], rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(found.predict(x, samples=2, seed=7), samples)
  assert not np.isclose(found.predict(x, samples=2), samples).any()
  many = found.predict(x, samples=400)
  far = np.abs(many.mean(0) - found.predict(x))  # the mean of masks is 1
  assert (far < 0.5 * many.std(0)).all()

  none = dataclasses.replace(found, model=sj.SequenceRegressor(sj.GRU(4)))
  for wrong, message in ((0, 'at least 1'), (3, 'no dropout')):
    with pytest.raises(InputError, match=f'`samples.*{message}'):
      none.predict(x, samples=wrong)
  tagger = sj.SequenceTagger(9, 4, layer.copy(return_sequences=True), num_tags=3)
  ids = [np.arange(1, 1 + n, dtype=np.int32) for n in (2, 5)]
  tags = [np.zeros(n, np.int32) for n in (2, 5)]
  found = sj.fit(tagger, (ids, tags), **{**settings, 'loss': 'crossentropy'})
  assert [row.shape for row in found.predict(ids, samples=6)] == [(6, 2, 3), (6, 5, 3)]


def test_what_comes_back_says_itself_in_a_line_and_refuses_what_is_none(fitted):
  assert repr(fitted) == (
    '<Fitted SequenceClassifier: rmsprop, rate 0.01, batch 32, seed 0; 4 epochs>'
  )
  assert fitted != fit(num_epochs=1)
  x = np.ones((6, 5, 3), np.float32)
  found = sj.fit(
    sj.SequenceRegressor(sj.GRU(2)), (x, x[:, 0, 0]), loss='mse', num_epochs=1,
    quiet=True, compute_dtype='bfloat16',
  )  # fmt: skip
  for wrong in (x[..., :2], x[0]):
    with pytest.raises(InputError, match=r'none for this model'):
      found.predict(wrong)
    with pytest.raises(InputError, match=r'none for this model'):
      found.evaluate((wrong, np.zeros(len(wrong))))
  plain = found.model.apply({'params': found.params}, x, train=False)
  assert not np.array_equal(found.predict(x), plain)  # in bfloat16, as it was trained
  np.testing.assert_allclose(found.predict(x), plain, atol=0.02)
  error = np.mean((found.predict(x) - x[:, 0, 0]) ** 2)
  assert found.evaluate((x, x[:, 0, 0]))['loss'] == pytest.approx(error, rel=1e-5)


def test_a_batch_that_weighs_nothing_moves_nothing():
  (x, y), _ = data()
  weight = np.zeros(150, np.float32)
  weight[3] = 1
  found = sj.fit(
    toy.model(), (x, y, weight), **{**TOY, 'batch_size': 8, 'num_epochs': 1}
  )
  assert np.isfinite(found.history['loss']).all()


@pytest.mark.parametrize(
  ('quiet', 'where'), [(False, 'memory'), (False, 'disk'), (True, '')]
)
def test_a_run_that_was_stopped_says_how_it_goes_on(capsys, tmp_path, quiet, where):
  workdir = tmp_path if where == 'disk' else None
  fit(
    on_epoch=lambda *_: signal.raise_signal(signal.SIGINT), quiet=quiet, workdir=workdir
  )
  shown = ' '.join(capsys.readouterr().out.split())
  assert ('kept in memory; resume() goes on' in shown) == (where == 'memory')
  assert ('started again, the run goes on' in shown) == (where == 'disk')
  assert bool(shown) is not quiet


def test_a_model_that_takes_other_inputs_is_said_with_its_reason():
  (x, y), _ = data()
  with pytest.raises(InputError, match=r'do not fit x \(2, \d+, 1\).*'):
    sj.fit(toy.model(), (x[..., None].astype(np.float32), y), **TOY)


@pytest.mark.slow
def test_a_workdir_is_of_one_model_loss_and_metrics(tmp_path):
  fit(workdir=tmp_path, num_epochs=1)
  for change, match in (
    ({'loss': 'mse'}, 'loss "binary_crossentropy" -> "mse"'),
    ({'metrics': ['accuracy', 'mae']}, 'metrics .* -> .*"mae"'),
    ({'length': 3}, 'length null -> 3'),
  ):
    with pytest.raises(InputError, match=match):
      fit(workdir=tmp_path, num_epochs=1, **change)
  train, held_out = data()
  with pytest.raises(InputError, match=r'model .*7'):
    sj.fit(
      toy.model(features=7), train, held_out, **{**TOY, 'num_epochs': 1},
      workdir=tmp_path,
    )  # fmt: skip


def test_evaluate_takes_other_metrics(fitted):
  _, held_out = data()
  values = fitted.evaluate(held_out, metrics=['mae'])
  assert set(values) == {'loss', 'mae'}


@pytest.mark.parametrize(
  ('train', 'match'),
  [
    ((np.zeros((3, 2), int), np.zeros(2)), "as many in each part.*'x': 3, 'y': 2"),
    ((['a b', 'c'], [0, 1]), 'must hold numbers'),
    (([[1, 2], [[3]]], [0.0, 1.0]), r'x\[1\] is \(1, 1\)'),
    (([[1, 2], []], [0.0, 1.0]), 'sequence 1 is empty'),
    (([[1, 2], [3]], [[1.0], [1.0, 2.0]]), 'sequence 0 has 2 steps and 1 labels'),
    (([[2**40]], [1.0]), 'fit in 32 bits'),
    (np.zeros(()), 'train must be'),
    ((np.zeros((2, 2), int), np.zeros(2), [1, np.nan]), 'weights must be'),
  ],
)
def test_data_that_cannot_be_used_is_named(train, match):
  with pytest.raises(InputError, match=match):
    sj.fit(toy.model(), train, loss='mse', quiet=True)


def test_an_interrupt_returns_what_there_is_and_resume_goes_on(fitted):
  handler = signal.getsignal(signal.SIGINT)

  def interrupt(values, params):
    if values['epoch'] == 2:
      signal.raise_signal(signal.SIGINT)

  stopped = fit(on_epoch=interrupt)
  assert signal.getsignal(signal.SIGINT) is handler
  assert stopped.stopped
  assert len(stopped.history['loss']) == 2
  assert stopped.predict(data()[0][0]).shape == (150,)
  whole = stopped.resume()
  assert not whole.stopped
  assert whole.result['params_sha256'] == fitted.result['params_sha256']
  for name, values in fitted.history.items():
    np.testing.assert_array_equal(whole.history[name], values)


def test_outside_the_main_thread_no_signal_is_touched(fitted):
  before = {n: signal.getsignal(n) for n in signals.EXIT_CODES}
  found, seen = [], []

  def on_epoch(values, params):
    seen.append({n: signal.getsignal(n) for n in signals.EXIT_CODES} == before)

  thread = threading.Thread(target=lambda: found.append(fit(on_epoch=on_epoch)))
  thread.start()
  thread.join()
  assert seen == [True] * 4
  assert found[0].result['params_sha256'] == fitted.result['params_sha256']


def test_on_epoch_sees_values_and_parameters_and_may_end_the_run(tmp_path):
  class PrunedError(Exception):
    pass

  seen = []

  def on_epoch(values, params):
    seen.append(values)
    assert params['head']['kernel'].shape == (6, 1)
    if values['epoch'] == 3:
      raise PrunedError

  with pytest.raises(PrunedError):
    fit(on_epoch=on_epoch, workdir=tmp_path)
  assert [v['epoch'] for v in seen] == [1, 2, 3]
  assert seen[0].keys() >= {'loss', 'val_loss', 'val_accuracy'}
  assert len(fit(workdir=tmp_path).history['loss']) == 4  # all was saved


SETTINGS = {
  'sgd with momentum and a cosine': {
    'optimizer': 'sgd', 'momentum': 0.9, 'nesterov': True, 'schedule': 'cosine',
    'warmup_steps': 4,
  },
  'all at once': {
    'optimizer': 'adamw', 'weight_decay': 0.1, 'schedule': 'exponential',
    'final_share': 0.1, 'plateau_epochs': 1, 'plateau_factor': 0.5,
    'mean_decay': 0.9, 'class_weight': 'balanced', 'label_smoothing': 0.1,
    'compute_dtype': 'bfloat16', 'monitor': 'loss', 'clip_global_norm': 1.0,
    'resident': True, 'steps_per_dispatch': 3,
  },
  'adafactor': {'optimizer': 'adafactor', 'schedule': 'linear'},
  'lion': {
    'optimizer': 'lion', 'schedule': 'piecewise', 'rate_changes': '5:0.5,10:0.1',
    'class_weight': {0: 1, 1: 3}, 'learning_rate': 1e-3,
  },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize('settings', SETTINGS.values(), ids=SETTINGS.keys())
def test_whatever_is_set_is_resumed_to_the_bit(tmp_path, settings):
  def interrupt(values, params):
    raise KeyboardInterrupt

  whole = fit(**settings)
  assert np.isfinite(whole.history['loss']).all()
  for _ in range(2 if 'mean_decay' in settings else 1):  # killed after an epoch
    with pytest.raises(KeyboardInterrupt):
      fit(**settings, workdir=tmp_path, on_epoch=interrupt)
  again = fit(**settings, workdir=tmp_path)
  assert again.result['params_sha256'] == whole.result['params_sha256']
  assert again.result['test_loss'] == whole.result['test_loss']
  if 'mean_decay' in settings:
    x = data()[0][0]
    np.testing.assert_array_equal(sj.load(tmp_path).predict(x), whole.predict(x))


@pytest.mark.slow
def test_a_mean_of_parameters_is_what_is_evaluated_tested_and_loaded(tmp_path):
  train, held_out = data()
  # An epoch is a step.
  settings = {'batch_size': 150, 'num_epochs': 3, 'monitor': 'loss'}
  found = fit(workdir=tmp_path, mean_decay=0.5, **settings)
  steps = []
  plain = fit(on_epoch=lambda values, params: steps.append(params), **settings)
  assert found.result['params_sha256'] == plain.result['params_sha256']
  assert found.evaluate(held_out)['loss'] == pytest.approx(
    found.result['test_loss'], rel=1e-6
  )
  assert found.result['test_loss'] != plain.result['test_loss']
  best = found.result['best']['epoch']
  assert 1 < best <= len(steps) == 3
  key = jax.random.split(jax.random.key(0))[0]
  init = jax.jit(functools.partial(toy.model().init, train=False))
  mean = jax.device_get(init(key, train[0])['params'])
  for params in jax.device_get(steps[:best]):
    mean = jax.tree.map(lambda m, p: 0.5 * m + 0.5 * p, mean, params)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
    found.params,
    mean,
  )


def test_a_plateau_lowers_the_rate():
  settings = {'optimizer': 'sgd', 'monitor': 'loss', 'learning_rate': 1e-30}
  # Nothing moves: epoch 1 is the best, and each after it a plateau.
  low = fit(**settings, plateau_epochs=2, plateau_factor=0.5, num_epochs=5)
  newest = low.record._newest.state.opt_state
  assert float(optax.tree.get(newest, 'rate_factor')) == 0.25


def test_bfloat16_learns_as_float32_does(fitted):
  found, want = fit(compute_dtype='bfloat16'), fitted
  assert jax.tree.leaves(found.params)[0].dtype == jnp.float32
  assert found.history['loss'][-1] == pytest.approx(want.history['loss'][-1], abs=0.03)
  assert not np.array_equal(found.history['loss'], want.history['loss'])


def test_one_name_is_enough_to_freeze():
  found = fit(frozen='head', num_steps=2, num_epochs=1).params
  key = jax.random.split(jax.random.key(0))[0]
  init = jax.jit(functools.partial(toy.model().init, train=False))
  first = init(key, data()[0][0][:32])['params']
  np.testing.assert_array_equal(found['head']['kernel'], first['head']['kernel'])
  moved = (params['embedding']['embedding'] for params in (found, first))
  assert not np.array_equal(*moved)


@pytest.mark.slow
@pytest.mark.parametrize(
  'environment', [{'LC_ALL': 'POSIX'}, {'PYTHONIOENCODING': 'ascii'}, {'CLOSED': '1'}]
)
def test_any_console_and_any_name_of_a_folder_will_do(tmp_path, environment):
  code = (
    'import os, sys; import numpy as np, seqjax as sj, flax.linen as nn; '
    "os.environ.get('CLOSED') and sys.stdout.close(); "  # JAX itself needs it
    'x = np.random.default_rng(0).standard_normal((40, 5, 3)); '
    'f = sj.fit(sj.SequenceRegressor(sj.GRU(4)), (x, x.sum((1, 2))), loss="mse", '
    f'num_epochs=2, workdir={str(tmp_path / "wörk 网")!r}); '
    'assert len(f.history["loss"]) == 2'
  )
  done = subprocess.run(
    [sys.executable, '-c', code],
    env={**os.environ, **environment},
    capture_output=True,
    text=True,
    cwd=pathlib.Path(__file__).parent.parent,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  (folder,) = tmp_path.iterdir()
  assert json.loads((folder / 'result.json').read_text())['epochs'] == 2
