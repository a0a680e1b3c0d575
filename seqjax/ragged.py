"""Sequences of unequal length as one array with their lengths, and back."""

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.types import Array

# Of torch and Keras.
_ELSEWHERE = {
  **dict.fromkeys(
    ('padding_value', 'value'), 'padding is zero; jnp.where of a mask puts another in'
  ),
  'batch_first': 'x is [B, T, ...]; jnp.swapaxes(x, 0, 1) makes it [T, B, ...]',
  **dict.fromkeys(('maxlen', 'total_length'), 'it is called length'),
  **dict.fromkeys(('padding', 'padding_side'), 'padding is behind the sequences'),
  'truncating': 'cut the sequences before',
  'enforce_sorted': 'the order of the sequences stays',
}


def pad_ragged(
  sequences: Sequence[Array], length: int | None = None, **unknown: Any
) -> tuple[Array, np.ndarray]:
  """One array of sequences, with zeros behind the shorter ones, and their lengths.

  Args:
    sequences: B arrays [t, ...] that differ in t alone, which may be 0.
    length: T, at least the longest t; None takes that.
    **unknown: Refused.

  Returns:
    x [B, T, ...] and lengths int32 [B]. x is of NumPy where all sequences are,
    else of JAX, and gradients go through it. Empty lists have no say in its dtype.

  Raises:
    ValueError: if there is no sequence, two are of other steps, or one is too long.
    TypeError: if an argument is unknown.

  Example:
    >>> x, lengths = sj.pad_ragged([[1, 2, 3], [4]])
    >>> x.tolist(), lengths.tolist()
    ([[1, 2, 3], [4, 0, 0]], [3, 1])
  """
  _refuse('pad_ragged', unknown)
  if length is not None:
    try:
      length = operator.index(length)
    except TypeError:
      raise ValueError(f'pad_ragged needs an integer length, got {length!r}') from None
  arrays = [a if hasattr(a, 'shape') else np.asarray(a) for a in sequences]
  if not arrays:
    raise ValueError('pad_ragged needs at least one sequence, got none')
  typed = [a for a, given in zip(arrays, sequences, strict=True) if _has_dtype(given)]
  if typed:  # an empty list is float64 to NumPy, and of no step's shape
    like = typed[0]
    arrays = [
      a if _has_dtype(given) else np.zeros((0, *like.shape[1:]), like.dtype)
      for a, given in zip(arrays, sequences, strict=True)
    ]
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
  dtype = xp.result_type(*(typed or arrays))
  steps = arrays[0].shape[1:]
  rows = [
    xp.concatenate([xp.asarray(a, dtype), xp.zeros((T - len(a), *steps), dtype)])
    for a in arrays
  ]
  return xp.stack(rows), lengths


def unpad_ragged(x: Array, lengths: Array, **unknown: Any) -> list[Array]:
  """The sequences [t, ...] of an array x [B, T, ...] with lengths int [B].

  The way back from `pad_ragged`, for x itself or for a layer's outputs.

  Raises:
    ValueError: if x is no array, or lengths are not known (they decide shapes, so no
      jit can trace them), are no integers [B], or lie outside [0, T].
    TypeError: if an argument is unknown.

  Example:
    >>> x, lengths = sj.pad_ragged([[1, 2, 3], [4]])
    >>> [row.tolist() for row in sj.unpad_ragged(x, lengths)]
    [[1, 2, 3], [4]]
  """
  _refuse('unpad_ragged', unknown)
  if not hasattr(x, 'shape'):
    raise ValueError(f'unpad_ragged needs x [B, T, ...], got a {type(x).__name__}')
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


def _has_dtype(sequence: Any) -> bool:
  return hasattr(sequence, 'dtype') or len(sequence) > 0


def _refuse(function: str, names: Iterable[str]) -> None:
  for name in names:
    hint = f'{name}: {_ELSEWHERE[name]}' if name in _ELSEWHERE else f'argument {name}'
    raise TypeError(f'{function} has no {hint}')
