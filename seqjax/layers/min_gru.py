"""MinGRU: a gated unit whose loop over time is not sequential."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from seqjax import cells
from seqjax.layers.checks import check_sizes
from seqjax.layers.initializers import (
  Initializer,
  glorot_uniform,
  in_float32,
  zeros,
)
from seqjax.layers.recurrence import Loop, Recurrence
from seqjax.scan import Options, Sequence
from seqjax.types import Array, PyTree


class MinGRU(Recurrence):
  """h' = (1 - z) * h + z * n; z = sigmoid(x Wz + b_z), n = x Wn + b_n.

  Neither z nor n looks at h, so that all steps are one associative scan, of depth
  log T: a layer whose loop is not sequential. Masks, resets, carries and both
  directions are as of the other layers; `bptt_steps` and `remat_chunk` are refused.

  Parameters kernel [D, 2H] in the order z, n, bias [2H]. Source: Feng et al. 2024,
  arXiv:2410.01201, section 3.1.

  Attributes, beside those of `Recurrence`:
    features: Units, H.
    use_bias: Whether there is a parameter `bias`.
    kernel_init: Of `kernel`.
    bias_init: Of `bias`.

  Example:
    >>> x = jax.random.normal(jax.random.key(0), (2, 5, 3))
    >>> layer = sj.MinGRU(4, return_sequences=True)
    >>> params = layer.init(jax.random.key(1), x, train=False)
    >>> layer.apply(params, x, train=False).shape
    (2, 5, 4)
  """

  features: int
  use_bias: bool = True
  kernel_init: Initializer = glorot_uniform
  bias_init: Initializer = zeros

  def __post_init__(self) -> None:
    check_sizes(features=self.features)
    for name in ('bptt_steps', 'remat_chunk'):
      if getattr(self, name) is not None:
        raise ValueError(f'MinGRU has no {name}: its steps are not one after another')
    super().__post_init__()

  @nn.nowrap
  def loop(self, x: Any, train: bool) -> Loop:
    """As `Recurrence` asks."""
    H = self.features
    kernel = self.param('kernel', in_float32(self.kernel_init), (x.shape[-1], 2 * H))
    bias = self.param('bias', self.bias_init, (2 * H,)) if self.use_bias else None
    dtype = jnp.promote_types(jnp.float32, jnp.result_type(x, kernel))
    start = cells.GRUCarry(jnp.zeros((*x.shape[:-2], H), dtype))

    def run(sequence: Sequence, options: Options) -> tuple[PyTree, Any]:
      given = sequence.values @ kernel
      if bias is not None:
        given += jnp.broadcast_to(bias, given.shape)
      z, n = jnp.split(given.astype(dtype), 2, -1)
      z = jax.nn.sigmoid(z)
      keep, add = 1 - z, z * n  # h' = keep * h + add
      first = start if sequence.carry is None else sequence.carry
      return _linear(keep, add, first.h, sequence, options)

    return Loop(jnp.asarray(x), start, dtype, run)


def _linear(
  keep: Array, add: Array, h: Array, sequence: Sequence, options: Options
) -> tuple[cells.GRUCarry, Array | None]:
  """h' = keep * h + add for all steps, with masks, resets and directions.

  Args:
    keep, add: [..., T, H].
    h: Before the first step, [..., H].
    sequence: Its mask and resets, [..., T].
    options: Direction, and what a masked step gives.
  """
  mask, reset = sequence.mask, sequence.reset

  def wide(flags: Array) -> Array:
    return jnp.broadcast_to(jnp.expand_dims(flags, -1), keep.shape)

  if mask is not None:
    keep, add = jnp.where(wide(mask), keep, 1), jnp.where(wide(mask), add, 0)
  if reset is not None:
    keep = jnp.where(wide(reset), 0, keep)

  def joined(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
    return a[0] * b[0], a[1] * b[0] + b[1]

  back = options.go_backwards
  kept, ys = jax.lax.associative_scan(
    joined, (keep, add), reverse=back, axis=keep.ndim - 2
  )
  ys = ys + kept * jnp.broadcast_to(jnp.expand_dims(h, -2), ys.shape)
  carry = cells.GRUCarry(ys[..., 0, :] if back else ys[..., -1, :])
  if not options.return_sequences:
    return carry, None
  if mask is not None and options.zero_output_for_mask:
    ys = jnp.where(wide(mask), ys, 0)
  return carry, jnp.flip(ys, -2) if back else ys
