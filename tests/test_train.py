"""Whole runs: they learn, they end with the same bits, they say what is wrong."""

import contextlib
import dataclasses
import json
import os
import pathlib
import resource
import signal

import jax
import numpy as np
import optax
import pytest
import toy

import seqjax as sj
from seqjax import train as train_lib
from seqjax import workdir
from seqjax.cluster import mesh as mesh_lib
from seqjax.cluster import signals, watchdog
from seqjax.config import TrainConfig
from seqjax.data.batches import Resident, Streams
from seqjax.training import losses, metrics, optim
from seqjax.training.plan import Data, Task
from seqjax.training.state import init_state
from seqjax.types import Examples, InputError
from seqjax.workdir.checkpoint import Checkpoints
from seqjax.workdir.log import read_metrics
from seqjax.workdir.progress import Pending

pytestmark = pytest.mark.usefixtures('unrendered', 'quick_programs')


@pytest.fixture(autouse=True)
def one_batch_at_a_time(monkeypatch):
  """So that what a feed does in a step happens in that step."""
  monkeypatch.setattr(mesh_lib, '_AHEAD', 1)


class _Interrupted:
  """A feed that does something when a step's batch is asked for."""

  def __init__(self, feed, step, action):
    self._feed, self._step, self._action = feed, step, action
    self.steps_per_epoch, self.fingerprint = feed.steps_per_epoch, feed.fingerprint
    self.resident = feed.resident

  def on_devices(self):
    return _Interrupted(self._feed.on_devices(), self._step, self._action)

  def batch(self, step):
    if step == self._step:
      self._action()
    return self._feed.batch(step)


class _KilledError(Exception):
  pass


def _die():
  raise _KilledError


def _interrupt_at(step, action):
  return lambda feed: _Interrupted(feed, step, action)


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory):
  folder = tmp_path_factory.mktemp('uninterrupted')
  return toy.train(folder), (folder / 'metrics.jsonl').read_bytes(), folder


def test_a_run_learns_and_leaves_what_it_promises(uninterrupted):
  result, _, folder = uninterrupted
  names = {path.name for path in folder.iterdir()}
  assert names >= {
    'config.json',
    'metrics.jsonl',
    'timing.jsonl',
    'tb',
    'checkpoints',
    'curves.png',
    'result.json',
  }
  assert json.loads((folder / 'result.json').read_text()) == result
  epochs = [line for line in read_metrics(folder) if line['event'] == 'epoch']
  assert [line['epoch'] for line in epochs] == [1, 2, 3, 4]
  assert epochs[-1]['loss'] < 0.9 * epochs[0]['loss']
  assert result['steps'] == 20
  assert result['best'] == max(
    ({k: v for k, v in line.items() if k != 'event'} for line in epochs),
    key=lambda line: line['val_accuracy'],
  ) | {'step': result['best']['step']}
  assert result['num_params'] == 12 * 5 + (5 + 6 + 1) * 24 + 7


@pytest.mark.parametrize('step', [4, 12])
def test_killed_anywhere_and_resumed_ends_with_the_same_bits(
  tmp_path, uninterrupted, step
):
  result, metrics, _ = uninterrupted
  with pytest.raises(_KilledError):
    toy.train(tmp_path, wrap_feed=_interrupt_at(step, _die))
  again = toy.train(tmp_path)
  assert again['params_sha256'] == result['params_sha256']
  assert (tmp_path / 'metrics.jsonl').read_bytes() == metrics
  assert again['best'] == result['best']


@pytest.fixture(scope='module')
def together(tmp_path_factory):
  """The run whose steps are sent three at a time, as far as its epochs of 5 allow."""
  folder = tmp_path_factory.mktemp('together')
  result = toy.train(folder, steps_per_dispatch=3)
  return result, (folder / 'metrics.jsonl').read_bytes(), folder


