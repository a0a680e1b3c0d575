"""launch/: each script with stand-ins for the programs that it calls."""

import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest
import yaml

_LAUNCH = pathlib.Path(__file__).parents[2] / 'launch'
_SCRIPTS = sorted([*_LAUNCH.glob('*.sh'), _LAUNCH / 'slurm.sbatch'])


def _program(folder, name, code):
  path = folder / name
  path.write_text(f'#!/usr/bin/env bash\n{code}\n')
  path.chmod(0o755)
  return str(path)


def _start(script, *arguments, path=None, **variables):
  environment = {**os.environ, **variables}
  if path is not None:
    environment['PATH'] = f'{path}{os.pathsep}{environment["PATH"]}'
  return subprocess.Popen(
    [str(_LAUNCH / script), *map(str, arguments)],
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def _run(*arguments, **variables):
  process = _start(*arguments, **variables)
  out, err = process.communicate(timeout=60)
  return process.returncode, out, err


def _wait_for(path):
  while not path.exists():
    time.sleep(0.01)


@pytest.mark.parametrize('path', _SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_and_a_usage_line(path):
  code, out, err = _run(path.name)
  assert (code, out) == (2, '')
  assert err.startswith('usage: ')
  if shutil.which('shellcheck') is None:
    pytest.skip('shellcheck is not installed')
  done = subprocess.run(['shellcheck', path], capture_output=True, text=True)
  assert done.returncode == 0, done.stdout


def test_local_gives_each_process_its_number(tmp_path):
  show = 'echo "$SEQJAX_PROCESS_ID/$SEQJAX_NUM_PROCESSES $JAX_COORDINATOR_ADDRESS $*"'
  python = _program(tmp_path, 'python', show)
  code, out, _ = _run('local.sh', 3, 'some.module', '--flag=a b', PYTHON=python)
  assert code == 0
  lines = sorted(line.split(' ', 2) for line in out.splitlines())
  assert [line[0] for line in lines] == ['0/3', '1/3', '2/3']
  assert len({line[1] for line in lines}) == 1
  assert {line[2] for line in lines} == {'-m some.module --flag=a b'}


def test_local_ends_all_after_the_first_failure(tmp_path):
  code = 'trap "" TERM; [[ $SEQJAX_PROCESS_ID == 1 ]] && exit 75; exec sleep 60'
  python = _program(tmp_path, 'python', code)
  start = time.monotonic()
  assert _run('local.sh', 2, 'm', PYTHON=python, GRACE='1')[0] == 75
  assert time.monotonic() - start < 10


def test_local_passes_a_signal_to_all_and_has_their_exit_code(tmp_path):
  code = f"""trap "echo got >> {tmp_path}/got; exit 75" TERM
touch "{tmp_path}/ready$SEQJAX_PROCESS_ID"; while true; do sleep 0.05; done"""
  process = _start('local.sh', 2, 'm', PYTHON=_program(tmp_path, 'python', code))
  for number in range(2):
    _wait_for(tmp_path / f'ready{number}')
  process.terminate()
  process.communicate(timeout=20)
  assert process.returncode == 75
  assert (tmp_path / 'got').read_text() == 'got\ngot\n'


@pytest.mark.parametrize('final', [0, 2, 3, 130])
def test_supervise_starts_again_until_a_final_exit_code(tmp_path, final):
  count = f'echo x >> {tmp_path}/starts; (($(wc -l < {tmp_path}/starts) < 3)) && exit 9'
  command = _program(tmp_path, 'job', f'{count}; exit {final}')
  code, _, err = _run('supervise.sh', command, PAUSE='0.01')
  assert code == final
  assert (tmp_path / 'starts').read_text() == 'x\n' * 3
  assert err.count('exit code 9; starting again') == 2


def test_supervise_gives_up_after_too_many_failures_in_too_short_a_time(tmp_path):
  command = _program(tmp_path, 'job', f'echo x >> {tmp_path}/starts; exit 124')
  code, _, err = _run('supervise.sh', command, PAUSE='0.01', MAX_FAILURES='4')
  assert code == 124
  assert (tmp_path / 'starts').read_text() == 'x\n' * 4
  assert '4 failures within 3600 s, giving up' in err


@pytest.mark.slow
def test_supervise_forgets_failures_that_are_long_ago(tmp_path):
  count = f'echo x >> {tmp_path}/starts; (($(wc -l < {tmp_path}/starts) > 3)) && exit 0'
  command = _program(tmp_path, 'job', f'{count}; exit 1')
  settings = {'PAUSE': '1.1', 'MAX_FAILURES': '2', 'WINDOW': '1'}
  assert _run('supervise.sh', command, **settings)[0] == 0


def test_supervise_passes_sigterm_on_and_does_not_start_again(tmp_path):
  job = f"""trap "sleep 0.3; exit 75" TERM
echo x >> {tmp_path}/starts; touch {tmp_path}/ready; while true; do sleep 0.05; done"""
  process = _start('supervise.sh', _program(tmp_path, 'job', job), PAUSE='0.01')
  _wait_for(tmp_path / 'ready')
  process.send_signal(signal.SIGTERM)
  process.communicate(timeout=20)
  assert process.returncode == 75
  assert (tmp_path / 'starts').read_text() == 'x\n'


@pytest.mark.parametrize(
  ('status', 'restarts', 'requeued'),
  [(0, 0, False), (2, 0, False), (75, 0, True), (124, 3, True), (75, 50, False)],
)
def test_slurm_goes_back_into_the_queue_when_that_helps(
  tmp_path, status, restarts, requeued
):
  _program(tmp_path, 'srun', f'echo "srun $*"; exit {status}')
  _program(tmp_path, 'scontrol', 'echo "scontrol $*"')
  variables = {'SLURM_JOB_ID': '77', 'SLURM_RESTART_COUNT': str(restarts)}
  code, out, _ = _run(
    'slurm.sbatch', 'some.module', '--x=1', path=tmp_path, **variables
  )
  assert out.splitlines()[0].endswith('.venv/bin/python -m some.module --x=1')
  assert ('scontrol requeue 77' in out) == requeued
  assert code == (0 if requeued else status)


def test_slurm_hands_the_signal_before_the_limit_to_the_step(tmp_path):
  srun = f'trap "exit 75" TERM; touch {tmp_path}/ready; while true; do sleep 0.05; done'
  _program(tmp_path, 'srun', srun)
  _program(tmp_path, 'scontrol', 'echo "scontrol $*"')
  process = _start('slurm.sbatch', 'm', path=tmp_path, SLURM_JOB_ID='7')
  _wait_for(tmp_path / 'ready')
  process.terminate()
  assert 'scontrol requeue 7' in process.communicate(timeout=20)[0]


def test_mpi_and_tpu_call_what_starts_all_workers(tmp_path):
  for name in ('mpirun', 'gcloud'):
    _program(tmp_path, name, 'printf "%s|" "$@"')
  settings = {'path': tmp_path, 'PYTHON': 'py', 'MPIRUN_FLAGS': '--hostfile h'}
  code, out, _ = _run('mpi.sh', 4, 'm', '--x=a b', **settings)
  assert (code, out) == (0, '-np|4|--hostfile|h|-x|PATH|py|-m|m|--x=a b|')
  settings = {'path': tmp_path, 'PYTHON': 'py', 'TPU_NAME': 't', 'ZONE': 'z'}
  code, out, _ = _run('tpu_vm.sh', 'm', "--x=a b'", **settings)
  assert code == 0
  command = out.split('|')[-2].removeprefix('--command=')
  assert '--worker=all' in out
  assert command.startswith('cd seqjax && exec py -m m ')
  words = subprocess.run(
    ['bash', '-c', f'printf "%s|" {command.partition(" exec ")[2]}'],
    capture_output=True,
    text=True,
  ).stdout
  assert words == "py|-m|m|--x=a b'|"


def test_the_jobset_fits_what_jax_and_the_exit_codes_ask_for():
  text = (_LAUNCH / 'gke-jobset.yaml').read_text()
  account, role, binding, jobset = yaml.safe_load_all(text)
  kinds = [part['kind'] for part in (account, role, binding, jobset)]
  assert kinds == ['ServiceAccount', 'Role', 'RoleBinding', 'JobSet']
  allowed = {r: set(rule['verbs']) for rule in role['rules'] for r in rule['resources']}
  assert allowed == {key: {'get', 'list'} for key in ('pods', 'services', 'jobs')}
  assert binding['roleRef']['name'] == role['metadata']['name']
  assert binding['subjects'][0]['name'] == account['metadata']['name']
  assert jobset['apiVersion'] == 'jobset.x-k8s.io/v1alpha2'
  (workers,) = jobset['spec']['replicatedJobs']
  job = workers['template']['spec']
  assert job['completionMode'] == 'Indexed'
  assert job['parallelism'] == job['completions'] > 1
  assert job['backoffLimit'] == 0  # one pod alone cannot come back: all start again
  assert jobset['spec']['failurePolicy']['maxRestarts'] > 0
  (rule,) = job['podFailurePolicy']['rules']
  assert rule['onExitCodes']['values'] == [2, 3]
  pod = job['template']['spec']
  assert pod['restartPolicy'] == 'Never'
  assert pod['serviceAccountName'] == account['metadata']['name']
  (container,) = pod['containers']
  assert rule['onExitCodes']['containerName'] == container['name']
  assert '--distributed' in container['args']
  volumes = {volume['name'] for volume in pod['volumes']}
  assert {mount['name'] for mount in container['volumeMounts']} == volumes
