"""Two processes as one run, as the launchers start them."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from seqjax.cluster import processes
from seqjax.config import TrainConfig
from seqjax.types import CommandError, InputError

_ROOT = pathlib.Path(__file__).parents[2]


def test_without_a_cluster_the_error_says_which_flags_to_give():
  # In a process of its own: here JAX has started already.
  code = """
import os
from seqjax.cluster import processes
from seqjax.config import TrainConfig
for value in '0', 'one':
  os.environ['SEQJAX_PROCESS_ID'] = value
  try:
    processes.session(TrainConfig(distributed=True)).__enter__()
  except ValueError as error:
    print(error)
"""
  hidden = ('SLURM', 'OMPI', 'JAX_COORD', 'KUBERNETES')
  environment = {k: v for k, v in _environment().items() if not k.startswith(hidden)}
  done = subprocess.run(
    [sys.executable, '-c', code], env=environment, capture_output=True, text=True
  )
  first, second = done.stdout.splitlines()
  assert first.startswith('`distributed`: coordinator_address should be defined.')
  assert first.endswith(
    'give `coordinator=HOST:PORT`, `num_processes` and `process_id`'
  )
  assert second == "$SEQJAX_PROCESS_ID must be a number, got 'one'"


def test_one_process_waits_for_nobody(tmp_path):
  def refuse():
    raise InputError('no')

  with pytest.raises(InputError, match=r'^no$') as error:
    processes.on_first(refuse)
  assert not error.value.everywhere
  processes.check_same(3, 'the step')
  with pytest.raises(InputError, match=r'`workdir` .* does not see config.json'):
    processes.check_shared(tmp_path / 'config.json')
  with pytest.raises(CommandError), processes.session(TrainConfig()):
    raise CommandError


def _environment(**variables):
  paths = f'{_ROOT}{os.pathsep}{_ROOT / "tests"}'
  return {
    **os.environ,
    'XLA_FLAGS': '',
    'PYTHONPATH': paths,
    'PYTHON': sys.executable,
    'JAX_NUM_CPU_DEVICES': '1',
    'GRACE': '5',
    **variables,
  }


def _both(starts, *, seconds=120):
  """Starts processes of (command, environment); returns (exit code, output) of each."""
  processes = [
    subprocess.Popen(
      command,
      env=environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for command, environment in starts
  ]
  try:
    outputs = [process.communicate(timeout=seconds)[0] for process in processes]
  finally:
    for process in processes:
      process.kill()
  return [(p.returncode, out) for p, out in zip(processes, outputs, strict=True)]


def _free_port():
  with socket.socket() as found:
    found.bind(('', 0))
    return found.getsockname()[1]


def _digest(workdir):
  return json.loads((workdir / 'result.json').read_text())['params_sha256']


_LOCAL = [str(_ROOT / 'launch' / 'local.sh'), '2', 'toy']


@pytest.mark.slow
@pytest.mark.usefixtures('own_programs')
def test_sigterm_to_one_saves_one_step_and_any_number_goes_on(tmp_path):
  whole, cut = tmp_path / 'whole', tmp_path / 'cut'
  sizes = ['num_epochs=20', 'log_every=4', 'save_every=20']
  sizes += ['steps_per_dispatch=2', 'resident=true']
  settings = ['distributed=true', *sizes, 'heartbeat_timeout=20']
  ((code, output),) = _both([([*_LOCAL, str(whole), *settings], _environment())])
  assert code == 0, output
  assert output.count('Results') == 1  # tables come from one process
  job = subprocess.Popen(
    [*_LOCAL, str(cut), *settings],
    env=_environment(),
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  while not (cut / 'metrics.jsonl').exists() or not (cut / 'metrics.jsonl').read_text():
    assert job.poll() is None
    time.sleep(0.02)
  os.kill(_worker(cut, 1), signal.SIGTERM)
  output = job.communicate(timeout=60)[0]
  assert job.returncode == 75, output
  saved = sorted((cut / 'checkpoints').iterdir())[-1].name.partition('-step')[2]
  assert f'SIGTERM: step {saved} of 100 is saved' in output
  ((code, output),) = _both([([*_LOCAL, str(cut), *settings], _environment())])
  assert code == 0, output
  assert f'resumed from step {saved}' in output
  for number in 0, 1:  # both wrote values
    assert list((cut / 'checkpoints').glob(f'*/state/ocdbt.process_{number}/d/*'))
  assert _digest(cut) == _digest(whole)
  assert (cut / 'metrics.jsonl').read_bytes() == (whole / 'metrics.jsonl').read_bytes()
  alone = [sys.executable, '-m', 'toy', str(cut), *sizes, 'num_devices=1']
  ((code, output),) = _both([(alone, _environment())])
  assert code == 0, output
  assert 'resumed from step 100' in output
  assert 'devices_used 2 -> 1' in output
  assert _digest(cut) == _digest(whole)


@pytest.mark.slow
@pytest.mark.usefixtures('own_programs')
def test_an_error_of_one_process_is_said_and_ends_all(tmp_path):
  (tmp_path / 'w').mkdir()
  (tmp_path / 'w' / 'metrics.jsonl').touch()
  command = [*_LOCAL, str(tmp_path / 'w'), 'distributed=true']
  ((code, output),) = _both([(command, _environment())])
  assert code == 2, output
  assert 'config.json is missing' in output
  command = [*_LOCAL, str(tmp_path / 'v'), 'distributed=true', 'num_devices=3']
  ((code, output),) = _both([(command, _environment(JAX_NUM_CPU_DEVICES='2'))])
  assert code == 2, output
  assert '`num_devices=3` must be a multiple of the 2 processes' in output


@pytest.mark.slow
@pytest.mark.usefixtures('own_programs')
@pytest.mark.parametrize('cluster', ['slurm', 'ompi'])
def test_jax_finds_the_other_process_in_the_environment(tmp_path, cluster):
  port = str(_free_port())

  def variables(number):
    if cluster == 'slurm':
      return {
        'SLURM_JOB_ID': '4711',
        'SLURM_STEP_NODELIST': 'localhost',
        'SLURM_NTASKS': '2',
        'SLURM_PROCID': str(number),
        'SLURM_LOCALID': str(number),
        'SLURM_STEP_NUM_NODES': '1',
      }
    return {
      'OMPI_MCA_orte_hnp_uri': '1531576320.0;tcp://127.0.0.1:34911',
      'OMPI_COMM_WORLD_SIZE': '2',
      'OMPI_COMM_WORLD_RANK': str(number),
      'OMPI_COMM_WORLD_LOCAL_RANK': str(number),
    }

  command = [sys.executable, '-m', 'toy', str(tmp_path / 'w')]
  command += ['distributed=true', 'num_steps=3']
  found = _both(
    (command, _environment(JAX_COORDINATOR_PORT=port, **variables(number)))
    for number in range(2)
  )
  assert [code for code, _ in found] == [0, 0], found
  assert '2 x cpu' in found[0][1]


@pytest.mark.slow
@pytest.mark.usefixtures('own_programs')
@pytest.mark.skipif(shutil.which('mpirun') is None, reason='needs Open MPI')
def test_open_mpi_itself(tmp_path):
  root = {'OMPI_ALLOW_RUN_AS_ROOT': '1', 'OMPI_ALLOW_RUN_AS_ROOT_CONFIRM': '1'}
  environment = _environment(
    MPIRUN_FLAGS='--oversubscribe', JAX_COORDINATOR_PORT=str(_free_port()), **root
  )
  command = [str(_ROOT / 'launch' / 'mpi.sh'), '2', 'toy', str(tmp_path / 'w')]
  ((code, output),) = _both([([*command, 'distributed=true'], environment)])
  assert code == 0, output
  config = json.loads((tmp_path / 'w' / 'config.json').read_text())
  assert config['starts'][0]['process_count'] == 2


@pytest.fixture
def two_hosts():
  """Two network namespaces with an address each, as two machines have."""
  names = [f'seqjax{os.getpid()}{side}' for side in 'ab']
  links = [f'sj{os.getpid() % 100_000}{side}' for side in 'ab']

  def ip(*words):
    return subprocess.run(['ip', *words], capture_output=True, text=True).returncode

  if shutil.which('ip') is None or ip('netns', 'add', names[0]):
    pytest.skip('no network namespaces here')
  try:
    ip('netns', 'add', names[1])
    if ip('link', 'add', links[0], 'type', 'veth', 'peer', 'name', links[1]):
      pytest.skip('no virtual network here')
    for number, (name, link) in enumerate(zip(names, links, strict=True), 1):
      assert not ip('link', 'set', link, 'netns', name)
      assert not ip('-n', name, 'addr', 'add', f'10.77.0.{number}/24', 'dev', link)
      assert not ip('-n', name, 'link', 'set', link, 'up')
      assert not ip('-n', name, 'link', 'set', 'lo', 'up')
      # `ip netns exec` puts this in the place of /etc/hosts: gloo asks who it is.
      hosts = pathlib.Path('/etc/netns', name, 'hosts')
      hosts.parent.mkdir(parents=True)
      hosts.write_text(
        f'127.0.0.1 localhost\n10.77.0.{number} {socket.gethostname()}\n'
      )
    yield names
  finally:
    for name in names:
      ip('netns', 'del', name)
      shutil.rmtree(f'/etc/netns/{name}', ignore_errors=True)


@pytest.mark.slow
@pytest.mark.usefixtures('own_programs')
def test_two_hosts_with_an_explicit_coordinator(tmp_path, two_hosts):
  command = [sys.executable, '-m', 'toy', str(tmp_path / 'w'), 'num_steps=3']
  command += ['distributed=true', 'coordinator=10.77.0.1:5555', 'num_processes=2']
  found = _both(
    (['ip', 'netns', 'exec', name, *command, f'process_id={number}'], _environment())
    for number, name in enumerate(two_hosts)
  )
  assert [code for code, _ in found] == [0, 0], found
  assert '2 x cpu' in found[0][1]


def _worker(workdir, number):
  """Process id of one of the two that train in `workdir`."""
  for folder in pathlib.Path('/proc').glob('[0-9]*'):
    try:
      arguments = (folder / 'cmdline').read_bytes().split(b'\0')
      variables = (folder / 'environ').read_bytes().split(b'\0')
    except OSError:
      continue
    mine = str(workdir).encode() in arguments and arguments[0].endswith(b'python')
    if mine and f'SEQJAX_PROCESS_ID={number}'.encode() in variables:
      return int(folder.name)
  raise LookupError(number)