@pytest.mark.slow
def test_steps_sent_together_are_the_same_run(uninterrupted, together):
  lines = [read_metrics(run[2]) for run in (uninterrupted, together)]
  for a, b in zip(*lines, strict=True):
    assert b.pop('event') == a.pop('event')
    assert b == pytest.approx(a, rel=1e-4)
  assert together[0]['best'] == pytest.approx(uninterrupted[0]['best'], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('step', [7, 13])
def test_killed_among_steps_sent_together_it_ends_with_the_same_bits(
  tmp_path, together, step
):
  result, metrics, _ = together
  with pytest.raises(_KilledError):
    toy.train(tmp_path, wrap_feed=_interrupt_at(step, _die), steps_per_dispatch=3)
  again = toy.train(tmp_path, steps_per_dispatch=3)
  assert again['params_sha256'] == result['params_sha256']
  assert (tmp_path / 'metrics.jsonl').read_bytes() == metrics


@pytest.mark.slow
def test_a_signal_among_steps_sent_together_waits_for_the_last(
  tmp_path, together, capfd
):
  result, metrics, _ = together
  wrap = _interrupt_at(9, lambda: signal.raise_signal(signal.SIGTERM))
  with pytest.raises(SystemExit):
    toy.train(tmp_path, wrap_feed=wrap, steps_per_dispatch=3)
  assert 'step 9 of 20 is saved' in capfd.readouterr().out  # 6, 7 and 8 were sent
  again = toy.train(tmp_path, steps_per_dispatch=3)
  assert again['params_sha256'] == result['params_sha256']
  assert (tmp_path / 'metrics.jsonl').read_bytes() == metrics


@pytest.mark.slow
@pytest.mark.parametrize(
  'settings', [{'early_stopping': 1}, {'plateau_epochs': 1}, {'mean_decay': 0.9}]
)
def test_what_epochs_decide_does_not_mind_how_many_steps_are_sent(tmp_path, settings):
  often = {'learning_rate': 0.05, 'num_epochs': 6}  # so that epochs are worse, too
  plain = toy.train(tmp_path / 'plain', **often)
  results, lines = [], []
  for together in (1, 3):
    folder = tmp_path / str(together)
    results.append(toy.train(folder, **often, **settings, steps_per_dispatch=together))
    lines.append(read_metrics(folder))
  for a, b in zip(*lines, strict=True):
    assert b.pop('event') == a.pop('event')
    assert b == pytest.approx(a, rel=1e-3)
  assert results[1]['epochs'] == results[0]['epochs']
  assert results[1]['final'] == pytest.approx(results[0]['final'], rel=1e-3)
  assert results[0]['final'] != plain['final']  # or nothing is tested


@pytest.mark.slow
def test_the_watchdog_gives_each_step_that_was_sent_its_time(tmp_path, monkeypatch):
  beats = []
  monkeypatch.setattr(
    watchdog.Watchdog,
    'beat',
    lambda self, *, compiles=False, steps=1: beats.append(steps),
  )
  toy.train(tmp_path, steps_per_dispatch=3, num_epochs=2)
  # Sent are 3, 1, 1, and 1, 3, 1, with two beats each: in a step those sent before may
  # be under way still. Two batches are evaluated after the first, four after the last.
  assert beats == [3] * 4 + [1] * 6 + [3] * 4 + [1] * 5


def test_the_next_batch_is_made_while_the_devices_compute(tmp_path, monkeypatch):
  asked, found, fetch = [], [], Pending.fetch

  def noting(self):
    found.append(asked[-1])
    return fetch(self)

  class Noted(_Interrupted):
    def batch(self, step):
      asked.append(step)
      return self._feed.batch(step)

  monkeypatch.setattr(Pending, 'fetch', noting)
  sizes = {'log_every': 5, 'save_every': 5}
  toy.train(tmp_path, wrap_feed=lambda feed: Noted(feed, None, None), **sizes)
  assert found == [5, 10, 15, 19]  # not 4 and 9: before the sums of these are there


@pytest.mark.slow
def test_on_an_accelerator_as_many_steps_are_sent_as_are_logged(
  tmp_path, together, monkeypatch
):
  monkeypatch.setattr(mesh_lib, 'is_cpu', lambda mesh: False)
  assert toy.train(tmp_path)['params_sha256'] == together[0]['params_sha256']


@pytest.mark.parametrize(
  ('number', 'code', 'step'), [(signal.SIGTERM, 75, 4), (signal.SIGINT, 130, 11)]
)
def test_a_signal_saves_at_once_and_the_run_goes_on_from_there(
  tmp_path, uninterrupted, capfd, number, code, step
):
  result, metrics, _ = uninterrupted
  wrap = _interrupt_at(step, lambda: signal.raise_signal(number))
  handler = signal.getsignal(number)
  with pytest.raises(SystemExit) as stopped:
    toy.train(tmp_path, wrap_feed=wrap)
  assert stopped.value.code == code
  assert signal.getsignal(number) is handler
  # The batch of `step` was made, but not yet trained on.
  assert f'step {step} of 20 is saved' in capfd.readouterr().out
  again = toy.train(tmp_path)
  assert f'resumed from step {step}' in capfd.readouterr().out
  assert again['params_sha256'] == result['params_sha256']
  assert (tmp_path / 'metrics.jsonl').read_bytes() == metrics


class _StopAtLook(signals.Stop):
  """A signal that comes just before the loop looks for the n-th time."""

  def __init__(self, looks):
    super().__init__()
    self._looks = looks

  def __bool__(self):
    self._looks -= 1
    if self._looks <= 0:
      self.signal = signal.SIGTERM
    return super().__bool__()


@pytest.mark.slow
@pytest.mark.parametrize('looks', range(2, 16))
def test_a_signal_at_any_look_loses_no_sum(tmp_path, uninterrupted, monkeypatch, looks):
  result, metrics, _ = uninterrupted
  with monkeypatch.context() as patch:
    patch.setattr(signals, 'catch', lambda: contextlib.nullcontext(_StopAtLook(looks)))
    with pytest.raises(SystemExit):
      toy.train(tmp_path)
  assert toy.train(tmp_path)['params_sha256'] == result['params_sha256']
  assert (tmp_path / 'metrics.jsonl').read_bytes() == metrics


def test_a_second_start_of_a_finished_run_trains_no_step(tmp_path, uninterrupted):
  result, _, folder = uninterrupted
  before = (folder / 'metrics.jsonl').read_bytes()
  again = toy.train(folder, wrap_feed=_interrupt_at(20, _die))
  assert again == result
  assert (folder / 'metrics.jsonl').read_bytes() == before


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_is_refused_and_the_bits_stay(
  tmp_path, uninterrupted, capfd
):
  result, metrics, _ = uninterrupted
  with pytest.raises(_KilledError):
    toy.train(tmp_path, wrap_feed=_interrupt_at(14, _die))
  newest = sorted((tmp_path / 'checkpoints').iterdir())[-1]
  victim = max((p for p in newest.rglob('*') if p.is_file()), key=os.path.getsize)
  data = bytearray(victim.read_bytes())
  data[len(data) // 2] ^= 4
  victim.write_bytes(data)
  capfd.readouterr()
  again = toy.train(tmp_path)
  shown = capfd.readouterr().out
  assert f'checkpoint {newest.name}' in shown
  assert 'resumed from step 9' in shown or 'resumed from step 10' in shown
  assert again['params_sha256'] == result['params_sha256']
  assert (tmp_path / 'metrics.jsonl').read_bytes() == metrics


def test_a_changed_config_is_refused_by_name(uninterrupted):
  _, _, folder = uninterrupted
  with pytest.raises(InputError, match=r'learning_rate.*0\.01.*0\.02'):
    toy.train(folder, learning_rate=0.02)
  data = toy.examples()
  data.x[0, 0] += 1
  with pytest.raises(InputError, match='training_sha256'):
    toy.train(folder, data=data)
  assert toy.train(folder, keep=2, save_every=6)['steps'] == 20  # of no consequence


def test_two_runs_on_one_workdir_are_refused(tmp_path):
  half = tmp_path / 'checkpoints' / '000001-step3.unfinished'
  half.mkdir(parents=True)
  with workdir.lock(tmp_path), pytest.raises(InputError, match=f'{tmp_path} is in use'):
    toy.train(tmp_path)
  assert half.is_dir()  # what the other one is writing


@pytest.mark.slow
def test_a_run_on_resident_arrays_is_the_run_on_batches_of_them(
  tmp_path, uninterrupted, capfd
):
  result, _, _ = uninterrupted
  data = toy.examples()
  rows = np.arange(200, dtype=np.int32)
  finished = []

  def finish(params, result, folder):
    finished.append((params, result['test_loss']))
    return {'extra': 7}

  def over(feed):
    feed.resident = Resident(
      data, lambda on, at: at._replace(x=on.x[at.x], y=on.y[at.y])
    )
    return feed

  again = toy.train(
    tmp_path,
    data=Examples(rows, rows),
    wrap_feed=over,
    finish=finish,
  )
  assert again['best'] == pytest.approx(result['best'], rel=1e-5)
  assert again['test_loss'] == pytest.approx(result['test_loss'], rel=1e-5)
  assert again['num_params'] == result['num_params']
  assert '[B, 9, 5]' in capfd.readouterr().out  # the summary is of gathered shapes
  assert json.loads((tmp_path / 'result.json').read_text())['extra'] == 7
  ((params, test_loss),) = finished
  assert test_loss == again['test_loss']
  assert isinstance(jax.tree.leaves(params)[0], np.ndarray)


@pytest.mark.slow
def test_with_examples_on_the_device_a_killed_run_ends_with_the_bits_of_a_fed_one(
  tmp_path, together
):
  result, metrics, _ = together
  how = {'resident': True, 'steps_per_dispatch': 3}
  with pytest.raises(_KilledError):
    toy.train(tmp_path, wrap_feed=_interrupt_at(13, _die), **how)
  assert toy.train(tmp_path, **how)['params_sha256'] == result['params_sha256']
  assert (tmp_path / 'metrics.jsonl').read_bytes() == metrics
  start = json.loads((tmp_path / 'config.json').read_text())['starts'][0]
  assert start['resident'] is True
  assert start['steps_per_dispatch'] == 3


@pytest.mark.parametrize('num_seeds', [1, 2])
def test_what_cannot_lie_on_the_device_is_refused_before_anything_is_written(
  tmp_path, num_seeds
):
  class Own:
    def __init__(self, feed):
      self.batch, self.fingerprint = feed.batch, feed.fingerprint
      self.steps_per_epoch, self.resident = feed.steps_per_epoch, None

  with pytest.raises(InputError, match='`resident` needs examples in arrays'):
    toy.train(tmp_path / 'own', wrap_feed=Own, resident=True, num_seeds=num_seeds)
  assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
  'how', [{'accumulate_steps': 2}, {'data_parallel': 'pmap', 'accumulate_steps': 2}]
)
def test_parts_and_pmap_do_not_mind_what_is_sent_together(tmp_path, how):
  how |= {'num_devices': 2, 'num_epochs': 2}
  plain = toy.train(tmp_path / 'plain', **how)
  more = {'resident': True, 'steps_per_dispatch': 3}
  with pytest.raises(_KilledError):
    toy.train(tmp_path / 'more', wrap_feed=_interrupt_at(7, _die), **how, **more)
  found = toy.train(tmp_path / 'more', **how, **more)
  assert found['best'] == pytest.approx(plain['best'], rel=1e-5)
  whole = toy.train(tmp_path / 'whole', **how, **more)
  assert found['params_sha256'] == whole['params_sha256']


@pytest.mark.slow
def test_examples_lie_where_the_first_start_had_them(tmp_path, monkeypatch, capfd):
  size = 150 * (9 + 1) * 4
  monkeypatch.setattr(mesh_lib, 'is_cpu', lambda mesh: False)
  for lie, free, later in (
    (True, 2 * size, size),
    (False, 2 * size - 1, 1000 * size),
  ):
    folder = tmp_path / str(lie)
    monkeypatch.setattr(mesh_lib, 'free_bytes', lambda mesh, free=free: free)
    with pytest.raises(_KilledError):
      toy.train(folder, wrap_feed=_interrupt_at(6, _die))
    monkeypatch.setattr(mesh_lib, 'free_bytes', lambda mesh, free=later: free)
    toy.train(folder)
    starts = json.loads((folder / 'config.json').read_text())['starts']
    assert [start['resident'] for start in starts] == [lie, lie]
  assert 'not bit for bit' not in capfd.readouterr().out


def test_one_trace_of_the_step(tmp_path, monkeypatch):
  calls, binary_xent = [], losses.binary_xent
  monkeypatch.setattr(
    losses, 'binary_xent', lambda *args: (calls.append(1), binary_xent(*args))[1]
  )
  toy.train(tmp_path, num_epochs=2)
  assert len(calls) == 2  # one for training, one for evaluation


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_good_state(tmp_path):
  with pytest.raises(
    train_lib.DivergedError, match=r'step \d+: .*`learning_rate`'
  ) as error:
    toy.train(tmp_path, learning_rate=1e38, num_epochs=50)
  assert error.value.exit_code == 3
  stop = read_metrics(tmp_path)[-1]
  assert stop['event'] == 'stop'
  with pytest.raises(train_lib.DivergedError, match=f'step {stop["step"]}:'):
    toy.train(tmp_path, learning_rate=1e38, num_epochs=50)  # same bits, same end


def test_values_of_the_validation_that_are_not_finite_stop_the_run(tmp_path):
  data = toy.examples()
  y = data.y.copy()
  y[150:] = np.nan
  with pytest.raises(train_lib.DivergedError, match='step 5: validation loss is nan'):
    toy.train(tmp_path, data=Examples(data.x, y))


def test_parameters_that_are_not_finite_are_never_saved(tmp_path):
  with pytest.raises(train_lib.DivergedError, match=r'step \d+: .* none yet'):
    toy.train(tmp_path, learning_rate=1e38, num_steps=1)
  assert not list((tmp_path / 'checkpoints').glob('*-step*'))


@pytest.mark.slow
def test_a_lost_best_checkpoint_is_said_and_never_passed_off(tmp_path, capfd):
  settings = {'learning_rate': 1e-30, 'num_epochs': 6, 'keep': 1}  # epoch 1 is the best
  result = toy.train(tmp_path, **settings)
  assert result['tested_epoch'] == 1
  best = min((tmp_path / 'checkpoints').glob('*-step*'))
  victim = max((p for p in best.rglob('*') if p.is_file()), key=os.path.getsize)
  victim.write_bytes(b'')
  capfd.readouterr()
  result = toy.train(tmp_path, **settings)
  shown = capfd.readouterr().out
  assert f'checkpoint {best.name}' in shown
  assert 'the last epoch is tested' in shown
  assert result['tested_epoch'] == 6


@pytest.mark.slow
def test_other_devices_on_resume_are_said(tmp_path, capfd):
  with pytest.raises(_KilledError):
    toy.train(tmp_path, num_devices=1, wrap_feed=_interrupt_at(12, _die))
  toy.train(tmp_path, num_devices=2)
  assert 'devices_used 1 -> 2: expect the same values' in capfd.readouterr().out


def test_free_fields_are_fields():
  names = {spec.name for spec in dataclasses.fields(train_lib.TrainConfig)}
  assert names >= train_lib.FREE_FIELDS


@pytest.mark.slow
def test_early_stopping_ends_after_patience(tmp_path):
  result = toy.train(tmp_path, learning_rate=1e-30, early_stopping=2, num_epochs=9)
  assert result['epochs'] == 3
  assert result['best']['epoch'] == 1
  again = toy.train(tmp_path, learning_rate=1e-30, early_stopping=2, num_epochs=9)
  assert again['epochs'] == 3


@pytest.mark.slow
def test_num_steps_ends_a_run_within_an_epoch(tmp_path):
  result = toy.train(tmp_path, num_steps=7)
  assert result['steps'] == 7
  assert result['epochs'] == 2


@pytest.mark.slow
def test_numbers_of_devices_agree(tmp_path):
  params = {}
  for num_devices in (1, 2, 8):
    folder = tmp_path / str(num_devices)
    toy.train(folder, num_devices=num_devices)  # 20 steps
    tx, x = optim.make_optimizer('rmsprop', 0.01), toy.examples().x[:32]
    template = init_state(toy.model(), tx, jax.random.key(0), x)
    with Checkpoints(folder / 'checkpoints') as checkpoints:
      params[num_devices] = checkpoints.restore(template).state.params
  for found in (params[2], params[8]):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
      found,
      params[1],
    )


