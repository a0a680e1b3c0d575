"""The commands as a user runs them: killed, restarted, misused."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

_ROOT = pathlib.Path(__file__).parents[2]
_SETTINGS = ['num_epochs=60', 'log_every=2', 'save_every=2']


def _start(*arguments):
  # Without the eight forced devices of the tests: as a user's machine is.
  return subprocess.Popen(
    [sys.executable, *arguments],
    cwd=_ROOT,
    env={**os.environ, 'XLA_FLAGS': '', 'PYTHONPATH': str(_ROOT)},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def _toy(workdir, *settings):
  toy = str(_ROOT / 'tests' / 'toy.py')
  return _start(toy, str(workdir), *_SETTINGS, *settings)


def _result(workdir):
  return json.loads((workdir / 'result.json').read_text())


def _wait_for_step(workdir, process, step):
  """Returns when metrics.jsonl tells of this step, or the process is over."""
  path = workdir / 'metrics.jsonl'
  while process.poll() is None:
    lines = path.read_bytes().splitlines() if path.exists() else []
    if lines and lines[-1].endswith(b'}') and json.loads(lines[-1])['step'] >= step:
      return
    time.sleep(0.002)


_EVERYTHING = [
  'optimizer=adamw', 'schedule=cosine', 'warmup_steps=20', 'plateau_epochs=2',
  'plateau_factor=0.8', 'mean_decay=0.9', 'compute_dtype=bfloat16', 'monitor=loss',
  'class_weight=balanced', 'label_smoothing=0.1', 'resident=true',
  'steps_per_dispatch=2',
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures('own_programs')
@pytest.mark.parametrize('settings', [[], _EVERYTHING], ids=['plain', 'everything'])
def test_kill_9_at_ten_random_moments_changes_no_bit(tmp_path, settings):
  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  _run_killed(lambda workdir: _toy(workdir, *settings), whole, killed, killed, 280)
  _check_same(killed, whole)


@pytest.mark.slow
@pytest.mark.usefixtures('own_programs')
def test_eight_seeds_at_once_killed_ten_times_end_with_the_same_bits(tmp_path):
  def start(workdir):
    flags = ['--dataset=synthetic', '--synthetic_size=160', '--vocab_size=60']
    flags += ['--length=20', '--batch_size=16', '--num_epochs=5', '--num_seeds=8']
    flags += ['--dropout=0.2', '--log_every=2', '--save_every=2']
    return _start('-m', 'experiments.imdb_lstm', *flags, f'--workdir={workdir}')

  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  places = [f'seeds/{seed}' for seed in range(8)]
  _run_killed(start, whole, killed, killed / places[-1], 40)
  for place in places:
    _check_same(killed / place, whole / place)


def _run_killed(start, whole, killed, watched, steps):
  """Runs a command in a folder, and in another where it is killed ten times.

  That is at random moments of so many steps, of which `watched` tells.
  """
  process = start(whole)
  output, _ = process.communicate()
  assert process.returncode == 0, output
  rng, part = random.Random(0), steps // 10
  for number in range(10):
    process = start(killed)
    _wait_for_step(watched, process, rng.randrange(part * number, part * (number + 1)))
    time.sleep(rng.uniform(0, 0.1))
    process.send_signal(signal.SIGKILL)
    output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, output
  process = start(killed)
  output, _ = process.communicate()
  assert process.returncode == 0, output
  assert 'resumed from step' in output


def _check_same(folder, other):
  assert _result(folder)['params_sha256'] == _result(other)['params_sha256']
  assert _result(folder)['best'] == _result(other)['best']
  files = [place / 'metrics.jsonl' for place in (folder, other)]
  assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures('own_programs')
def test_sigterm_saves_and_says_so(tmp_path):
  process = _toy(tmp_path)
  _wait_for_step(tmp_path, process, 4)
  process.terminate()
  output, _ = process.communicate()
  assert process.returncode == 75, output
  assert 'SIGTERM: step' in output


@pytest.mark.slow
def test_the_experiment_runs_on_generated_reviews(tmp_path):
  command = [sys.executable, '-m', 'experiments.imdb_lstm']
  command += ['--flagfile=experiments/flags/demo.flags', '--synthetic_size=400']
  command += ['--num_steps=10', f'--workdir={tmp_path}']
  environment = {**os.environ, 'XLA_FLAGS': ''}
  done = subprocess.run(
    command, cwd=_ROOT, env=environment, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  result = _result(tmp_path)
  assert result['steps'] == 10
  assert 0 <= result['test_accuracy'] <= 1
  assert len(result['params_sha256']) == 64
  assert '\x1b' not in done.stdout
  again = subprocess.run(
    [*command, '--seed=1'], cwd=_ROOT, env=environment, capture_output=True, text=True
  )
  assert again.returncode == 2
  assert 'seed 0 -> 1' in again.stderr
