"""Windows of a series that lies on the device, gathered within a jitted step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from seqjax.data.series.windows import Shape
from seqjax.types import Array, Batch


def windows(shape: Shape, target: int) -> Callable[[Array, Batch], Batch]:
  """Returns (series [N, D], batch of `WindowSet.batch`) -> x [B, T, D] and y [B].

  A row that the series does not have gives NaN, which ends a run. (JAX by itself would
  take the nearest row, or count from the end.)

  Args:
    shape: Which rows a window is made of.
    target: Column of the target.
  """
  offsets = np.asarray(shape.offsets, np.int32)

  def gather(series: Array, batch: Batch) -> Batch:
    rows = jnp.expand_dims(batch.x, 1) + jnp.expand_dims(offsets, 0)  # [B, T]
    outside: Any = {
      'mode': 'fill',
      'fill_value': jnp.nan,
      'wrap_negative_indices': False,
    }
    x = series.at[rows].get(**outside)  # [B, T, D]
    return batch._replace(x=x, y=series.at[batch.y, target].get(**outside))

  return gather
