"""workdir.py: one run at a time, one config, whole files."""

import json
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from seqjax import workdir
from seqjax.types import InputError
from seqjax.workdir import folder as folder_lib

CONFIG = {'features': 32, 'learning_rate': 1e-3, 'seed': 0, 'layers': (32, 16)}

HOLDER = """
import sys
from seqjax import workdir
with workdir.lock(sys.argv[1]):
  print('held', flush=True)
  sys.stdin.read()
"""


def hold(path):
  with workdir.lock(path):
    assert (
      path / '.lock'
    ).read_text() == f'pid {os.getpid()} on {socket.gethostname()}'


@pytest.fixture
def holder(tmp_path):
  """Another process that holds the lock of tmp_path."""
  command = [sys.executable, '-c', HOLDER, str(tmp_path)]
  with subprocess.Popen(
    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
  ) as process:
    assert process.stdout.readline() == 'held\n'
    yield process
    process.kill()


def test_a_second_run_is_refused_until_the_first_dies(tmp_path, holder):
  who = f'pid {holder.pid} on {socket.gethostname()}'
  with pytest.raises(InputError, match=f'`workdir` .* is in use by {who}'):
    hold(tmp_path)
  holder.kill()
  holder.wait()
  hold(tmp_path)


def test_the_lock_is_free_after_an_error_inside(tmp_path):
  def fail_inside():
    with workdir.lock(tmp_path):
      with pytest.raises(InputError, match=f'pid {os.getpid()} '):
        hold(tmp_path)
      raise KeyError

  with pytest.raises(KeyError):
    fail_inside()
  hold(tmp_path)


def test_the_lock_forgets_who_was_killed(tmp_path):
  (tmp_path / '.lock').write_text('pid 1234567 on a machine with a very long name' * 3)
  hold(tmp_path)


def test_the_lock_makes_the_folder(tmp_path):
  with workdir.lock(tmp_path / 'a' / 'b'):
    assert (tmp_path / 'a' / 'b').is_dir()


def test_a_workdir_that_is_no_folder_is_named(tmp_path):
  file = tmp_path / 'file'
  file.touch()
  cases = [
    (file, 'is a file'),
    (file / 'below', 'Not a directory'),
    (tmp_path / ('x' * 300), 'File name too long'),
    ('', '`workdir` is empty'),
  ]
  for path, message in cases:
    with pytest.raises(InputError, match=message), workdir.lock(path):
      pass


@pytest.mark.skipif(not os.path.isdir('/proc/self'), reason='needs /proc')
def test_an_unwritable_workdir_is_named():
  # Not even root makes folders or files here.
  for path in ('/proc/self/run', '/proc/self'):
    with pytest.raises(InputError, match=f'`workdir` {path}: cannot write .lock: '):
      hold(Path(path))


def test_config_is_written_once_and_starts_are_counted(tmp_path):
  assert not workdir.start_config(tmp_path, CONFIG, {'jax': '1'})
  assert workdir.start_config(tmp_path, CONFIG, {'jax': '2'})
  changed = {**CONFIG, 'data_dir': '/b'}
  assert workdir.start_config(tmp_path, changed, {'jax': '3'}, {'data_dir'})
  assert json.loads((tmp_path / 'config.json').read_text()) == {
    'config': {**CONFIG, 'layers': [32, 16]},
    'starts': [{'jax': '1'}, {'jax': '2'}, {'jax': '3', 'config': {'data_dir': '/b'}}],
  }


def test_another_config_is_refused_with_what_differs(tmp_path):
  workdir.write_config(tmp_path, CONFIG, {})
  before = (tmp_path / 'config.json').read_bytes()
  other = {'features': 64, 'learning_rate': 1e-3, 'layers': (32, 16), 'name': 'a'}
  with pytest.raises(InputError) as caught:
    workdir.start_config(tmp_path, other, {}, ignore={'learning_rate'})
  assert str(caught.value) == (
    f'the run in {tmp_path} was started with another config: features 32 -> 64, '
    f'seed 0 -> (none), name (none) -> "a"; use another `workdir`'
  )
  assert (tmp_path / 'config.json').read_bytes() == before


