"""log.py: a metrics file that no kill can bend, times beside it, TensorBoard events."""

import json
import math
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjax.types import InputError
from seqjax.workdir.log import RunLog, read_metrics, read_timing

WINDOW, EPOCH, NUM_STEPS = 5, 15, 60  # a checkpoint after each epoch


KILLED = """
import os, signal, sys
from seqjax.workdir.log import RunLog
log = RunLog(sys.argv[1], None)
log.write('train', 1, loss=0.5)
log.write_timing(1, seconds=2)
os.kill(os.getpid(), signal.SIGKILL)
"""


def events(num_steps=NUM_STEPS):
  """(event, step, values) of a run, as a loop would write them."""
  rng = np.random.default_rng(3)
  for step in range(WINDOW, num_steps + 1, WINDOW):
    yield 'train', step, {'epoch': (step - 1) // EPOCH + 1, 'loss': rng.normal()}
    if step % EPOCH == 0:
      values = {'epoch': step // EPOCH, 'loss': rng.normal(), 'val_loss': 1e-300}
      yield 'epoch', step, values


def run(workdir, resume_step=None):
  """Writes all events after `resume_step`; returns the bytes of metrics.jsonl."""
  with RunLog(workdir, resume_step) as log:
    for event, step, values in events():
      if resume_step is None or step > resume_step:
        log.write(event, step, **values)
  return (Path(workdir) / 'metrics.jsonl').read_bytes()


def test_a_line_holds_the_values_in_order_and_to_the_last_bit(tmp_path):
  loss, single = 0.1 + 0.2, np.float32(0.1)
  with RunLog(tmp_path, None) as log:
    log.write('train', 200, epoch=np.int64(1), loss=loss, rate=single, note='ü\n')
  (line,) = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  assert line == (
    '{"event": "train", "step": 200, "epoch": 1, "loss": 0.30000000000000004, '
    '"rate": 0.10000000149011612, "note": "\\u00fc\\n"}'
  )
  (record,) = read_metrics(tmp_path)
  assert record['loss'] == loss
  assert np.float32(record['rate']) == single


@pytest.mark.parametrize('value', [math.nan, math.inf, np.float32('-inf')])
def test_only_a_stop_line_holds_what_is_not_finite(tmp_path, value):
  with RunLog(tmp_path, None) as log:
    with pytest.raises(ValueError, match=r'train of step 7: loss is -?(nan|inf)'):
      log.write('train', 7, loss=value)
    log.write('stop', 7, loss=value)
  assert read_metrics(tmp_path) == [
    {'event': 'stop', 'step': 7, 'loss': str(float(value))}
  ]


def test_wrong_calls_leave_no_trace(tmp_path):
  with RunLog(tmp_path, None) as log:
    log.write('train', 20, loss=1.0)
    with pytest.raises(ValueError, match='train of step 10 follows a line of step 20'):
      log.write('train', 10, loss=1.0)
    with pytest.raises(TypeError, match='must be a number'):
      log.write('train', 30, loss=jnp.ones(()))
    with pytest.raises(ValueError, match='JSON'):
      log.write_timing(30, seconds=math.inf)
  assert len(read_metrics(tmp_path)) == 1
  assert read_timing(tmp_path) == []
  with pytest.raises(ValueError, match='closed'):
    log.write('train', 40, loss=1.0)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_file_cut_at_any_byte_ends_as_the_uninterrupted_one(data):
  with tempfile.TemporaryDirectory() as folder:
    whole = run(folder)
    # A run without a checkpoint (0) starts anew; then every epoch has one.
    size, sizes = 0, {0: 0}
    for line in whole.splitlines(keepends=True):
      size += len(line)
      record = json.loads(line)
      if record['event'] == 'epoch':
        sizes[record['step']] = size
    starts = data.draw(
      st.lists(st.sampled_from(sorted(sizes)), min_size=1, max_size=3).map(sorted)
    )
    for step in starts:  # killed several times, each time after a later checkpoint
      cut = data.draw(st.integers(sizes[step], len(whole)))
      path = Path(folder) / 'metrics.jsonl'
      path.write_bytes(whole[:cut])
      resumed = run(folder, step or None)
      assert resumed == whole


def test_resume_drops_later_lines_the_torn_one_and_stops(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  kept = (
    b'{"event": "train",  "step": 5, "loss": 0.5}\n{"event": "train", "step": 10}\n'
  )
  path.write_bytes(
    kept
    + b'{"event": "stop", "step": 10, "why": "SIGTERM"}\n'
    + b'{"event": "train", "step": 15, "loss": 0.25}\n'
    + b'{"event": "train", "step": 2'
  )
  RunLog(tmp_path, 10).close()
  assert path.read_bytes() == kept
  assert [record['step'] for record in read_metrics(tmp_path)] == [5, 10]


def test_a_torn_line_that_lacks_only_its_end_is_dropped(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_bytes(b'{"event": "train", "step": 5}')
  assert read_metrics(tmp_path) == []
  RunLog(tmp_path, 5).close()
  assert path.read_bytes() == b''


def test_lines_of_the_resumed_step_are_not_doubled(tmp_path):
  with RunLog(tmp_path, None) as log:
    log.write('train', 10, loss=0.5)
    log.write('test', 10, loss=0.25)
  whole = (tmp_path / 'metrics.jsonl').read_bytes()
  (tmp_path / 'metrics.jsonl').write_bytes(whole[:-9])  # the kill tore `test`
  for _ in range(2):
    with RunLog(tmp_path, 10) as log:
      log.write('test', 10, loss=0.25)
    assert (tmp_path / 'metrics.jsonl').read_bytes() == whole


def test_without_a_checkpoint_the_file_starts_anew(tmp_path):
  (tmp_path / 'metrics.jsonl').write_bytes(b'{"event": "train", "step": 5}\nrubbish')
  RunLog(tmp_path, None).close()
  assert (tmp_path / 'metrics.jsonl').read_bytes() == b''


@pytest.mark.parametrize(
  'line', [b'{"event": "tr\x00in"', b'\xff\xfe', b'[1]', b'{"step": 3}', b'']
)
def test_a_damaged_line_is_named(tmp_path, line):
  good = b'{"event": "train", "step": 5}\n'
  data = good + line + b'\n' + good
  (tmp_path / 'metrics.jsonl').write_bytes(data)
  with pytest.raises(InputError, match=r'metrics\.jsonl, line 2: expected') as caught:
    RunLog(tmp_path, 5)
  assert '\n' not in str(caught.value)
  assert (tmp_path / 'metrics.jsonl').read_bytes() == data
  with pytest.raises(InputError, match='line 2'):
    read_metrics(tmp_path)


def test_resume_needs_the_file(tmp_path):
  with pytest.raises(
    InputError, match=r'`workdir` .*cannot read metrics\.jsonl: No su'
  ):
    RunLog(tmp_path, 5)


def test_every_line_survives_sigkill(tmp_path):
  done = subprocess.run([sys.executable, '-c', KILLED, str(tmp_path)])
  assert done.returncode == -signal.SIGKILL
  assert read_metrics(tmp_path) == [{'event': 'train', 'step': 1, 'loss': 0.5}]
  assert read_timing(tmp_path) == [{'step': 1, 'seconds': 2.0}]
  assert scalars(tmp_path) == {('train/loss', 1): 0.5, ('timing/seconds', 1): 2.0}


def test_a_full_disk_is_named_and_leaves_whole_lines(tmp_path, full_disk):
  with RunLog(tmp_path, None) as log:
    log.write('train', 1, loss=0.5)
    size = (tmp_path / 'metrics.jsonl').stat().st_size
    full_disk(size + 10)  # room for ten bytes of the next line
    with pytest.raises(InputError, match=r'`workdir` .*metrics\.jsonl: File too large'):
      log.write('train', 2, loss=0.5)
    full_disk(None)
    assert (tmp_path / 'metrics.jsonl').stat().st_size == size
    log.write('train', 2, loss=0.25)
  assert [record['loss'] for record in read_metrics(tmp_path)] == [0.5, 0.25]


def test_a_full_disk_never_cuts_the_metrics_on_resume(tmp_path, full_disk):
  whole = run(tmp_path)
  full_disk(100)
  with pytest.raises(InputError, match='File too large'):
    RunLog(tmp_path, 45)
  full_disk(None)
  assert (tmp_path / 'metrics.jsonl').read_bytes() == whole
  assert sorted(os.listdir(tmp_path)) == ['metrics.jsonl', 'tb', 'timing.jsonl']


def test_timing_is_appended_past_a_torn_line(tmp_path):
  with RunLog(tmp_path, None) as log:
    log.write_timing(5, seconds=1, sequences_per_second=np.float32(128))
  path = tmp_path / 'timing.jsonl'
  before = path.read_bytes() + b'{"step": 10, "sec'
  path.write_bytes(before)
  with RunLog(tmp_path, 5) as log:
    log.write_timing(10, seconds=2.5)
    log.sync()
  assert path.read_bytes().startswith(before)
  assert read_timing(tmp_path) == [
    {'step': 5, 'seconds': 1.0, 'sequences_per_second': 128.0},
    {'step': 10, 'seconds': 2.5},
  ]


def test_metrics_hold_no_times(tmp_path):
  with RunLog(tmp_path, None) as log:
    log.write_timing(5, seconds=1.0)
  assert (tmp_path / 'metrics.jsonl').read_bytes() == b''


def test_tensorboard_hides_the_steps_that_a_resumed_run_redoes(tmp_path):
  with RunLog(tmp_path, None) as log:
    for step in (10, 20, 30):
      log.write('train', step, epoch=1, loss=step / 8)
  with RunLog(tmp_path, 20) as log:
    log.write('train', 30, epoch=1, loss=7.0)
  # Whole numbers (the epoch) are no curves.
  assert scalars(tmp_path) == {
    ('train/loss', 10): 1.25,
    ('train/loss', 20): 2.5,
    ('train/loss', 30): 7.0,
  }
  assert len(list((tmp_path / 'tb').iterdir())) == 2
  RunLog(tmp_path, None).close()
  assert scalars(tmp_path) == {}


def test_tensorboard_gets_any_step_name_and_number(tmp_path):
  steps = (1, 127, 128, 300, 2**40)
  with RunLog(tmp_path, None) as log:
    for step in steps:
      log.write('epoch', step, loss=step / 3, **{'f1/ü' * 50: -1e300})
  found = scalars(tmp_path)
  for step in steps:
    assert found['epoch/loss', step] == np.float32(step / 3)
    assert found['epoch/' + 'f1/ü' * 50, step] == np.finfo(np.float32).min
  assert len(found) == 2 * len(steps)


def scalars(workdir):
  """{(tag, step): value} as TensorBoard shows them: a start hides later steps."""
  from tensorboardX.crc32c import crc32c
  from tensorboardX.proto import event_pb2

  def check(data):  # the mask of the record format
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF

  shown = {}
  for path in sorted((Path(workdir) / 'tb').iterdir()):
    assert 'tfevents' in path.name
    data, place = path.read_bytes(), 0
    while place < len(data):
      length, length_crc = struct.unpack_from('<QI', data, place)
      assert length_crc == check(data[place : place + 8])
      body = data[place + 12 : place + 12 + length]
      assert struct.unpack_from('<I', data, place + 12 + length) == (check(body),)
      place += 16 + length
      event = event_pb2.Event.FromString(body)
      if event.session_log.status == event_pb2.SessionLog.START:
        shown = {k: v for k, v in shown.items() if k[1] < event.step}
      for value in event.summary.value:
        shown[value.tag, event.step] = value.simple_value
  return shown


@pytest.fixture
def full_disk():
  """Sets the size that no file may pass, as a full disk would; None lifts it."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

  def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft if size is None else size, hard))

  yield limit
  limit(None)
