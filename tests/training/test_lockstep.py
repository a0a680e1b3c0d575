"""Several seeds at once: each is the run it would be alone, whatever the others do."""

import json
import math
import shutil
import signal
import types

import jax
import numpy as np
import pytest
import toy

from seqjax import train as train_lib
from seqjax import workdir
from seqjax.cluster import mesh as mesh_lib
from seqjax.cluster import watchdog
from seqjax.config import TrainConfig
from seqjax.data.batches import Shuffled
from seqjax.training import lockstep, losses, optim, steps
from seqjax.training.state import init_state
from seqjax.types import InputError
from seqjax.workdir import progress
from seqjax.workdir.log import read_metrics

pytestmark = pytest.mark.usefixtures('unrendered', 'quick_programs')

SEEDS = (4, 5, 6)
_MANY = {'seed': SEEDS[0], 'num_seeds': len(SEEDS)}


class _KilledError(Exception):
  pass


class _Spoilt:
  """A feed that does something to the batch of a step, of one seed."""

  def __init__(self, feed, seed, step, spoil, mine=False):
    self._feed, self._rest, self._mine = feed, (seed, step, spoil), mine
    self.steps_per_epoch, self.fingerprint = feed.steps_per_epoch, feed.fingerprint
    self.resident = feed.resident

  def with_seed(self, seed):
    return _Spoilt(self._feed.with_seed(seed), *self._rest, seed == self._rest[0])

  def batch(self, step):
    batch = self._feed.batch(step)
    return self._rest[2](batch) if self._mine and step == self._rest[1] else batch


def _die(batch):
  raise _KilledError


def _at(seed, step, spoil):
  return lambda feed: _Spoilt(feed, seed, step, spoil)


@pytest.fixture(autouse=True)
def one_batch_at_a_time(monkeypatch):
  monkeypatch.setattr(mesh_lib, '_AHEAD', 1)


@pytest.fixture(scope='module')
def together(tmp_path_factory):
  folder = tmp_path_factory.mktemp('together')
  return folder, toy.train(folder, **_MANY)


@pytest.fixture
def dispatches(monkeypatch):
  """Of each dispatch so far, which takes a second: whether its program was new."""
  made, make = [], steps.make_train_step

  def noting(*args, **kwargs):
    step, calls = make(*args, **kwargs), []

    def call(*args):
      made.append(not calls)
      calls.append(1)
      return step(*args)

    return call

  monkeypatch.setattr(steps, 'make_train_step', noting)
  clock = types.SimpleNamespace(monotonic=lambda: float(len(made)))
  monkeypatch.setattr(progress, 'time', clock)
  return made


def _values(folder):
  """All numbers of metrics.jsonl, line by line."""
  lines = read_metrics(folder)
  return [{k: v for k, v in line.items() if k != 'event'} for line in lines]


def _of(folder, seed):
  place = folder / workdir.SEEDS / str(seed)
  return place, json.loads((place / 'result.json').read_text())


def _same(folder, other, seeds=SEEDS):
  for seed in seeds:
    (ours, a), (theirs, b) = _of(folder, seed), _of(other, seed)
    assert a['params_sha256'] == b['params_sha256']
    assert (ours / 'metrics.jsonl').read_bytes() == (
      theirs / 'metrics.jsonl'
    ).read_bytes()


def test_each_seed_is_the_run_it_would_be_alone(tmp_path, together):
  folder, _ = together
  alone = toy.train(tmp_path, seed=5)
  place, result = _of(folder, 5)
  for ours, theirs in zip(_values(place), _values(tmp_path), strict=True):
    assert ours == pytest.approx(theirs, rel=1e-5)
  for name in ('best', 'final'):
    assert result[name] == pytest.approx(alone[name], rel=1e-5)
  assert result['test_loss'] == pytest.approx(alone['test_loss'], rel=1e-5)
  assert {path.name for path in place.iterdir()} == {
    path.name for path in tmp_path.iterdir()
  }
  # What a single run left goes on as such: the folder is one.
  again = toy.train(place, seed=5)
  assert again['best'] == result['best']


def test_the_result_is_means_and_spreads_of_the_seeds(together):
  folder, result = together
  assert json.loads((folder / 'result.json').read_text()) == result
  assert result['seeds'] == list(SEEDS)
  found = [_of(folder, seed)[1] for seed in SEEDS]
  assert len({one['params_sha256'] for one in found}) == len(SEEDS)
  losses_ = [one['best']['val_loss'] for one in found]
  assert result['mean']['best']['val_loss'] == pytest.approx(sum(losses_) / 3)
  variance = sum((loss - sum(losses_) / 3) ** 2 for loss in losses_) / 2
  assert result['spread']['best']['val_loss'] == pytest.approx(variance**0.5)
  assert (folder / 'curves.png').stat().st_size > 10_000


