"""What the README tells a user to do, done."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

import seqjax as sj

_ROOT = pathlib.Path(__file__).parent.parent


def run(page, names):
  (code,) = re.findall(r'```python\n(.*?)```', (_ROOT / page).read_text(), re.S)
  with jax.numpy_rank_promotion('allow'):  # nn.Dense adds [5] to [B, T, 5]
    exec(compile(code, page, 'exec'), names)


@pytest.mark.slow
def test_the_example_runs(capsys):
  run('docs/guides/flax.md', {})
  assert "'kernel': (32, 5)" in capsys.readouterr().out


@pytest.mark.slow
def test_the_run_from_python_learns_predicts_and_leaves_its_curves(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  rng = np.random.default_rng(0)
  ids = rng.integers(0, 10_000, (600, 10))
  labels = (ids[:, -1] < 5000).astype(np.float32)
  names = {'sj': sj, 'ids': ids, 'labels': labels}
  names |= {'other_ids': ids[:50], 'other_labels': labels[:50], 'new_ids': ids[:7]}
  run('README.md', names)
  assert names['fitted'].predict(ids[:7]).shape == (7,)
  assert len(names['fitted'].history['val_accuracy']) == 10
  assert (tmp_path / 'curves.png').exists()
  assert (tmp_path / 'runs' / 'mine' / 'result.json').exists()


@pytest.mark.slow
def test_the_experiment_of_one_s_own_is_a_command_as_others_are(tmp_path):
  page = (_ROOT / 'docs/fit.md').read_text()
  (code,) = re.findall(r'```python\n(import dataclasses.*?)```', page, re.S)
  assert len(code.splitlines()) <= 32
  (tmp_path / 'mine.py').write_text(code)
  x = np.random.default_rng(0).normal(size=(50, 6, 3))
  np.savez(tmp_path / 'mine.npz', x=x, y=x[:, 0, 0])
  environment = {**os.environ, 'PYTHONPATH': str(_ROOT), 'JAX_PLATFORMS': 'cpu'}
  start = [sys.executable, 'mine.py', '--file=mine.npz', '--features=4']
  options = {'cwd': tmp_path, 'env': environment, 'text': True}
  stopped = [*start, '--num_epochs=100000', '--workdir=long']
  with subprocess.Popen(stopped, stdout=subprocess.PIPE, **options) as going:
    for line in going.stdout:
      if line.startswith('epoch'):
        going.send_signal(signal.SIGINT)
        break
    assert 'started again, the run goes on' in ' '.join(going.stdout.read().split())
  assert going.returncode == 130
  pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE}
  with subprocess.Popen([*start, '--num_epochs=3'], **pipes, **options) as heard:
    heard.stdout.readline()
    heard.stdout.close()  # as head -n 1 does
    assert heard.stderr.read() == ''
  assert heard.returncode == 0
  loaded = sj.load(tmp_path / 'runs' / 'mine')
  assert loaded.result['epochs'] == 3
  assert loaded.predict(x).shape == (50,)


def test_every_path_it_and_where_things_are_name_is_there():
  links = re.findall(r'\]\(([^)#]+)\)', (_ROOT / 'README.md').read_text())
  text = (_ROOT / 'CONTRIBUTING.md').read_text().split('## Where things are\n')[1]
  rows = re.findall(r'^\| (`.*`) \|', text.split('\n## ')[0], re.M)
  folder, names = _ROOT, []
  for row in rows:  # `seqjax/cells.py`, `scan.py`: what follows is in the same folder
    for name in re.findall(r'`(.*?)`', row):
      folder = (_ROOT / name).parent if '/' in name else folder
      names.append(_ROOT / name if '/' in name else folder / name)
  assert len(links) > 1
  assert len(names) > 10
  for path in [_ROOT / link for link in links] + names:
    assert path.exists(), path


_SPEED = {
  '32 units': 'B128 T500 D32 H32, with embedding, training',
  '32 units, dropout 0.2 + 0.2, against Keras': (
    'B128 T500 D32 H32, with embedding, dropout 0.2 + 0.2, training'
  ),
  '128 units': 'B128 T500 D32 H128, with embedding, training',
}


@pytest.mark.parametrize('page', ['README.md', 'docs/results.md'])
def test_the_table_of_speed_is_what_was_measured(page):
  measured = json.loads((_ROOT / 'benchmarks/results/all.json').read_text())
  ratios = {row['title']: row['ratio'] for row in measured['rows']}
  text, kinds = (_ROOT / page).read_text(), ('lstm', 'gru', 'simple_rnn')
  expected = {
    name: [ratios[f'{kind} {title}'] for kind in kinds]
    for name, title in _SPEED.items()
  }
  expected['an epoch of IMDB, masked and batched by length'] = [
    ratios[f'IMDB epoch (real reviews): {kind} {_SPEED["32 units"]}'] for kind in kinds
  ]
  for name, values in expected.items():
    assert f'\n| {name} | {" | ".join(f"{v:.2f}" for v in values)} |\n' in text
  assert f'Medians of one run by turns, {measured["machine"]["date"][:10]}' in text
