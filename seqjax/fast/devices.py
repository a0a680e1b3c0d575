"""A run over the devices that share its batch: each its own rows, nothing exchanged.

Left to itself, XLA's partitioner adds the weights' gradients up over the devices where
they arise, in the loop over time, and hands a kernel whole arrays. In a shard_map they
are added up once, behind it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec

from seqjax.scan import Lookup, Sequence
from seqjax.types import BATCH_AXIS, Array, PyTree


def over_devices(
  run: Callable[[PyTree, Sequence], PyTree], params: PyTree, sequence: Sequence
) -> PyTree:
  """`run(params, sequence)`, in parts where a mesh is set and its devices divide B.

  Args:
    run: What returns arrays [B, ...] of which each row depends on its own row of the
      sequence.
    params: Whole on every device, as an embedding is.
    sequence: Cut by the first axis of the batch.

  Returns:
    What `run` does. A mesh is set by jax.set_mesh or within a jitted function by
    jax.sharding.use_abstract_mesh; it counts if its only axis is `BATCH_AXIS`.
  """
  mesh = jax.sharding.get_abstract_mesh()
  batch_axes = len(sequence.x.shape) - 2
  # Dropout masks may have an axis for the gates in front.
  dropout_axes = [
    0 if m is None else m.ndim - batch_axes - 1
    for m in (sequence.x_mask, sequence.h_mask)
  ]

  def on_one(params: PyTree, sequence: Sequence) -> PyTree:
    like = sequence.x.ids if isinstance(sequence.x, Lookup) else sequence.x
    return run(*varying_as(like, (params, sequence)))

  if not batch_axes or not _cuts(mesh, sequence.x.shape[0]):
    return on_one(params, sequence)
  rows, whole = PartitionSpec(BATCH_AXIS), PartitionSpec()
  x_mask, h_mask = (PartitionSpec(*[None] * n, BATCH_AXIS) for n in dropout_axes)
  of_lookup: Any = (rows, whole)
  x = Lookup(*of_lookup) if isinstance(sequence.x, Lookup) else rows
  specs: Any = (x, rows, rows, rows, x_mask, h_mask)
  return jax.shard_map(on_one, in_specs=(whole, Sequence(*specs)), out_specs=rows)(
    params, sequence
  )


def varying_as(like: Array, tree: PyTree) -> PyTree:
  """`tree`; within a shard_map it varies over the same axes of the mesh as `like`.

  So one operation may take them, and gradients of weights are added up over the devices
  once, behind it. XLA drops the zeros; outside of a shard_map nothing is added.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if AxisType.Manual not in mesh.axis_types:
    return tree

  def varying(a: Array) -> Array:
    if a.dtype == bool:
      return a | jnp.zeros_like(like, bool, a.shape)
    return a + jnp.zeros_like(like, a.dtype, a.shape)

  return jax.tree.map(varying, tree)


def _cuts(mesh: Any, rows: int) -> bool:
  """Whether the mesh is one of several devices that all get rows of the batch."""
  if mesh.axis_names != (BATCH_AXIS,) or mesh.axis_types != (AxisType.Auto,):
    return False
  return mesh.size > 1 and rows > 0 and rows % mesh.size == 0
