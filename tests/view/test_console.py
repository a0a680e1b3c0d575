"""console.py: what a terminal and what a file see."""

import io
import json
import os
import pty
import re
import shlex
import subprocess
import sys
import termios
import threading

import pytest

from seqjax.view import console

ESCAPE = re.compile(r'[\x1b\r\x08]')
LAYERS = [
  ('embedding', 'Embedding', (None, 500, 32), 320_000),
  ('lstm', 'LSTM', (None, 32), 8_320),
  ('head', 'Dense', ('B',), 33),
]


class Clock:
  """Seconds that pass when told."""

  def __init__(self):
    self.now = 100.0

  def __call__(self):
    return self.now


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
  for name in ('COLUMNS', 'LINES', 'NO_COLOR', 'TTY_COMPATIBLE', 'TTY_INTERACTIVE'):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv('FORCE_COLOR', '1')  # must not reach a file
  monkeypatch.setenv('TERM', 'xterm')


def printed(show, *args, **kwargs):
  stream = io.StringIO()
  show(*args, stream=stream, **kwargs)
  text = stream.getvalue()
  assert not ESCAPE.search(text)
  return text


def on_terminal(show):
  """What `show(stream)` writes to a terminal of 80 columns."""
  master, slave = pty.openpty()
  termios.tcsetwinsize(slave, (24, 80))
  pieces = []

  def read():  # meanwhile, as a terminal holds back who writes 4 kB too many
    while True:
      try:
        pieces.append(os.read(master, 4096))
      except OSError:  # Linux: the other end is closed
        return
      if not pieces[-1]:  # macOS says it so
        return

  reader = threading.Thread(target=read)
  reader.start()
  with open(slave, 'w') as stream:
    show(stream)
  reader.join()
  os.close(master)
  return b''.join(pieces).decode()


def test_summary_shows_each_layer_and_the_total():
  lines = printed(console.summary_table, LAYERS).splitlines()
  cells = [line.split() for line in lines]
  assert ['embedding', 'Embedding', '[B,', '500,', '32]', '320,000'] in cells
  assert ['head', 'Dense', '[B]', '33'] in cells
  assert ['total', '328,353'] in cells


def test_wide_rows_stay_within_80_columns_and_lose_nothing():
  name = 'encoder_with_a_name_that_no_one_should_give_to_a_layer'
  rows = [*LAYERS, (name, 'Bidirectional', (None, 500, 64), 12_345_678_901)]
  lines = printed(console.summary_table, rows).splitlines()
  assert max(map(len, lines)) <= 80
  assert any('[B, 500, 64]' in line for line in lines)
  assert any(line.endswith('12,345,678,901') for line in lines)
  assert name in ''.join(line.split(' ')[0] for line in lines)


def test_results_have_a_row_a_split_and_gaps_stay_empty():
  splits = {'best epoch 5': {'loss': 0.25, 'accuracy': 0.88125}, 'test': {'loss': 1e-9}}
  lines = printed(console.results_table, splits, title='Results').splitlines()
  assert lines[0] == 'Results'
  assert lines[1].split() == ['loss', 'accuracy']
  assert any(
    line.split() == ['best', 'epoch', '5', '0.2500', '0.8812'] for line in lines
  )
  assert any(line.split() == ['test', '1.000e-09'] for line in lines)


def test_a_long_path_stays_one_word():
  path = '/folder[bold]' * 20  # nor is it markup
  text = printed(console.facts_table, {'workdir': path, 'training': 20_000})
  assert f'workdir   {path}\n' in text
  assert 'training  20,000\n' in text


def test_a_file_gets_plain_lines_seconds_apart():
  clock, stream = Clock(), io.StringIO()
  with console.Display(1000, stream=stream, min_seconds=5, clock=clock) as progress:
    for step in range(100, 1001, 100):
      clock.now += 2
      progress.update(step, loss=0.5)
    metrics = {'loss': 0.25, 'accuracy': 0.9, 'val_loss': 0.3, 'val_accuracy': 0.875}
    progress.epoch_line(3, 10, metrics, seconds=62)
  # 2 s for every 100 steps, the first window not counted.
  assert stream.getvalue() == (
    'step  100/1000  loss 0.5000\n'
    'step  400/1000  loss 0.5000  12.0 s left\n'
    'step  700/1000  loss 0.5000  6.0 s left\n'
    'step 1000/1000  loss 0.5000\n'
    'epoch  3/10  loss 0.2500 (val 0.3000)  accuracy 0.9000 (val 0.8750)  1 min 02 s\n'
  )


