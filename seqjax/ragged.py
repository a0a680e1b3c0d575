"""Sequences of unequal length as one array with their lengths, and back."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.types import Array


def pad_ragged(
  sequences: Sequence[Array], length: int | None = None
) -> tuple[Array, np.ndarray]:
  """One array of sequences, with zeros behind the shorter ones, and their lengths.

  Args:
    sequences: B arrays [t, ...] that differ in t alone, which may be 0.
    length: T, at least the longest t; None takes that.

  Returns:
    x [B, T, ...] and lengths int32 [B]. x is of NumPy where all sequences are, else of
    JAX, and gradients go through it.

  Raises:
    ValueError: if there is no sequence, two are of other steps, or one is too long.

  Example:
    >>> x, lengths = sj.pad_ragged([[1, 2, 3], [4]])
    >>> x.tolist(), lengths.tolist()
    ([[1, 2, 3], [4, 0, 0]], [3, 1])
  """
  arrays = [a if hasattr(a, 'shape') else np.asarray(a) for a in sequences]
  if not arrays:
    raise ValueError('pad_ragged needs at least one sequence, got none')
  for i, array in enumerate(arrays):
    if array.ndim < 1 or array.shape[1:] != arrays[0].shape[1:]:
      raise ValueError(
        f'pad_ragged needs sequences [t, ...] that differ in t alone, '
        f'got {arrays[0].shape} and at {i} {array.shape}'
      )
  lengths = np.array([len(array) for array in arrays], np.int32)
  T = int(lengths.max()) if length is None else length
  if (longest := int(lengths.max())) > T:
    raise ValueError(f'pad_ragged needs a length of {longest} at least, got {T}')
  xp = np if all(isinstance(array, np.ndarray) for array in arrays) else jnp
  dtype = xp.result_type(*arrays)
  steps = arrays[0].shape[1:]
  rows = [
    xp.concatenate([xp.asarray(a, dtype), xp.zeros((T - len(a), *steps), dtype)])
    for a in arrays
  ]
  return xp.stack(rows), lengths


def unpad_ragged(x: Array, lengths: Array) -> list[Array]:
  """The sequences [t, ...] of an array x [B, T, ...] with lengths int [B].

  The way back from `pad_ragged`, for x itself or for a layer's outputs.

  Raises:
    ValueError: if lengths are not known (they decide shapes, so no jit can trace them),
      are no integers [B], or lie outside [0, T].

  Example:
    >>> x, lengths = sj.pad_ragged([[1, 2, 3], [4]])
    >>> [row.tolist() for row in sj.unpad_ragged(x, lengths)]
    [[1, 2, 3], [4]]
  """
  if isinstance(lengths, jax.core.Tracer):
    raise ValueError('unpad_ragged needs lengths that are known, got traced ones')
  known = np.asarray(lengths)
  whole = np.issubdtype(known.dtype, np.integer)
  if x.ndim < 2 or known.shape != x.shape[:1] or not whole:
    raise ValueError(
      f'unpad_ragged needs x [B, T, ...] and integer lengths [B], '
      f'got {x.shape} and {known.dtype}{known.shape}'
    )
  T = x.shape[1]
  if ((known < 0) | (known > T)).any():
    raise ValueError(f'unpad_ragged needs lengths from 0 to {T}, got {known.tolist()}')
  return [row[:length] for row, length in zip(x, known.tolist(), strict=True)]