def test_ignored_fields_may_differ(tmp_path):
  workdir.write_config(tmp_path, CONFIG, {})
  other = {**CONFIG, 'seed': 1, 'features': np.int64(32)}
  assert workdir.check_config(tmp_path, other, ignore={'seed'}) == {'seed': 1}


@pytest.mark.parametrize(
  'data', [b'', b'{"config": {', b'[]', b'{"config": {}}', b'\xff']
)
def test_a_damaged_config_is_named(tmp_path, data):
  (tmp_path / 'config.json').write_bytes(data)
  with pytest.raises(InputError, match=r'config\.json is damaged'):
    workdir.start_config(tmp_path, CONFIG, {})


def test_a_folder_of_many_seeds_is_no_run(tmp_path):
  one = tmp_path / 'seeds' / '7'
  one.mkdir(parents=True)
  for folder in (tmp_path, one):
    workdir.write_config(folder, CONFIG, {})
  assert workdir.settings(one).keys() == CONFIG.keys()
  with pytest.raises(InputError, match=r'of many seeds: name one .* such as .*/7'):
    workdir.settings(tmp_path)


def test_a_missing_config_is_named_where_a_run_was(tmp_path):
  (tmp_path / 'metrics.jsonl').touch()
  with pytest.raises(InputError, match=r'config\.json is missing, but metrics\.jsonl'):
    workdir.start_config(tmp_path, CONFIG, {})
  with pytest.raises(
    InputError, match=r'`workdir` .*cannot read config\.json: No such'
  ):
    workdir.check_config(tmp_path, CONFIG)


def test_a_result_keeps_its_keys_and_the_old_one_if_the_new_fails(tmp_path):
  result = {'test': {'loss': np.float32(0.5)}, 'best_epoch': None, 'steps': 3}
  workdir.write_result(tmp_path, result)
  path = tmp_path / 'result.json'
  whole = path.read_bytes()
  assert list(json.loads(whole).items()) == list(result.items())
  with pytest.raises(ValueError, match='JSON'):
    workdir.write_result(tmp_path, {'loss': float('nan')})
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))  # as a full disk
  try:
    with pytest.raises(InputError, match=r'`workdir` .*cannot write result\.json: '):
      workdir.write_result(tmp_path, {**result, 'seconds': 1.0})
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert path.read_bytes() == whole
  assert os.listdir(tmp_path) == ['result.json']


def test_environment_is_json_and_knows_the_devices():
  record = workdir.environment()
  assert json.loads(workdir.to_json(record)) == record
  assert record['device_count'] == 8
  assert record['process_count'] == 1
  assert record['numpy'] == np.__version__
  assert record['python'] == '.'.join(map(str, sys.version_info[:3]))
  assert record['cpu_cores'] >= 1


def test_commit_of_a_clean_a_changed_and_a_foreign_tree(tmp_path, monkeypatch):
  source, foreign = tmp_path / 'source', tmp_path / 'foreign'
  source.mkdir()
  foreign.mkdir()
  name = Path(folder_lib.__file__).name

  def git(*arguments, folder=source):
    identity = ['-c', 'user.name=a', '-c', 'user.email=a@b', '-c', 'commit.gpgsign=no']
    command = ['git', '-C', str(folder), *identity, *arguments]
    return subprocess.run(
      command, check=True, capture_output=True, text=True
    ).stdout.strip()

  git('init', '-q')
  (source / name).write_text('1')
  assert folder_lib._commit(source) is None  # no commit yet
  git('add', name)
  git('commit', '-q', '-m', 'x')
  head = git('rev-parse', 'HEAD')
  assert folder_lib._commit(source) == head
  (source / 'installed').mkdir()
  (source / 'installed' / name).touch()
  assert folder_lib._commit(source / 'installed') is None  # as below .venv
  monkeypatch.setenv('GIT_DIR', str(foreign))
  assert folder_lib._commit(source) == head
  (source / name).write_text('2')
  assert folder_lib._commit(source) == f'{head}+dirty'
  assert folder_lib._commit(foreign) is None
  monkeypatch.setenv('PATH', '')
  assert folder_lib._commit(source) is None  # no git
