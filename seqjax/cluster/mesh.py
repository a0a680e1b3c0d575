"""Devices: which ones share a batch, and how arrays lie on them.

>>> from seqjax.cluster import mesh as mesh_lib
>>> mesh = mesh_lib.make_mesh(num_devices=1, batch_size=32)
>>> rows = mesh_lib.put_batch(np.ones((32, 5, 3)), mesh)
>>> step = jax.jit(jnp.mean, in_shardings=mesh_lib.split(mesh))
>>> float(step(rows))
1.0
"""

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from seqjax.data.batches import Feed
from seqjax.types import BATCH_AXIS, InputError, PyTree

_AHEAD = 20  # batches made at a time,
_AHEAD_SECONDS = 0.1  # fewer where these are over: a step does not wait long for them


def make_mesh(num_devices: int | None, batch_size: int, parts: int = 1) -> Mesh:
  """A mesh with one axis, `BATCH_AXIS`, over the devices that share a batch.

  A CPU is one device, whose kernels use all cores; asked for several, a host without
  accelerator shows its cores as such. JAX fixes the number of its devices at first use;
  once it has, this takes what there is. Several processes have the same number each.

  Args:
    num_devices: How many over all processes; None: all accelerators, or one CPU a
      process.
    batch_size: Rows of a global batch.
    parts: Into how many parts, one after the other, each device cuts its rows.

  Raises:
    InputError: if there are not so many devices, or they do not divide the batch.
  """
  chosen = _choose(num_devices)
  check_divides(batch_size, len(chosen), parts)
  return _mesh(chosen)


def make_meshes(
  number: int, num_devices: int | None, batch_size: int, parts: int = 1
) -> list[Mesh]:
  """As `make_mesh`, for so many models at once: each device by itself, or all as one.

  With a model or more for each device nothing has to be added up over devices, and the
  rows that a recurrent kernel works on together are not cut.
  """
  chosen = _choose(num_devices)
  if len(chosen) > 1 and number >= len(chosen):
    check_divides(batch_size, 1, parts)
    return [_mesh([device]) for device in chosen]
  return [make_mesh(num_devices, batch_size, parts)]


def _choose(num_devices: int | None) -> list[jax.Device]:
  """The devices, as many in each process."""
  lend_cpu_cores(num_devices)
  devices, processes = jax.devices(), jax.process_count()
  if num_devices is None:
    num_devices = processes if devices[0].platform == 'cpu' else len(devices)
  if num_devices > len(devices):
    raise InputError(
      f'`num_devices={num_devices}`, but JAX has {len(devices)} '
      f'{devices[0].platform} devices'
    )
  if num_devices % processes:
    raise InputError(
      f'`num_devices={num_devices}` must be a multiple of the {processes} processes'
    )
  return [
    device
    for process in range(processes)
    for device in jax.local_devices(process)[: num_devices // processes]
  ]


def _mesh(devices: Sequence[jax.Device]) -> Mesh:
  return jax.make_mesh(
    (len(devices),), (BATCH_AXIS,), (AxisType.Auto,), devices=devices
  )


def check_divides(batch_size: int, num_devices: int, parts: int = 1) -> None:
  """Raises InputError, with the sizes that fit, unless the devices divide the batch."""
  unit = num_devices * parts
  if batch_size % unit:
    below = batch_size // unit * unit
    sizes = [size for size in (below, below + unit) if size]
    by = f'{num_devices} devices'
    if parts > 1:
      by += f' times `accumulate_steps={parts}`'
    raise InputError(
      f'`batch_size={batch_size}` does not divide by {by}; '
      f'{" or ".join(map(str, sizes))} would'
    )


def compiler_options(mesh: Mesh) -> None:
  """None, for jax.jit: steps need no options any more. Kept for programs that ask."""
  del mesh


def replicated(mesh: Mesh) -> NamedSharding:
  """The whole array on every device."""
  return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh, axis: int = 0) -> NamedSharding:
  """The batch, `axis`, cut over the devices."""
  return NamedSharding(mesh, PartitionSpec(*[None] * axis, BATCH_AXIS))


def is_cpu(mesh: Mesh) -> bool:
  """Whether its devices are CPUs."""
  return bool(mesh.devices.flat[0].platform == 'cpu')


def takes_numpy(mesh: Mesh) -> bool:
  """Whether its jitted programs take arrays of NumPy as they are: those of one CPU.

  That is 0.01 ms a call, on a core where `device_put` of a batch takes 0.3.
  """
  return mesh.size == 1 and is_cpu(mesh)


def free_bytes(mesh: Mesh) -> int | None:
  """Memory left on the fullest of this process's devices; None where none tells."""
  stats = [device.memory_stats() for device in mesh.local_devices]
  free = [s['bytes_limit'] - s['bytes_in_use'] for s in stats if s]
  return min(free) if len(free) == len(stats) else None


def shares_threads(mesh: Mesh) -> bool:
  """Whether the devices of a mesh are cores of one host, several of them.

  XLA runs their programs in one pool of threads. Of many programs under way at once,
  those of one device can take all threads and wait in a sum over the devices for one
  that gets none: XLA ends the process after 40 s. Few programs may be under way there.
  """
  return mesh.size > 1 and is_cpu(mesh)


