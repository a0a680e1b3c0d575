"""A run over the devices that share its batch: each its own rows, nothing exchanged.

Left to itself, XLA's partitioner adds the weights' gradients up over the devices where
they arise, in the loop over time, and hands a kernel whole arrays. In a shard_map they
are added up once, behind it.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, PartitionSpec

from seqjax.scan import Lookup, Sequence, varying_as
from seqjax.types import BATCH_AXIS, PyTree


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

  def on_one(params: PyTree, sequence: Sequence) -> PyTree:
    return run(*varying_as(jax.tree.leaves(sequence.x)[0], (params, sequence)))

  mesh, batch_axes = jax.sharding.get_abstract_mesh(), len(sequence.x.shape) - 2
  several = mesh.axis_names == (BATCH_AXIS,) and mesh.axis_types == (AxisType.Auto,)
  B = sequence.x.shape[0] if batch_axes else 0
  if not several or mesh.size == 1 or not B or B % mesh.size:
    return on_one(params, sequence)
  rows: Any = PartitionSpec(BATCH_AXIS)
  whole: Any = PartitionSpec()
  x = Lookup(rows, whole) if isinstance(sequence.x, Lookup) else rows
  # Dropout masks may have an axis for the gates in front.
  masks: Any = [
    PartitionSpec(*[None] * (getattr(m, 'ndim', 0) - batch_axes - 1), BATCH_AXIS)
    for m in (sequence.x_mask, sequence.h_mask)
  ]
  specs = whole, Sequence(x, rows, rows, rows, *masks)
  return jax.shard_map(on_one, in_specs=specs, out_specs=rows)(params, sequence)
