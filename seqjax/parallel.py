"""Devices: which ones share a batch, and how arrays lie on them."""

import contextlib
import os

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from seqjax.types import BATCH_AXIS, InputError, PyTree

# Fewer rows than this on a device cost more in waiting for each other than they save.
_MIN_ROWS = 16


def make_mesh(num_devices: int | None, batch_size: int) -> Mesh:
  """A mesh with one axis, `BATCH_AXIS`, over the devices that share a batch.

  A host without accelerator lends its CPU cores as devices: work inside a loop over
  time runs on one core a device, so that is what uses the others. JAX fixes the number
  of its devices at first use; once it has, this takes what there is.

  Args:
    num_devices: How many; None: all accelerators, or of the CPU cores the most that
      divide the batch and get 16 rows or more each.
    batch_size: Rows of a global batch.

  Raises:
    InputError: if there are not so many devices, or they do not divide the batch.
  """
  _lend_cpu_cores(num_devices or _num_cores())
  devices = jax.devices()
  if num_devices is None:
    num_devices = len(devices)
    if devices[0].platform == 'cpu':
      most = min(num_devices, _num_cores(), max(1, batch_size // _MIN_ROWS))
      num_devices = max(n for n in range(1, most + 1) if batch_size % n == 0)
  if num_devices > len(devices):
    raise InputError(
      f'--num_devices={num_devices}, but JAX has {len(devices)} '
      f'{devices[0].platform} devices'
    )
  check_divides(batch_size, num_devices)
  return jax.make_mesh(
    (num_devices,), (BATCH_AXIS,), (AxisType.Auto,), devices=devices[:num_devices]
  )


def check_divides(batch_size: int, num_devices: int) -> None:
  """Raises InputError, with the sizes that fit, unless the devices divide the batch."""
  if batch_size % num_devices:
    below = batch_size // num_devices * num_devices
    sizes = [size for size in (below, below + num_devices) if size]
    raise InputError(
      f'--batch_size={batch_size} does not divide by {num_devices} devices; '
      f'{" or ".join(map(str, sizes))} would'
    )


def replicated(mesh: Mesh) -> NamedSharding:
  """The whole array on every device."""
  return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
  """Axis 0, the batch, cut over the devices."""
  return NamedSharding(mesh, PartitionSpec(BATCH_AXIS))


def on(mesh: Mesh) -> contextlib.AbstractContextManager:
  """Within a jitted function: recurrent layers run each device's rows on it alone."""
  return jax.sharding.use_abstract_mesh(mesh.abstract_mesh)


def put_batch(batch: PyTree, mesh: Mesh) -> PyTree:
  """Host arrays [B, ...] -> global arrays, cut over the devices; B must divide."""
  sharding = split(mesh)

  def put(value: np.ndarray) -> jax.Array:
    check_divides(len(value), mesh.size)
    return jax.device_put(value, sharding)

  return jax.tree.map(put, batch)


def _num_cores() -> int:
  return (
    len(os.sched_getaffinity(0))
    if hasattr(os, 'sched_getaffinity')
    else (os.cpu_count() or 1)
  )


def _lend_cpu_cores(num_cores: int) -> None:
  """Makes JAX show this many CPU devices, where it has not counted them yet."""
  if 'xla_force_host_platform_device_count' in os.environ.get('XLA_FLAGS', ''):
    return  # the user has said how many
  # Once JAX has started it refuses: make_mesh then works with the devices it shows.
  with contextlib.suppress(RuntimeError):
    jax.config.update('jax_num_cpu_devices', num_cores)
