"""A grid of settings: every combination runs once, and the best is named."""

import json

import pytest

from experiments import sweep
from seqjax.types import InputError

pytestmark = pytest.mark.usefixtures('quick_programs')


def test_a_grid_is_every_combination_in_order():
  found = sweep.combinations(('a=1,2', 'b=x'))
  assert found == [(('a', '1'), ('b', 'x')), (('a', '2'), ('b', 'x'))]


@pytest.mark.parametrize(
  ('settings', 'match'),
  [
    ({'grid': ()}, '`grid` is empty'),
    ({'grid': ('a',)}, "FLAG=VALUE.*'a'"),
    ({'grid': ('a=1,',)}, "FLAG=VALUE.*'a=1,'"),
    ({'grid': ('a=1', 'a=2')}, 'once a flag'),
    ({'experiment': 'imdb_lstmm'}, "`experiment` must be one of.*'imdb_lstmm'"),
    ({'experiment': ''}, '`experiment` must be one of'),
    ({'grid': ('wiggle=1',)}, 'wiggle'),
    ({'metric': 'seconds'}, 'say min:seconds or max:seconds'),
    ({'grid': ('features=0,3',)}, '`features` must be at least 1'),
  ],
)
def test_what_cannot_run_is_said_before_anything_does(tmp_path, settings, match):
  settings = {'experiment': 'imdb_lstm', 'grid': ('features=2',), **settings}
  with pytest.raises(InputError, match=match):
    sweep.run(sweep.Config(workdir=str(tmp_path), **settings))
  assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_sweep_runs_each_once_and_names_the_best(tmp_path, capfd):
  config = sweep.Config(
    experiment='imdb_lstm',
    grid=('learning_rate=1e-6,0.02', 'optimizer=adam'),
    flags=(
      'dataset=synthetic',
      'num_epochs=6',
      'synthetic_size=1200',
      'length=60',
      'features=8',
    ),
    seeds=2,
    workdir=str(tmp_path),
  )
  sweep.run(config)
  shown = capfd.readouterr().out
  best = 'learning_rate=0.02,optimizer=adam'
  assert f'best validation accuracy: {best}' in shown
  rows = json.loads((tmp_path / 'table.json').read_text())['rows']
  assert [len(row['values']) for row in rows] == [2, 2]
  assert (tmp_path / 'sweep.png').stat().st_size > 5_000
  sweep.run(config)
  assert capfd.readouterr().out.count('done before') == 4