def test_evaluation_sees_every_example_once(uninterrupted):
  _, _, folder = uninterrupted
  line = [line for line in read_metrics(folder) if line['event'] == 'epoch'][-1]
  assert abs(line['val_accuracy'] * 50 - round(line['val_accuracy'] * 50)) < 1e-9
  assert abs(line['accuracy'] * 150 - round(line['accuracy'] * 150)) < 1e-9


def test_an_unwritable_workdir_is_one_line(tmp_path):
  file = tmp_path / 'file'
  file.write_text('')
  with pytest.raises(InputError, match='`workdir`'):
    toy.train(file)
  with pytest.raises(InputError, match='`workdir`'):
    toy.train(pathlib.Path(file) / 'below')


def test_data_of_nan_is_caught_with_its_step(tmp_path):
  data = toy.examples()
  y = data.y.copy()
  y[:150] = np.nan
  with pytest.raises(train_lib.DivergedError, match='step 1: '):
    toy.train(tmp_path, data=Examples(data.x, y))


@pytest.mark.parametrize('steps_per_dispatch', [1, 5])
def test_the_step_of_a_nan_is_named_whatever_is_sent_together(
  tmp_path, steps_per_dispatch
):
  data = toy.examples()
  y = data.y.copy()
  y[np.random.default_rng((0, 0)).permutation(150)[2 * 32 + 7]] = np.nan
  sizes = {'log_every': 5, 'save_every': 5, 'steps_per_dispatch': steps_per_dispatch}
  with pytest.raises(train_lib.DivergedError, match='step 3: '):
    toy.train(tmp_path, data=Examples(data.x, y), **sizes)
  assert [line['step'] for line in read_metrics(tmp_path)] == [3]


