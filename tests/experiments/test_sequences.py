"""The experiments on sequences learn from generated data, predict and draw."""

import importlib
import json

import numpy as np
import pytest

from experiments import predict
from experiments.sequences import memory
from experiments.suites import rows as suites
from seqjax import config as config_lib
from seqjax.types import InputError

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
