"""A run over the devices that share its batch: each its own rows, nothing exchanged.

Left to itself, XLA's partitioner adds the weights' gradients up over the devices where
they arise: in the loop over time. In a shard_map they are added up once, behind it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec

from seqjax.types import BATCH_AXIS, Array, PyTree


class Arrays(NamedTuple):
  """What a run takes, by how it is cut."""

  weights: PyTree  # whole on every device
  rows: PyTree  # [B, ...] each
  gate_rows: PyTree  # [n, B, ...] each


def over_devices(run: Callable[[Arrays, bool], PyTree], arrays: Arrays) -> PyTree:
  """`run(arrays, True)`, in parts where a mesh is set and its devices divide B.

  Args:
    run: Of arrays, and whether it runs alone, as far as is known here, returns arrays
      [B, ...] of which each row depends on the same rows of `rows` and `gate_rows`.
    arrays: Its argument. Rows have batch axes in front, the first of which is cut.

  Returns:
    What `run` does. A mesh is set by jax.set_mesh or within a jitted function by
    jax.sharding.use_abstract_mesh; it counts if its only axis is `BATCH_AXIS`.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if not _cuts(mesh, arrays):
    return run(arrays, True)
  rows = PartitionSpec(BATCH_AXIS)
  specs = Arrays(PartitionSpec(), rows, PartitionSpec(None, BATCH_AXIS))

  def on_one(arrays: Arrays) -> PyTree:
    weights = varying_as(jax.tree.leaves(arrays.rows)[0], arrays.weights)
    return run(arrays._replace(weights=weights), False)

  return jax.shard_map(on_one, in_specs=(specs,), out_specs=rows)(arrays)


def varying_as(like: Array, tree: PyTree) -> PyTree:
  """`tree`; within a shard_map it varies over the same axes of the mesh as `like`.

  So loops may mix them, and gradients of weights are added up over the devices once,
  behind the loops. XLA drops the zeros.
  """
  return jax.tree.map(lambda a: a + jnp.zeros_like(like, a.dtype, a.shape), tree)


def may_be_cut() -> bool:
  """Whether XLA's partitioner may cut arrays over devices here, as far as one knows.

  Not over axes that a shard_map has taken, as pmap does, nor over axes of one device.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return jax.device_count() > 1
  axes = zip(mesh.axis_types, mesh.axis_sizes, strict=True)
  return any(kind != AxisType.Manual and size > 1 for kind, size in axes)


def _cuts(mesh: Any, arrays: Arrays) -> bool:
  """Whether the mesh is one of several devices that all get rows of the batch."""
  if mesh.axis_names != (BATCH_AXIS,) or mesh.axis_types != (AxisType.Auto,):
    return False
  sizes = [a.shape[0] for a in jax.tree.leaves(arrays.rows)]
  sizes += [a.shape[1] for a in jax.tree.leaves(arrays.gate_rows)]
  return mesh.size > 1 and all(size and size % mesh.size == 0 for size in sizes)