@pytest.mark.slow
def test_many_batches_of_evaluation_do_not_block_each_other(tmp_path):
  data = toy.examples(N=150 + 6_000)
  result = toy.train(tmp_path, data=data, num_steps=2, batch_size=8, num_devices=8)
  assert result['steps'] == 2


# Behind a write that failed, Orbax leaves tasks on an event loop that is closed.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_a_full_disk_is_one_line_and_keeps_what_was_saved(tmp_path):
  def fill():  # files of this process may not grow any more
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))

  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  try:
    with pytest.raises(InputError, match=f'{tmp_path}.*File too large'):
      toy.train(tmp_path, wrap_feed=_interrupt_at(8, fill))
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)
  assert toy.train(tmp_path)['steps'] == 20


@pytest.mark.slow
def test_the_last_epoch_can_be_tested_instead_of_the_best(tmp_path):
  first = {'monitor': 'max:loss'}  # which falls
  best = toy.train(tmp_path / 'best', **first)
  last = toy.train(tmp_path / 'last', **first, test_last=True)
  assert best['best'] == last['best']
  assert best['tested_epoch'] == best['best']['epoch'] < 4
  assert last['tested_epoch'] == 4
  # The toy tests on its validation set.
  assert last['test_loss'] == pytest.approx(last['final']['val_loss'], rel=1e-6)
  assert best['test_loss'] == pytest.approx(best['best']['val_loss'], rel=1e-6)