def test_a_resumed_run_counts_its_own_speed():
  clock, stream = Clock(), io.StringIO()
  with console.Display(1000, start_step=900, stream=stream, clock=clock) as progress:
    for step in (910, 920):
      clock.now += 10
      progress.update(step, loss=0.5)
  assert '1 min 20 s left' in stream.getvalue()


def test_a_line_wider_than_the_screen_is_not_cut():
  stream = io.StringIO()
  with console.Display(10, stream=stream) as progress:
    progress.note('x' * 200)
  assert stream.getvalue() == 'x' * 200 + '\n'


def test_a_terminal_gets_a_bar_and_lines_that_stay():
  def show(stream):
    clock = Clock()
    with console.Display(1000, stream=stream, clock=clock) as progress:
      progress.update(100, loss=0.75)
      clock.now += 2
      progress.update(200, loss=0.5)
      progress.epoch_line(1, 5, {'loss': 0.5, 'val_loss': 0.25}, seconds=2)

  text = on_terminal(show)
  assert ESCAPE.search(text)
  plain = re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', text)
  assert 'epoch 1/5  loss 0.5000 (val 0.2500)  2.0 s' in plain
  last = plain.rstrip().splitlines()[-1]
  assert '200/1000' in last
  assert 'loss 0.5000  16.0 s left' in last
  assert text.rstrip().endswith('\x1b[?25h')  # the cursor is back


def test_a_dumb_terminal_gets_plain_lines(monkeypatch):
  monkeypatch.setenv('TERM', 'dumb')

  def show(stream):
    with console.Display(1000, stream=stream) as progress:
      progress.update(100, 'seed 3: ', loss=0.75)

  assert on_terminal(show) == 'step  100/1000  seed 3: loss 0.7500\r\n'


def test_an_ascii_stream_is_no_error():
  raw = io.BytesIO()
  stream = io.TextIOWrapper(raw, encoding='ascii')
  console.summary_table(LAYERS, stream=stream)
  stream.flush()
  assert b'328,353' in raw.getvalue()


def test_a_stream_that_was_closed_meanwhile_is_let_go():
  stream = io.StringIO()
  lent = console._Stream(stream)
  stream.close()
  lent.close()  # as when it is collected: Python 3.13 reports what that raises


def test_a_pipe_that_nobody_reads_any_more_is_let_go():
  read, write = os.pipe()
  stream = open(write, 'w')  # noqa: SIM115
  with console.Display(1000, stream=stream) as progress:
    progress.note('one')
    os.close(read)
    progress.note('two')  # of rich a SystemExit
    progress.epoch_line(1, 5, {'loss': 0.5}, seconds=2)
  with pytest.raises(BrokenPipeError):
    stream.close()  # its own two lines are left


@pytest.mark.slow
def test_a_run_outlives_the_reader_of_what_it_says(tmp_path):
  code = (
    'import numpy as np, seqjax as sj; x = np.ones((40, 5, 3), np.float32); '
    'print("begin", flush=True); '
    f'sj.fit(sj.SequenceRegressor(sj.GRU(4)), (x, x[:, 0, 0]), loss="mse", '
    f'num_epochs=2, workdir={str(tmp_path)!r})'
  )
  command = f'{sys.executable} -c {shlex.quote(code)} | head -n 1'
  done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
  assert done.stdout == 'begin\n'
  assert json.loads((tmp_path / 'result.json').read_text())['epochs'] == 2


@pytest.mark.parametrize(
  ('value', 'shown'),
  [
    (0.88125, '0.8812'),
    (0.001, '0.001'),
    (0.01234567, '0.01235'),
    (1.25e-7, '1.250e-07'),
    (-3.5, '-3.5000'),
    (0.0, '0.0000'),
    (12345.6, '1.235e+04'),
    (328353, '328,353'),
    (True, 'True'),
    (None, 'None'),
    (float('nan'), 'nan'),
  ],
)
def test_values_for_a_reader(value, shown):
  assert console.format_value(value) == shown


@pytest.mark.parametrize(
  ('seconds', 'shown'),
  [(4.24, '4.2 s'), (59.97, '1 min 00 s'), (185, '3 min 05 s'), (7620, '2 h 07 min')],
)
def test_times_for_a_reader(seconds, shown):
  assert console.format_seconds(seconds) == shown
