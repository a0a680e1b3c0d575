"""The suite: what is run, skipped, cut and refused, and the tables of it."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments import reproduce
from experiments.suites import rows as suites
from experiments.suites import runs, tables
from seqjax.types import CommandError, InputError
from seqjax.view import comparisons

pytestmark = pytest.mark.usefixtures('quick_programs')

_ROOT = pathlib.Path(__file__).parents[2]
_ROWS = (
  suites.Row(
    'plain', 'x', (suites.Number('best.val_accuracy', published_text='mid 50s %'),)
  ),
  suites.Row(
    'better',
    'x',
    (suites.Number('best.val_accuracy', 0.7), suites.Number('test_loss', 0.5)),
    against='plain',
  ),
  suites.Row('not_run', 'x', (suites.Number('test_loss'),)),
)


def _finished(folder, name, seed, accuracy, loss=0.4):
  """Leaves behind what a finished run does."""
  place = folder / name / f'seed{seed}'
  place.mkdir(parents=True)
  best = {'epoch': 2, 'step': 8, 'val_accuracy': accuracy}
  result = {'best': best, 'test_loss': loss, 'num_params': 1234, 'seconds': 5.0 + seed}
  (place / 'result.json').write_text(json.dumps(result))
  lines = [
    {'event': 'epoch', 'step': 4 * e, 'epoch': e, 'loss': 0.7, 'val_loss': 0.6 / e}
    for e in (1, 2)
  ]
  (place / 'metrics.jsonl').write_text(''.join(json.dumps(x) + '\n' for x in lines))
  return place


@pytest.fixture
def folder(tmp_path):
  for seed, (plain, better) in enumerate([(0.5, 0.56), (0.52, 0.53), (0.54, 0.58)]):
    _finished(tmp_path, 'plain', seed, plain)
    _finished(tmp_path, 'better', seed, better, loss=0.3 + seed / 10)
  return tmp_path


def test_means_and_spreads_are_those_of_the_runs(folder):
  tables.write(folder, 'a suite', _ROWS)
  table = json.loads((folder / tables.JSON).read_text())
  assert [row['name'] for row in table['rows']] == ['plain', 'better', 'better']
  accuracy, loss = table['rows'][1:]
  assert accuracy['mean'] == pytest.approx((0.56 + 0.53 + 0.58) / 3)
  assert accuracy['spread'] == pytest.approx(0.0251661, rel=1e-5)  # by hand, n - 1
  assert accuracy['values'] == {'0': 0.56, '1': 0.53, '2': 0.58}
  assert accuracy['published'] == 0.7
  assert accuracy['seconds'] == 6
  assert loss['mean'] == pytest.approx(0.4)
  text = (folder / tables.MARKDOWN).read_text()
  assert '| better | validation accuracy | 0.7 | 0.5567 ± 0.0252 | 3 | 1,234 |' in text
  assert '| plain | validation accuracy | mid 50s % | 0.5200 ± 0.0200 | 3 |' in text
  assert 'not_run' not in text


def test_partners_are_compared_seed_by_seed(folder):
  _finished(folder, 'better', 3, 0.9)  # has no partner
  tables.write(folder, 'a suite', _ROWS)
  pair, _ = json.loads((folder / tables.JSON).read_text())['pairs']
  assert pair['mean'] == pytest.approx((0.06 + 0.01 + 0.04) / 3)
  assert pair['error'] == pytest.approx(0.0145297, rel=1e-5)  # by hand
  assert pair['greater'] == 3
  assert pair['p'] == 0.25  # all signs alike: 2 of 8 choices
  assert pair['with'].keys() == {'0', '1', '2'}


def test_a_peer_has_a_column_where_there_is_one(folder):
  number = suites.Number('best.val_accuracy', peer='torch 0.61')
  rows = (suites.Row('plain', 'x', (number, suites.Number('test_loss'))), *_ROWS[1:])
  tables.write(folder, 'a suite', rows)
  text = (folder / tables.MARKDOWN).read_text()
  assert '| published | a peer here | mean ± spread |' in text
  assert '| plain | validation accuracy |  | torch 0.61 | 0.5200 ± 0.0200 | 3 |' in text
  assert '| plain | test loss |  |  | 0.4000 ± 0.0000 | 3 |' in text
  assert len({line.count('|') for line in text.splitlines() if line[:1] == '|'}) == 2


def test_one_seed_has_no_spread(tmp_path):
  _finished(tmp_path, 'plain', 0, 0.5)
  tables.write(tmp_path, 'a suite', _ROWS)
  (row,) = json.loads((tmp_path / tables.JSON).read_text())['rows']
  assert row['spread'] is None
  assert '| 0.5000 | 1 |' in (tmp_path / tables.MARKDOWN).read_text()


def test_sign_flips_against_all_choices_by_hand():
  # Of the sums +-3 +-1 +-2, that is +-6 +-4 +-2 0 0, four are 4 or more from 0.
  assert tables.sign_flips(np.array([3.0, -1.0, 2.0])) == 0.5
  assert tables.sign_flips(np.full(10, 0.1)) == 2 / 1024


def test_pictures_hold_all_seeds_their_mean_and_the_published_number(folder):
  lines = {s: tables.read_metrics(folder / 'better' / f'seed{s}') for s in range(3)}
  lines[1][1]['val_loss'] = 0.9
  (axes,) = comparisons.seed_curves(
    lines, folder / 'better' / 'a.png', title='x', published={'loss': 0.25}
  ).axes
  thin = [line for line in axes.lines if line.get_linewidth() == 0.8]
  assert len(thin) == 6  # three seeds, two sides
  (mean,) = [line for line in axes.lines if 'validation' in str(line.get_label())]
  np.testing.assert_allclose(mean.get_ydata(), [0.6, (0.3 + 0.9 + 0.3) / 3])
  (level,) = [line for line in axes.lines if 'published' in str(line.get_label())]
  assert level.get_ydata()[0] == 0.25
  tables.draw(folder, _ROWS[1])
  names = {path.name for path in folder.glob('*.png')}
  assert names == {
    'better.png', 'better_pairs_val_accuracy.png', 'better_pairs_test_loss.png'
  }  # fmt: skip


def test_differences_of_pairs_are_drawn_in_their_order(tmp_path):
  first, second, path = [0.5, 0.6, 0.7], [0.8, 0.5, 0.75], tmp_path / 'a.png'
  left, right = comparisons.paired(
    first, second, path, title='x', names=('a', 'b'), ylabel='accuracy'
  ).axes
  assert [line.get_ydata().tolist() for line in left.lines] == [
    [0.5, 0.8], [0.6, 0.5], [0.7, 0.75]
  ]  # fmt: skip
  (points,) = [
    c
    for c in right.collections
    if hasattr(c, 'get_sizes') and len(c.get_offsets()) == 3
  ]
  np.testing.assert_allclose(points.get_offsets()[:, 1], [-0.1, 0.05, 0.3])
  assert right.get_title(loc='right') == 'mean +0.0833'


def test_seeds_are_found_by_number_wherever_they_lie(folder):
  shutil.copytree(folder / 'plain' / 'seed2', folder / 'plain' / 'seed2.old')
  for name in ('10', '3', '3.old'):
    shutil.copytree(folder / 'plain' / 'seed0', folder / 'plain' / 'seeds' / name)
  assert list(tables.finished(folder, 'plain')) == [0, 1, 2, 3, 10]


def test_what_was_begun_alone_goes_on_alone(tmp_path):
  row = suites.Row('imdb_lstm', 'imdb_lstm', ())

  def groups():
    return runs._groups(tmp_path, row, 5, ['--dataset=synthetic'], True)

  assert groups() == [[0, 1, 2, 3, 4]]
  (tmp_path / 'imdb_lstm' / 'seed0').mkdir(parents=True)
  assert groups() == [[0], [1, 2, 3, 4]]
  (tmp_path / 'imdb_lstm' / 'seed3').mkdir()
  assert groups() == [[0], [1, 2], [3], [4]]


@pytest.mark.parametrize(
  ('accelerator', 'asked', 'found'),
  [
    (True, None, 'both'),
    (False, None, 'one'),
    (False, True, 'both'),
    (True, False, ''),
  ],
)
def test_seeds_are_trained_at_once_on_accelerators_and_where_a_row_says_so(
  tmp_path, monkeypatch, accelerator, asked, found
):
  ran = {'lstm': [], 'gru': []}
  rows = [
    suites.Row('lstm', 'imdb_lstm', (), at_once=True),
    suites.Row('gru', 'imdb_gru', ()),
  ]
  monkeypatch.setattr(runs, '_has_accelerator', lambda: accelerator)
  monkeypatch.setattr(
    runs, '_run', lambda folder, row, seeds, flags: ran[row.name].append(seeds) or []
  )
  flags = ['--dataset=synthetic']
  runs.run(tmp_path, 'text', rows, lambda row: 2, lambda row: flags, asked)
  at_once = {'both': ('lstm', 'gru'), 'one': ('lstm',), '': ()}[found]
  assert ran == {
    name: [[0, 1]] if name in at_once else [[0], [1]] for name in ('lstm', 'gru')
  }


def test_cpus_are_no_accelerator_and_where_jax_cannot_start_that_is_said(monkeypatch):
  assert not runs._has_accelerator()
  monkeypatch.setenv('JAX_PLATFORMS', 'nowhere')
  with pytest.raises(InputError, match=r"JAX cannot start here: .*'nowhere'"):
    runs._has_accelerator()


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'suite': 'txt'}, '--suite must be one of text.*txt'),
    ({'only': 'imdb_lstm,lstm'}, "--only: 'lstm' is no row of text"),
  ],
)
def test_unknown_names_are_refused(settings, message, tmp_path):
  with pytest.raises(InputError, match=message):
    reproduce.run(reproduce.Config(workdir=str(tmp_path), **settings))


def test_every_row_has_its_flag_file_and_its_partner():
  for rows in suites.SUITES.values():
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    for row in rows:
      assert (_ROOT / 'experiments' / 'flags' / f'{row.name}.flags').exists()
      assert not row.against or row.against in names


_BAD = ('--learning_rate=1e30',)
_SMALL = ('--synthetic_size=80', '--num_steps=2', '--log_every=1', '--save_every=1')


@pytest.fixture
def small(monkeypatch):
  """A suite of two short runs and one that diverges."""
  monkeypatch.setenv('XLA_FLAGS', '')
  numbers = (suites.Number('best.val_accuracy', 0.5),)
  rows = (
    suites.Row('imdb_embedding', 'imdb_embedding', numbers, _SMALL),
    suites.Row(
      'imdb_reversed', 'imdb_lstm', numbers, (*_SMALL, '--learning_rate=1e30')
    ),
    suites.Row(
      'imdb_glove', 'imdb_glove', numbers, (*_SMALL, '--num_train=20'), most=1
    ),
  )
  monkeypatch.setitem(suites.SUITES, 'text', rows)


@pytest.mark.slow
def test_a_suite_goes_on_after_a_failure_and_skips_what_is_done(small, tmp_path, capfd):
  settings = {'seeds': 2, 'quick': True, 'seeds_at_once': True}
  config = reproduce.Config(**settings, workdir=str(tmp_path))
  with pytest.raises(CommandError, match=r'reversed/seeds/0, .*reversed/seeds/1;'):
    reproduce.run(config)
  output = capfd.readouterr().out
  assert 'imdb_reversed seeds 0 to 1: exit code 3' in output
  assert 'done before' not in output
  runs = [path.parent for path in tmp_path.glob('*/seed*/**/result.json')]
  assert {str(run.relative_to(tmp_path)) for run in runs} == {
    'imdb_embedding/seeds/0', 'imdb_embedding/seeds/1', 'imdb_glove/seed0'
  }  # fmt: skip
  before = {run: os.stat(run / 'result.json').st_mtime_ns for run in runs}
  with pytest.raises(CommandError, match='failed'):
    reproduce.run(config)
  assert capfd.readouterr().out.count('done before') == 3
  assert before == {run: os.stat(run / 'result.json').st_mtime_ns for run in runs}
  other = reproduce.Config(seeds=2, only='imdb_glove', workdir=str(tmp_path))
  with pytest.raises(InputError, match=r'other settings.*"synthetic" -> "imdb"'):
    reproduce.run(other)


@pytest.mark.slow
def test_a_suite_that_is_cut_saves_the_run_and_goes_on(tmp_path):
  command = [sys.executable, '-m', 'experiments.reproduce', '--quick', '--seeds=1']
  command += ['--only=imdb_simple_rnn', f'--workdir={tmp_path}']
  environment = {**os.environ, 'XLA_FLAGS': ''}
  process = subprocess.Popen(
    command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True
  )
  place = tmp_path / 'imdb_simple_rnn' / 'seed0'
  lines = place / 'metrics.jsonl'
  while process.poll() is None and not (lines.exists() and lines.stat().st_size):
    time.sleep(0.01)
  process.send_signal(signal.SIGTERM)
  output, _ = process.communicate()
  assert process.returncode == 75, output
  assert 'SIGTERM: imdb_simple_rnn seed 0 is cut' in output
  assert not (place / 'result.json').exists()
  done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True)
  assert done.returncode == 0, done.stdout
  assert 'resumed from step' in (place / 'console.log').read_text()
