"""Claim: steps of jena_gru spend under 5 % of their time outside the device.

python -m benchmarks.host_share [--steps=25] [--repeats=80]

The loop as `loop.train` has it (row numbers of a batch drawn and sent, the step, a look
at the sums every 20 steps) against the same compiled step on batches that lie on the
device already, without fetching anything: what that takes is the device's. The
two take turns in blocks, so that other work on the machine meets both; the share is the
median over the pairs of blocks. Beside it stands the CPU time of the thread that feeds
the device, which no other work disturbs. Generated series, the chapter's setting.
"""

import argparse
import json
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax

from benchmarks import report
from experiments import jena_gru, weather
from seqjax.cluster import mesh as mesh_lib
from seqjax.data.series.windows import RandomWindows
from seqjax.training import losses, optim, steps
from seqjax.training.state import init_state
from seqjax.workdir.progress import Pending

_LOOK = 20  # steps, the default of --log_every
_RESULT = pathlib.Path(__file__).parent / 'results' / 'host_share.json'


def main() -> None:
  """Measures, prints and writes the share."""
  parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
  parser.add_argument('--steps', type=int, default=25, help='in each block')
  parser.add_argument('--repeats', type=int, default=80, help='blocks of each kind')
  args = parser.parse_args()
  about = report.machine()
  whole, device = _runners()
  whole(_LOOK)
  device(_LOOK)
  seconds: dict[str, list[float]] = {'loop': [], 'device': []}
  host = []  # CPU seconds of this thread a step
  runners = [('device', device), ('loop', whole)]
  for _ in range(args.repeats):
    runners.reverse()  # whatever it costs to come second, both pay it
    for name, run in runners:
      start, cpu_start = time.perf_counter(), time.thread_time()
      run(args.steps)
      seconds[name].append(time.perf_counter() - start)
      if name == 'loop':
        host.append((time.thread_time() - cpu_start) / args.steps)
  per_step = {
    name: statistics.median(values) / args.steps for name, values in seconds.items()
  }
  shares = [1 - d / w for d, w in zip(seconds['device'], seconds['loop'], strict=True)]
  record: dict[str, Any] = {
    'machine': about,
    'steps': args.steps * args.repeats,
    'seconds_per_step': per_step,
    'thread_cpu_per_step': statistics.median(host),
    'share_outside': statistics.median(shares),
    'shares': shares,
  }
  whole.write(_RESULT, json.dumps(record, indent=1).encode() + b'\n')
  print(json.dumps(record, indent=1))


def _runners() -> tuple[Callable[[int], None], Callable[[int], None]]:
  """(the loop, the device's part of it), each called with a number of steps."""
  config = jena_gru.Config(dataset='synthetic', synthetic_rows=50_000)
  data = weather.load(config)
  mesh = mesh_lib.make_mesh(config.num_devices, config.batch_size)
  tx = optim.make_optimizer(config.optimizer, config.learning_rate)
  model = jena_gru.make_model(config)
  feed = RandomWindows(data.train, config.batch_size, 0, 500)
  whole = mesh_lib.replicated(mesh)
  resident = feed.resident
  series = jax.device_put(resident.arrays, whole)
  resident = resident._replace(arrays=series)
  step = steps.make_train_step(model, losses.absolute_error, {}, tx, mesh, resident)
  key = jax.random.key(0)
  x = jax.jit(resident.gather)(series, feed.batch(0)).x
  state = jax.device_put(init_state(model, tx, key, x), whole)
  done = 0

  def loop(count: int) -> None:
    nonlocal state, done
    pending = Pending()
    rest = (range(step, step + 1) for step in range(done, done + count))
    batches = mesh_lib.put_batches(feed, rest, mesh, per_device=False)
    for _ in range(count):
      pending.begin()
      state, sums = step(state, next(batches), key)
      pending.add(sums)
      if mesh_lib.shares_threads(mesh):
        pending.wait_for_last_but_one()
      done += 1
      if done % _LOOK == 0:
        pending.fetch()
    jax.block_until_ready(state)

  placed = [mesh_lib.put_batch(feed.batch(i), mesh) for i in range(_LOOK)]

  def device(count: int) -> None:
    nonlocal state
    for index in range(count):
      state, _ = step(state, placed[index % len(placed)], key)
      # With more than 32 steps under way, two CPU devices wait for each other's
      # gradients with all the threads there are.
      if (index + 1) % _LOOK == 0:
        jax.block_until_ready(state)
    jax.block_until_ready(state)

  return loop, device


if __name__ == '__main__':
  main()
