"""Dropout masks that hold for a whole sequence.

Example:
  >>> mask = sj.dropout.sequence_mask(jax.random.key(0), 0.5, (2, 4))  # [B, H]
  >>> sorted(set(mask.ravel().tolist()))
  [0.0, 2.0]
"""

import jax
import jax.numpy as jnp

from seqjax.types import Array


def sequence_mask(key: Array, rate: float, shape: tuple[int, ...]) -> Array:
  """Draws a dropout mask that holds for a whole sequence.

  Args:
    key: PRNG key, used once.
    rate: Probability of dropping a unit, in [0, 1).
    shape: [B, H] for a carry or [B, D] for inputs, which have no time axis here; one
      more axis in front gives every gate a mask of its own, [n, B, H].

  Returns:
    float32 mask of `shape`, each value 0 or 1 / (1 - rate), so its mean is 1.

  Raises:
    ValueError: if `rate` is outside [0, 1).

  Source: Gal & Ghahramani 2016, arXiv:1512.05287.
  """
  check_rate('rate', rate)
  keep = jax.random.bernoulli(key, 1 - rate, shape)
  return jnp.where(keep, jnp.float32(1 / (1 - rate)), jnp.float32(0))


def recurrent_masks(
  key: Array,
  *,
  dropout: float,
  recurrent_dropout: float,
  batch_shape: tuple[int, ...],
  input_size: int,
  features: int,
  num_gates: int,
) -> tuple[Array | None, Array | None]:
  """Draws one call's masks of a recurrent layer, as Keras does.

  With `recurrent_dropout` the gates have independent masks, on x and on h; without it
  they share one input mask. A cell without gates has one mask in either case.

  Args:
    key: PRNG key, used once.
    dropout: Rate on the inputs, in [0, 1).
    recurrent_dropout: Rate on the recurrent state, in [0, 1).
    batch_shape: Leading axes of the batch, [B] for x [B, T, D].
    input_size: D.
    features: H.
    num_gates: Gates of the cell, n.

  Returns:
    (x_mask, h_mask): [B, D] or [n, B, D], and [n, B, H] ([B, H] if n is 1), float32.
    None where the rate is 0.

  Raises:
    ValueError: if a rate is outside [0, 1).

  Source: Gal & Ghahramani 2016, arXiv:1512.05287; Keras 3's `DropoutRNNCell`.
  """
  x_key, h_key = jax.random.split(key)
  gates = (num_gates,) if recurrent_dropout and num_gates > 1 else ()
  x_mask = h_mask = None
  if dropout:
    x_mask = sequence_mask(x_key, dropout, (*gates, *batch_shape, input_size))
  if recurrent_dropout:
    h_mask = sequence_mask(h_key, recurrent_dropout, (*gates, *batch_shape, features))
  return x_mask, h_mask


def check_rate(name: str, rate: float) -> None:
  """Raises ValueError unless `rate` is in [0, 1)."""
  if rate is None or not 0 <= rate < 1:
    raise ValueError(f'{name} must be in [0, 1), got {rate}')