@pytest.mark.slow
def test_killed_between_the_saves_of_two_seeds_they_end_with_the_same_bits(
  tmp_path, together, capfd
):
  with pytest.raises(_KilledError):
    toy.train(tmp_path, **_MANY, wrap_feed=_at(5, 13, _die))
  newest = max((tmp_path / 'seeds' / '4' / 'checkpoints').glob('*-step*'))
  shutil.rmtree(newest)
  capfd.readouterr()
  toy.train(tmp_path, **_MANY)
  shown = capfd.readouterr().out
  assert 'seed 4: resumed from step 10' in shown
  assert 'seed 5: resumed from step 12' in shown
  _same(tmp_path, together[0])


@pytest.mark.slow
def test_a_signal_saves_each_seed_where_it_is_and_they_go_on(tmp_path, together, capfd):
  def ask(batch):
    signal.raise_signal(signal.SIGTERM)
    return batch

  with pytest.raises(SystemExit) as stopped:
    toy.train(tmp_path, **_MANY, wrap_feed=_at(5, 11, ask))
  assert stopped.value.code == 75
  shown = capfd.readouterr().out
  assert 'seed 4: SIGTERM: step 12 of 20 is saved' in shown
  assert 'seed 6: SIGTERM: step 11 of 20 is saved' in shown
  assert not (tmp_path / 'result.json').exists()
  toy.train(tmp_path, **_MANY)
  _same(tmp_path, together[0])


@pytest.mark.slow
def test_a_seed_that_diverges_ends_alone_and_is_named(tmp_path, together):
  def spoil(batch):
    return batch._replace(y=batch.y * np.nan)

  with pytest.raises(
    train_lib.DivergedError, match=r'1 of 3 seeds diverged: seed 5, step 8: .*loss'
  ) as error:
    toy.train(tmp_path, **_MANY, wrap_feed=_at(5, 7, spoil))
  assert error.value.exit_code == 3
  assert read_metrics(tmp_path / 'seeds' / '5')[-1]['event'] == 'stop'
  _same(tmp_path, together[0], (4, 6))
  result = json.loads((tmp_path / 'result.json').read_text())
  assert result['seeds'] == [4, 6]
  assert result['diverged'].keys() == {'5'}
  later = toy.train(tmp_path, seed=6, num_seeds=2)
  assert later['seeds'] == [4, 6, 7]
  assert later['diverged'] == result['diverged']
  mended = toy.train(tmp_path, **_MANY)
  assert mended['seeds'] == [4, 5, 6, 7]
  assert not mended['diverged']


@pytest.mark.slow
def test_each_seed_stops_early_by_itself_and_tests_its_best_epoch(tmp_path, dispatches):
  settings = {'early_stopping': 1, 'num_epochs': 5, 'learning_rate': 0.05}
  many = toy.train(tmp_path / 'many', **settings, **_MANY, log_every=1)
  assert many['seconds'] == pytest.approx(len(dispatches))  # shared by those that train
  epochs = set()
  for seed in SEEDS:
    alone = toy.train(tmp_path / str(seed), **settings, seed=seed)
    result = _of(tmp_path / 'many', seed)[1]
    assert result['best'] == pytest.approx(alone['best'], rel=1e-5)
    assert result['epochs'] == alone['epochs']
    assert result['test_loss'] == pytest.approx(alone['test_loss'], rel=1e-5)
    epochs.add(alone['epochs'])
  assert len(epochs) > 1  # or nothing is tested


@pytest.mark.slow
@pytest.mark.parametrize('num_devices', [2, 4])
def test_on_several_devices_seeds_are_cut_over_them_or_batches_are(
  tmp_path, together, num_devices
):
  toy.train(tmp_path, **_MANY, num_devices=num_devices)
  for seed in SEEDS:
    ours, theirs = (_of(folder, seed)[1] for folder in (tmp_path, together[0]))
    assert ours['best'] == pytest.approx(theirs['best'], rel=1e-5)
    starts = json.loads((_of(tmp_path, seed)[0] / 'config.json').read_text())['starts']
    assert starts[0]['devices_used'] == (1 if num_devices == 2 else 4)


@pytest.mark.slow
@pytest.mark.parametrize(
  'settings',
  [
    {'accumulate_steps': 2},
    {'steps_per_dispatch': 3},
    {'plateau_epochs': 1, 'mean_decay': 0.9, 'learning_rate': 0.05},
  ],
)
def test_seeds_go_with_what_a_run_alone_does(tmp_path, settings):
  toy.train(tmp_path / 'many', **_MANY, **settings)
  alone = toy.train(tmp_path / 'alone', seed=5, **settings)
  result = _of(tmp_path / 'many', 5)[1]
  for name in ('best', 'final'):
    assert result[name] == pytest.approx(alone[name], rel=1e-5)


