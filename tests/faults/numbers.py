"""Families 6 and 9: other devices and processes; numbers that are no good."""

import pathlib

import jax
import numpy as np

from faults.jobs import Job, Row, newest, result


def devices(folder: pathlib.Path) -> list[Row]:
  """20 steps without dropout on many kinds of devices, compared with one device."""
  kinds = [(n, 1, 'jit') for n in (1, 2, 4, 8)] + [(n, 1, 'pmap') for n in (2, 8)]
  kinds += [(2, 2, 'jit'), (2, 2, 'pmap')]
  params = {}
  for count, processes, mode in kinds:
    params[count, processes, mode] = _params(folder, count, processes, mode)
  again = _params(folder, 2, 2, 'jit', '-again')
  one = params[1, 1, 'jit']
  differences = {kind: _largest(values, one) for kind, values in params.items()}
  rows = []
  for (count, processes, mode), difference in differences.items():
    where = f'{count} device(s), {processes} process(es), {mode}'
    text = f'largest difference to 1 device {difference:.1e}'
    rows.append(Row(f'20 steps on {where}', 1, text, difference < 1e-5))
  equal = _largest(again, params[2, 2, 'jit']) == 0
  text = 'bit for bit' if equal else 'NOT the same bits'
  rows.append(Row('the same 2 processes once more', 1, text, equal))
  across = _largest(params[2, 2, 'jit'], params[2, 1, 'jit'])
  text = f'largest difference {across:.1e}'
  rows.append(Row('2 processes and 1, both 2 devices', 1, text, across < 1e-5))
  return rows


def bad_numbers(folder: pathlib.Path) -> list[Row]:
  """NaN in the data, a learning rate that explodes, an id out of range."""
  cases = {
    'NaN in the data': ('bad=nan', 'step ', 'loss is nan'),
    'id outside the vocabulary': ('bad=id', 'step ', 'is nan'),
    'learning rate 1e38': ('learning_rate=1e38', 'step ', ' is '),
  }
  rows = []
  for name, (setting, *words) in cases.items():
    workdir = folder / name.replace(' ', '-')
    job = Job(workdir, setting, 'log_every=1', 'save_every=1')
    code = job.wait()
    line = job.text().strip().splitlines()[-1]
    good = code == 3 and all(word in line for word in words)
    if newest(workdir):
      good = good and _finite(workdir)
    step = line.partition('step ')[2].partition(':')[0]
    text = (
      f'exit code {code} at step {step}, cause said; last good save: {newest(workdir)}'
    )
    rows.append(Row(name, 1, text if good else f'FAILED: {line}', good))
  return rows


def _params(
  folder: pathlib.Path, count: int, processes: int, mode: str, suffix: str = ''
) -> dict[str, np.ndarray]:
  workdir = folder / f'{count}-{processes}-{mode}{suffix}'
  settings = [f'num_devices={count}', f'data_parallel={mode}', 'rate=0']
  job = Job(workdir, *settings, processes=processes, devices=count // processes)
  if job.wait():
    raise RuntimeError(job.text())
  if result(workdir)['steps'] != 20:
    raise RuntimeError(f'{workdir}: {result(workdir)["steps"]} steps')
  return _saved(workdir)


def _saved(workdir: pathlib.Path) -> dict[str, np.ndarray]:
  """The newest parameters in a workdir, by path."""
  import toy

  from seqjax.training import optim
  from seqjax.training.state import init_state
  from seqjax.workdir import leaves
  from seqjax.workdir.checkpoint import Checkpoints

  tx = optim.make_optimizer('rmsprop', 0.01)
  template = init_state(toy.model(), tx, jax.random.key(0), toy.examples().x[:32])
  with Checkpoints(workdir / 'checkpoints') as checkpoints:
    restored = checkpoints.restore(template)
  if restored is None:
    raise RuntimeError(f'{workdir}: nothing saved')
  return leaves.fetch(restored.state.params)


def _largest(params: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
  return max(float(np.max(np.abs(params[path] - other[path]))) for path in other)


def _finite(workdir: pathlib.Path) -> bool:
  return all(np.isfinite(value).all() for value in _saved(workdir).values())