@pytest.mark.slow
def test_adam_trains_and_frozen_parameters_stay(tmp_path):
  settings = {'optimizer': 'adam', 'num_epochs': 1}
  trained = toy.train(tmp_path / 'trained', **settings)
  everything = ('embedding', 'encoder', 'head')
  frozen = toy.train(tmp_path / 'frozen', **settings, frozen=everything)
  one_step = toy.train(tmp_path / 'one', num_steps=1, frozen=everything)
  assert frozen['params_sha256'] == one_step['params_sha256']
  assert trained['params_sha256'] != frozen['params_sha256']


@pytest.mark.slow
def test_a_frozen_embedding_stays_by_itself(tmp_path, monkeypatch):
  def decaying(name, learning_rate, **clips):
    return optax.adamw(learning_rate, weight_decay=0.5)

  monkeypatch.setattr(optim, 'make_optimizer', decaying)
  found = []

  def finish(params, result, folder):
    found.append(params)
    return {}

  for frozen in True, False:
    model = toy.model().clone(frozen=frozen)
    toy.train(tmp_path / str(frozen), num_steps=2, model=model, finish=finish)
  start = toy.model().init(
    jax.random.split(jax.random.key(0))[0], toy.examples().x[:32], train=False
  )['params']
  kept, moved = (params['embedding']['embedding'] for params in found)
  np.testing.assert_array_equal(kept, start['embedding']['embedding'])
  assert (moved != start['embedding']['embedding']).all()
  assert (found[0]['encoder']['kernel'] != start['encoder']['kernel']).all()