@pytest.mark.slow
def test_each_program_has_its_time_to_compile_and_devices_are_counted(
  tmp_path, monkeypatch, capfd, dispatches
):
  beats = []

  def beat(self, *, compiles=False, steps=1):
    beats.append((len(dispatches), compiles))

  monkeypatch.setattr(watchdog.Watchdog, 'beat', beat)
  result = toy.train(tmp_path, num_seeds=4, num_devices=2, num_epochs=1, log_every=1)
  last = dict(beats)  # dispatches before it -> the last beat's
  found = [(is_first, last[n]) for n, is_first in enumerate(dispatches)]
  assert found.count((True, True)) == 2
  assert found.count((False, False)) == len(found) - 2 > 0
  assert result['seconds'] == pytest.approx(len(found), rel=0.2)  # not of each device
  assert '2 x cpu' in capfd.readouterr().out


def test_all_devices_compute_before_the_runs_of_one_wait():
  events = []

  def run(name):
    for step in range(2):
      yield lockstep.Step(step, 1, None, None, None)
      events.append(f'{name} waits')
    values = yield lockstep.Evaluation(math.inf, None, range(2))
    return name + values

  def group(name):
    def train_step(*_):
      events.append(f'{name} computes')
      return None, {}

    def evaluate(params, batches):
      for batch in batches:
        events.append(f'{name} {batch}')
        yield
      return '!'

    programs = types.SimpleNamespace(models=None, train_steps={1: train_step})
    watch = watchdog.Watchdog(None)
    return lockstep.Group([run(name)], programs, evaluate, watch, ())

  groups = [group('a'), group('b')]
  lockstep.drive(groups)
  assert [one.outcomes for one in groups] == [{0: 'a!'}, {0: 'b!'}]
  step = ['a computes', 'b computes', 'a waits', 'b waits']
  assert events == [*step, *step, 'a 0', 'b 0', 'a 1', 'b 1']


def test_all_runs_are_ended_whatever_one_of_them_raises():
  ended = []

  def run(name):
    try:
      yield lockstep.Step(0, 1, None, None, None)
      raise ZeroDivisionError(name)
    finally:
      ended.append(name)
      if name == 'b':
        raise OSError(name)

  two = types.SimpleNamespace(
    models=2, train_steps={1: lambda *_: ((None, None), ({}, {}))}
  )
  groups = [
    lockstep.Group([*map(run, names)], two, None, watchdog.Watchdog(None), ())
    for names in ('ab', 'cd')
  ]
  with pytest.raises(OSError, match='b'):
    lockstep.drive(groups)
  assert sorted(ended) == ['a', 'b', 'c', 'd']


@pytest.mark.slow
def test_a_seed_that_goes_on_among_other_seeds_is_told(tmp_path, capfd):
  with pytest.raises(_KilledError):
    toy.train(tmp_path, **_MANY, wrap_feed=_at(5, 13, _die))
  toy.train(tmp_path, seed=4, num_seeds=2)
  shown = ' '.join(capfd.readouterr().out.split())
  assert 'seed 4: seeds_at_once [4, 5, 6] -> [4, 5]: expect the same values' in shown


@pytest.mark.slow
def test_seeds_may_be_added_and_a_run_of_one_seed_is_no_place_for_them(tmp_path):
  short = {'num_epochs': 1, 'num_seeds': 2}
  toy.train(tmp_path / 'a', **short)
  shutil.copytree(tmp_path / 'a' / 'seeds' / '0', tmp_path / 'a' / 'seeds' / '0.old')
  assert toy.train(tmp_path / 'a', **short, seed=2)['seeds'] == [0, 1, 2, 3]
  with pytest.raises(InputError, match='num_seeds 2 -> 1'):
    toy.train(tmp_path / 'a', num_epochs=1)
  with pytest.raises(InputError, match='learning_rate'):
    toy.train(tmp_path / 'a', **short, learning_rate=0.5)
  with pytest.raises(InputError, match='a run of one seed'):
    toy.train(tmp_path / 'a' / 'seeds' / '0', **short)


@pytest.mark.parametrize(
  ('settings', 'match'),
  [
    ({'distributed': True}, 'not with `distributed`'),
    ({'data_parallel': 'pmap'}, 'not with `data_parallel=pmap`'),
  ],
)
def test_what_seeds_do_not_go_with_is_refused_by_name(settings, match):
  with pytest.raises(InputError, match=match):
    TrainConfig(num_seeds=2, **settings)


def test_a_step_of_all_seeds_calls_each_kernel_once():
  model, x = toy.model(), toy.examples().x[:32]
  tx, mesh = optim.make_optimizer('rmsprop', 0.01), mesh_lib.make_mesh(1, 32)
  batch = mesh_lib.put_batch(Shuffled(toy.examples(), 32, 0).batch(0), mesh)
  for models in (None, 5):
    step = steps.make_train_step(model, losses.binary_xent, {}, tx, mesh, models=models)
    state = init_state(model, tx, jax.random.key(0), x)
    args = state, batch, jax.random.key(1)
    if models:
      args = tuple((arg,) * models for arg in args)
    text = step.lower(*args).as_text()
    for way in ('Forward', 'Backward'):
      (call,) = [line for line in text.splitlines() if f'@Seqjax{way}' in line]
      assert ('tensor<5x' in call) == (models == 5)
