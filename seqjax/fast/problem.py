"""What one call of the kernels is of: equations, options, sizes; the codes of both.

The operations (kernels.py) and the rooms of each platform both read it.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax import cells, scan
from seqjax.cells import Cell

# The orders are those of kernels.cc and cells.h.
CELLS = ('simple_rnn', 'lstm', 'gru', 'gru_reset_before')
ACTIVATIONS: dict[Any, int] = {
  jnp.tanh: 0,
  jax.nn.sigmoid: 1,
  jax.nn.relu: 2,
  cells.linear: 3,
  jax.nn.hard_sigmoid: 4,
  cells.hard_sigmoid_keras2: 5,
}


class Static(NamedTuple):
  """What a call's program depends on, besides shapes."""

  cell: Cell
  options: scan.Options
  given: tuple[str, ...] = ()  # names of the arrays, ordered as kernels.py has them
  wants_dx: bool = True
  leaves: bool = False  # forward, for the way back; see cpu/memory.h
  precision: str | None = None  # of matmuls outside of kernels: JAX's setting

  @property
  def fields(self) -> tuple[str, ...]:
    """Those of the carry."""
    return self.cell.carry._fields  # type: ignore[attr-defined]

  @property
  def gradients(self) -> tuple[str, ...]:
    """Names of what `backward` gives, in order."""
    bias = ('bias',) if 'bias' in self.given else ()
    x = ('x',) if self.wants_dx else ()
    return ('recurrent_kernel', 'kernel', *bias, *self.fields, *x)

  def named(self, arrays: Iterable[Any]) -> dict[str, Any]:
    """Those that are given, by name."""
    return dict(zip(self.given, arrays, strict=True))


class Sizes(NamedTuple):
  """Of one call."""

  models: int
  B: int
  T: int
  D: int
  H: int
  V: int  # rows of x
  x_masks: int  # of dropout: none, one, or one for each gate
  h_masks: int
  chunks: int
  K: int  # steps of a chunk
  kept: int  # rows of H numbers that forward keeps for the way back
  gpu_chunk: int | None = None  # steps of a chunk there, or all at once