def test_files_of_the_run_lie_in_its_workdir_and_config_names_it(tmp_path):
  files = {'vocabulary.txt': lambda path: path.write_text('the and')}
  toy.train(tmp_path, num_epochs=1, files=files)
  assert (tmp_path / 'vocabulary.txt').read_text() == 'the and'
  config = json.loads((tmp_path / 'config.json').read_text())['config']
  assert config['experiment'] == 'toy'


@pytest.mark.slow
@pytest.mark.parametrize(('num_devices', 'most'), [(1, 5), (2, 2)])
def test_on_several_cores_few_steps_are_under_way(
  tmp_path, monkeypatch, num_devices, most
):
  under_way, seen = [], []
  add, wait = Pending.add, Pending.wait_for_last_but_one

  def added(pending, sums, **how):
    add(pending, sums, **how)
    under_way.append(1)
    seen.append(len(under_way))

  def waited(pending):
    wait(pending)
    del under_way[1:]

  monkeypatch.setattr(Pending, 'add', added)
  monkeypatch.setattr(Pending, 'wait_for_last_but_one', waited)
  toy.train(tmp_path, num_epochs=1, log_every=5, save_every=5, num_devices=num_devices)
  assert max(seen) == most


def _read_on(workdir, wrap=lambda feed: feed, **settings):
  """Trains a language model whose rows go on from batch to batch."""
  ids = np.random.default_rng(0).integers(1, 6, 200)
  ids[2:] = np.where(np.arange(198) % 3 > 0, ids[:-2], ids[2:])  # something to learn
  layer = sj.LSTM(8, return_sequences=True, return_carry=True, dropout=0.1)
  config = TrainConfig(
    workdir=str(workdir), batch_size=4, num_epochs=3, log_every=2, save_every=2,
    learning_rate=0.03, **settings,
  )  # fmt: skip
  return train_lib.run(
    config,
    Task(
      sj.LanguageModel(6, 5, layer, return_carry=True),
      losses.softmax_xent,
      {'perplexity': metrics.perplexity},
    ),
    Data(wrap(Streams(ids[:160], 4, 7)), Streams(ids[160:], 4, 7)),
    name='toy',
    title='A toy',
  )


