"""Full disks, wrong folders and wrong values: told in a line, and at once."""

import resource
import sys
import types

import jax
import numpy as np
import pytest
from absl import logging
from saves import assert_restored, files_of, make_state, save_steps, saved_steps

from seqjax.types import InputError
from seqjax.workdir import integrity, storage
from seqjax.workdir.checkpoint import Checkpoints


@pytest.fixture
def full_disk():
  """A limit on the size of a file: real failing writes, below Python and Orbax."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
  yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize('call', ['wait', 'close', 'save', 'restore'])
def test_a_write_that_fails_is_told_by_the_next_call(tmp_path, full_disk, call):
  state = {'x': np.random.default_rng(0).random(50_000)}
  arguments = {'save': (3, state, {}), 'restore': (state,)}.get(call, ())
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, {'x': 1}, {})
    checkpoints.save(2, state, {})
    with pytest.raises(OSError, match='File too large') as caught:
      getattr(checkpoints, call)(*arguments)
    assert str(caught.value) == f'{tmp_path}: step 2 was not saved: File too large'
    assert not list(tmp_path.glob('*.unfinished'))
    full_disk()  # is full no longer
    if call != 'close':
      checkpoints.save(4, {'x': 4}, {})
  with Checkpoints(tmp_path) as checkpoints:
    assert saved_steps(checkpoints) == ([1] if call == 'close' else [1, 4])
    assert checkpoints.restore({'x': 0}).state == {'x': 1 if call == 'close' else 4}


@pytest.mark.parametrize(
  ('error', 'code'),
  [
    (jax.errors.JaxRuntimeError('INTERNAL: Barrier failed: Task 1 heartbeat'), 1),
    (ValueError('No space left on device'), 2),
  ],
)
def test_a_run_may_start_again_where_a_process_was_lost_but_not_on_a_full_disk(
  tmp_path, monkeypatch, error, code
):
  def fail(*_):
    raise error

  checkpoints = Checkpoints(tmp_path)
  monkeypatch.setattr(storage, 'write', fail)
  checkpoints.save(58, {'x': 1}, {})
  with pytest.raises(OSError, match='step 58 was not saved: ') as caught:
    checkpoints.close()
  assert caught.value.exit_code == code


def test_writes_that_end_after_one_that_failed_print_no_traceback(monkeypatch):
  seen = []
  monkeypatch.setattr(sys, 'unraisablehook', seen.append)
  with pytest.raises(ZeroDivisionError), storage._hushed_late_writes():
    raise ZeroDivisionError
  for message in ('Event loop is closed', 'anything else'):
    sys.unraisablehook(types.SimpleNamespace(exc_value=RuntimeError(message)))
  assert [str(one.exc_value) for one in seen] == ['anything else']
  with storage._hushed_late_writes():
    hushed = sys.unraisablehook
  assert sys.unraisablehook is not hushed


def test_the_with_statement_tells_what_failed_first(tmp_path, full_disk):
  state = {'x': np.random.default_rng(0).random(50_000)}
  with (
    pytest.raises(OSError, match='step 7 was not saved'),
    Checkpoints(tmp_path) as checkpoints,
  ):
    checkpoints.save(7, state, {})
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(7, state, {})
  with pytest.raises(ZeroDivisionError), checkpoints:
    raise ZeroDivisionError


def test_a_failing_removal_is_told_and_the_new_step_is_there(tmp_path, monkeypatch):
  save_steps(tmp_path, [1], keep=1)
  with Checkpoints(tmp_path, keep=1) as checkpoints:

    def busy(folder):
      raise OSError(16, 'Device or resource busy', str(folder))

    with monkeypatch.context() as patch:
      patch.setattr(integrity, 'remove', busy)
      checkpoints.save(2, make_state(2), {'step': 2})
      with pytest.raises(OSError, match=r'step 2 was saved, but an older .* busy'):
        checkpoints.wait()
    assert_restored(checkpoints.restore(make_state(0)), 2)


def test_a_folder_that_cannot_be_written_is_refused_by_name(tmp_path):
  (tmp_path / 'file').touch()
  for folder in (tmp_path / 'file', tmp_path / 'file' / 'below'):
    with pytest.raises(InputError, match=f'^{folder}: expected a folder') as caught:
      Checkpoints(folder)
    assert '\n' not in str(caught.value)


def test_what_cannot_be_saved_is_refused_at_once(tmp_path):
  with Checkpoints(tmp_path) as checkpoints:
    with pytest.raises(
      TypeError, match='leaf a/0 must be an array of numbers, got key'
    ):
      checkpoints.save(1, {'a': [jax.random.key(0)]}, {})
    with pytest.raises(TypeError, match='leaf b must be an array of numbers'):
      checkpoints.save(1, {'b': 'text'}, {})
    with pytest.raises(TypeError, match='not JSON serializable'):
      checkpoints.save(1, {'a': 1}, {'loss': np.float32(1)})
    with pytest.raises(ValueError, match='step must be at least 0, got -1'):
      checkpoints.save(-1, {'a': 1}, {})
    checkpoints.wait()
    assert checkpoints.folders() == []
  with pytest.raises(ValueError, match='keep must be at least 1, got 0'):
    Checkpoints(tmp_path, keep=0)


def test_orbax_is_silent_and_a_rejected_step_is_not(tmp_path, full_disk):
  records = []
  verbosity = logging.get_verbosity()
  logger = logging.get_absl_logger()
  before = list(logger.filters)
  handler = type(
    'Keep', (logging.PythonHandler,), {'emit': lambda _, r: records.append(r)}
  )
  logger.addHandler(handler := handler())
  logging.set_verbosity(logging.INFO)
  try:
    with Checkpoints(tmp_path) as checkpoints:
      checkpoints.save(1, make_state(1), {'step': 1})
      checkpoints.restore(make_state(0))
      checkpoints.save(2, {'x': np.random.default_rng(0).random(50_000)}, {})
      with pytest.raises(OSError, match='step 2 was not saved'):
        checkpoints.wait()
      assert records == []
      files_of(tmp_path)[0].unlink()
      assert checkpoints.restore(make_state(0)) is None
  finally:
    logging.set_verbosity(verbosity)
    logger.removeHandler(handler)
  assert [record.levelname for record in records] == ['WARNING']
  assert records[0].getMessage() == (
    f'{tmp_path}/000001-step1: not used for restoring: file manifest.jsonl is missing'
  )
  assert logger.filters == before