def on_mesh(mesh: Mesh) -> contextlib.AbstractContextManager:
  """Within a jitted function: recurrent layers run each device's rows on it alone."""
  return jax.sharding.use_abstract_mesh(mesh.abstract_mesh)


on = on_mesh  # its name of old, that the documents of the fast path gave


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
  """Arrays that all processes have alike -> whole ones on every device."""
  sharding = replicated(mesh)
  if not mesh.is_multi_process:
    return jax.device_put(tree, sharding)

  def put(value: Any) -> jax.Array:
    value = np.asarray(value)
    # Copies: the next step will be given the memory of each.
    return jax.make_array_from_callback(
      value.shape, sharding, lambda index: np.array(value[index])
    )

  return jax.tree.map(put, tree)


def put_batch(
  batch: PyTree, mesh: Mesh, parts: int = 1, *, per_device: bool = False
) -> PyTree:
  """Host arrays [B, ...] -> global arrays, cut over the n devices; n k must divide B.

  Every process is given the whole batch and keeps the rows of its devices, so the order
  of the data does not depend on their number.

  Args:
    batch: The global batch, alike in all processes.
    mesh: The n devices.
    parts: k; with k > 1 part i holds the rows i B/k to (i + 1) B/k.
    per_device: Whether a device's rows have an axis of their own, as pmap wants them.

  Returns:
    [B, ...] or [k, B/k, ...]; `per_device` [n, B/n, ...] or [n, k, B/n/k, ...].
  """
  sharding = split(mesh, 0 if parts == 1 or per_device else 1)
  return _put(_cut(batch, mesh.size, parts, per_device), sharding)


def put_batches(
  feed: Feed,
  dispatches: Iterable[range],
  mesh: Mesh,
  parts: int = 1,
  *,
  per_device: bool,
) -> Iterator[PyTree]:
  """Yields the batches of some dispatches, made some at a time.

  Those of one step are as `put_batch` has them, or arrays of NumPy like them where it
  `takes_numpy`; of several the steps are an axis of their own, [K, ...], `per_device`
  [n, K, ...]. At a time are made twenty steps, or as many as a tenth of a second is
  enough for, but one dispatch at least. A batch made between two steps on the CPU finds
  its code gone from the core's caches: 0.8 ms of a step of 13 ms, where one made right
  after another takes 0.15.
  """

  def made_of(steps: range) -> PyTree:
    several = int(len(steps) > 1)
    batch = stacked(steps) if several else feed.batch(steps[0])
    cut = _cut(batch, mesh.size, parts, per_device, several)
    axis = 0 if per_device else several + int(parts > 1)
    return cut if takes_numpy(mesh) else _put(cut, split(mesh, axis))

  def stacked(steps: range) -> PyTree:
    batches = [feed.batch(step) for step in steps]
    try:
      return jax.tree.map(lambda *each: np.stack(each), *batches)
    except ValueError as error:
      raise InputError(
        f'the batches of the steps {steps[0]} to {steps[-1]} differ in shape, and '
        'cannot be sent at once: `steps_per_dispatch=1` sends one at a time'
      ) from error

  rest = iter(dispatches)
  while True:
    made: list[PyTree] = []
    count, start = 0, time.monotonic()
    for steps in rest:
      if steps:
        made.append(made_of(steps))
        count += len(steps)
      if count >= _AHEAD or time.monotonic() - start > _AHEAD_SECONDS:
        break
    if not made:
      return
    yield from made


def _cut(batch: PyTree, n: int, parts: int, per_device: bool, axis: int = 0) -> PyTree:
  """Host arrays [..., B, ...], B at `axis`, in the shape that `put_batch` tells of."""

  def cut(value: np.ndarray) -> np.ndarray:
    check_divides(value.shape[axis], n, parts)
    before, row = value.shape[:axis], value.shape[axis + 1 :]
    inside = (parts,) if parts > 1 else ()
    if per_device:
      value = value.reshape(*before, parts, n, -1, *row)
      return np.moveaxis(value, axis + 1, 0).reshape(n, *before, *inside, -1, *row)
    return value.reshape(*before, *inside, -1, *row) if inside else value

  return jax.tree.map(cut, batch)


def _put(tree: PyTree, sharding: NamedSharding) -> PyTree:
  if sharding.mesh.is_multi_process:

    def put(value: np.ndarray) -> jax.Array:
      return jax.make_array_from_callback(value.shape, sharding, value.__getitem__)

    return jax.tree.map(put, tree)
  return jax.device_put(tree, sharding)  # at once: one by one costs 1.7 times as much


def lend_cpu_cores(num_devices: int | None) -> None:
  """Makes JAX show so many CPU devices, if several, unless it has counted already."""
  is_set = 'xla_force_host_platform_device_count' in os.environ.get('XLA_FLAGS', '')
  if num_devices in (None, 1) or is_set or 'JAX_NUM_CPU_DEVICES' in os.environ:
    return
  # Once JAX has started it refuses: make_mesh then works with the devices it shows.
  with contextlib.suppress(RuntimeError):
    jax.config.update('jax_num_cpu_devices', num_devices)