@pytest.mark.slow
def test_a_state_that_goes_on_from_batch_to_batch_survives_a_kill(tmp_path):
  whole = _read_on(tmp_path / 'whole')
  best = whole['best']
  assert best['val_perplexity'] == pytest.approx(np.exp(best['val_loss']), rel=1e-6)
  assert best['epoch'] == 3
  with pytest.raises(_KilledError):
    _read_on(tmp_path / 'killed', _interrupt_at(9, _die))
  again = _read_on(tmp_path / 'killed')
  assert again['params_sha256'] == whole['params_sha256']
  files = [tmp_path / name / 'metrics.jsonl' for name in ('whole', 'killed')]
  assert files[0].read_bytes() == files[1].read_bytes()
  fitted = sj.load(tmp_path / 'whole')
  # Read at once, each stream of the validation has the loss of the pieces.
  ids = np.random.default_rng(0).integers(1, 6, 200)
  ids[2:] = np.where(np.arange(198) % 3 > 0, ids[:-2], ids[2:])
  batch = Streams(ids[160:], 4, 10).batch(0)
  _, logits = fitted.model.apply({'params': fitted.params}, batch.x, train=False)
  nats = losses.softmax_xent(logits, batch.y) * (batch.y >= 0).sum(1)
  assert nats.sum() / 39 == pytest.approx(best['val_loss'], rel=1e-5)


@pytest.mark.slow
def test_seeds_at_once_carry_their_own_states_on(tmp_path):
  alone = _read_on(tmp_path / 'alone', seed=1)
  _read_on(tmp_path / 'many', num_seeds=2)
  result = json.loads((tmp_path / 'many' / 'seeds' / '1' / 'result.json').read_text())
  assert result['best'] == pytest.approx(alone['best'], rel=1e-5)


def test_rows_that_go_on_want_the_whole_batch_at_once(tmp_path):
  with pytest.raises(InputError, match='accumulate_steps=1'):
    _read_on(tmp_path, accumulate_steps=2)


@pytest.mark.slow
def test_a_state_that_goes_on_is_the_same_wherever_and_in_bfloat16(tmp_path):
  one = _read_on(tmp_path / 'one', num_devices=1)['best']
  lies = _read_on(tmp_path / 'lies', resident=True, steps_per_dispatch=2)['best']
  assert lies == pytest.approx(one, rel=1e-5)
  four = _read_on(tmp_path / 'four', num_devices=4)['best']
  assert four == pytest.approx(one, rel=1e-5)
  short = _read_on(tmp_path / 'short', compute_dtype='bfloat16')['best']
  assert short['val_loss'] == pytest.approx(one['val_loss'], rel=0.01)
