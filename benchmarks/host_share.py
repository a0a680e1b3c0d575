"""Claims: jena_gru is outside of the device 3 % of its time, a tiny step 0.05 ms.

python -m benchmarks.host_share [--repeats=30] [--only=jena_gru]

`loop.train`, in memory, an epoch at a time; between two epochs the same compiled steps
run on batches that lie on the device already, without fetching anything: what those
take is the device's. So other work on the machine meets both; the share is the median
over the pairs. Beside it stands the CPU time of the thread that feeds the device, which
no other work disturbs. jena_gru has generated series and the chapter's setting; tiny is
a recurrence of a tenth of a millisecond a step, its examples on the device, 50 steps a
dispatch and one.
"""

import argparse
import dataclasses
import functools
import json
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import seqjax as sj
from benchmarks import report
from experiments import jena_gru, weather
from seqjax import loop
from seqjax.cluster import mesh as mesh_lib
from seqjax.cluster import signals
from seqjax.config import TrainConfig
from seqjax.data.batches import Shuffled
from seqjax.data.series.batches import RandomWindows
from seqjax.files import whole
from seqjax.training import losses
from seqjax.training.plan import Data, Task, make_plan
from seqjax.training.programs import Programs
from seqjax.training.state import init_state
from seqjax.types import Examples
from seqjax.workdir.record import InMemory

_RESULT = pathlib.Path(__file__).parent / 'results' / 'host_share.json'
_PLACED = 4  # dispatches that lie on the device, for its own part


def main() -> None:
  """Measures, prints and writes the shares."""
  parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
  parser.add_argument('--repeats', type=int, default=30, help='epochs of each kind')
  parser.add_argument('--only', choices=_ROWS, help='one row, which is not written')
  args = parser.parse_args()
  record: dict[str, Any] = {'machine': report.machine()}
  for name, row in _ROWS.items():
    if args.only in (None, name):
      record[name] = _measure(*row(), args.repeats)
      print(name, json.dumps(record[name], indent=1))
  if args.only is None:
    whole.write(_RESULT, json.dumps(record, indent=1).encode() + b'\n')


def _jena_gru() -> tuple[TrainConfig, Task, Data]:
  config = jena_gru.Config(dataset='synthetic', synthetic_rows=50_000)
  data = weather.load(config)
  feed = RandomWindows(data.train, config.batch_size, 0, 100)
  return config, Task(jena_gru.make_model(config), losses.absolute_error), Data(feed)


def _tiny(together: int) -> tuple[TrainConfig, Task, Data]:
  N, T, D, B = 32_000, 32, 4, 32
  x = np.random.default_rng(0).standard_normal((N, T, D)).astype(np.float32)
  config = TrainConfig(
    batch_size=B,
    log_every=50,
    steps_per_dispatch=together,
    resident=True,
  )
  task = Task(sj.SequenceRegressor(sj.SimpleRNN(16)), losses.absolute_error)
  return config, task, Data(Shuffled(Examples(x, x[:, 0, 0]), B, 0))


_ROWS: dict[str, Callable[[], tuple[TrainConfig, Task, Data]]] = {
  'jena_gru': _jena_gru,
  'tiny, 50 steps a dispatch': functools.partial(_tiny, 50),
  'tiny, 1 step a dispatch': functools.partial(_tiny, 1),
}


def _measure(
  config: TrainConfig, task: Task, data: Data, repeats: int
) -> dict[str, Any]:
  """Seconds of a step in the loop and on the device, over pairs of epochs."""
  config = dataclasses.replace(config, num_epochs=repeats + 1)
  device, count = _device(config, task, data), data.feed.steps_per_epoch
  seconds: dict[str, list[float]] = {'loop': [], 'device': []}
  host, start = [], (0.0, 0.0)

  def on_epoch(values: Any, params: Any) -> None:
    nonlocal start
    if values['epoch'] > 1:  # the first one compiles
      seconds['loop'].append(time.perf_counter() - start[0])
      host.append((time.thread_time() - start[1]) / count)
      before = time.perf_counter()
      device(count)
      seconds['device'].append(time.perf_counter() - before)
    start = time.perf_counter(), time.thread_time()

  loop.train(
    task,
    data,
    make_plan(config, data.feed, on_epoch=on_epoch),
    InMemory(),
    loop.Show('host_share', log_every=config.log_every, save_every=None, quiet=True),
    signals.Stop(),
  )
  shares = [1 - d / w for d, w in zip(seconds['device'], seconds['loop'], strict=True)]
  return {
    'steps': count * repeats,
    'seconds_per_step': {
      name: statistics.median(values) / count for name, values in seconds.items()
    },
    'thread_cpu_per_step': statistics.median(host),
    'share_outside': statistics.median(shares),
    'shares': shares,
  }


def _device(config: TrainConfig, task: Task, data: Data) -> Callable[[int], None]:
  """The device's part of the loop, to be called with a number of steps."""
  mesh = mesh_lib.make_mesh(config.num_devices, config.batch_size)
  plan = make_plan(config, data.feed)
  programs = Programs(task, data, plan, mesh, config.log_every)
  K, key = programs.together, jax.random.key(0)
  state = init_state(task.model, programs.tx, key, programs.x)
  state = mesh_lib.replicate(state, mesh)
  dispatches = [range(K * i, K * (i + 1)) for i in range(_PLACED)]
  made = mesh_lib.put_batches(programs.feed, dispatches, mesh, per_device=False)
  placed = jax.device_put(list(made))

  def run(count: int) -> None:
    nonlocal state
    for index in range(count // K):
      state, _ = programs.train_steps[K](state, placed[index % _PLACED], key)
      # With more than 32 programs under way, two CPU devices wait for each other's
      # gradients with all the threads there are.
      if index % 20 == 19:
        jax.block_until_ready(state)
    jax.block_until_ready(state)

  run(K)
  return run


if __name__ == '__main__':
  main()
