"""Sequences of different lengths as one array."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

Side: TypeAlias = Literal['pre', 'post']


def pad_sequences(
  sequences: Sequence[Any],
  length: int | None = None,
  *,
  padding: Side = 'pre',
  truncating: Side = 'pre',
  value: float = 0,
  dtype: npt.DTypeLike = np.int32,
) -> np.ndarray:
  """Cuts and pads sequences to one length; as in Keras, both at the front.

  So `length=20` keeps the last 20 words of a review, not the first.

  Args:
    sequences: N lists or arrays, [t] or [t, ...] with the same shape of a step and t
      as it comes.
    length: T, at least 1; None takes the longest sequence's.
    padding: Where a shorter sequence is filled up: 'pre' in front, 'post' behind.
    truncating: Where a longer sequence loses steps.
    value: Of the steps added.
    dtype: Of the result; a number type that can hold every value. Rounding to a
      shorter float type is taken as meant; anything else that would change a number
      (overflow, a fraction in an integer type) is an error and never wraps around.

  Returns:
    [N, T] or [N, T, ...].

  Raises:
    ValueError: An argument, or the sequence whose index the message names, is not
      what is asked for above.

  Example:
    >>> text.pad_sequences([[1, 2, 3], [4]], length=2).tolist()
    [[2, 3], [0, 4]]
  """
  dtype = np.dtype(dtype)
  if dtype.kind not in 'iuf':
    raise ValueError(f'dtype must be an integer or float type, got {dtype}')
  for name, side in (('padding', padding), ('truncating', truncating)):
    if side not in get_args(Side):
      raise ValueError(f"{name} must be 'pre' or 'post', got {side!r}")
  if length is not None and operator.index(length) < 1:
    raise ValueError(f'length must be None or >= 1, got {length}')
  if not _fits(np.asarray(value), dtype).all():
    raise ValueError(f'value {value!r} does not fit into {dtype}')

  rows = [_cut(row, i, length, truncating) for i, row in enumerate(sequences)]
  lengths = np.array([len(row) for row in rows], dtype=np.int64)  # [N]
  T = int(lengths.max(initial=0)) if length is None else length
  owners = np.flatnonzero(lengths)  # [rows that are not empty]
  step_shape = rows[owners[0]].shape[1:] if owners.size else ()
  for i in owners:
    if rows[i].shape[1:] != step_shape:
      raise ValueError(
        f'sequences[{i}] has steps of shape {rows[i].shape[1:]}, '
        f'sequences[{owners[0]}] of shape {step_shape}'
      )
  _check_fit(rows, owners, dtype)
  out = np.full((len(rows), T, *step_shape), value, dtype)
  for i in owners:
    if padding == 'pre':
      out[i, T - lengths[i] :] = rows[i]
    else:
      out[i, : lengths[i]] = rows[i]
  return out


def _cut(row: Any, index: int, length: int | None, truncating: Side) -> np.ndarray:
  """Makes an array [t, ...] of at most `length` steps."""
  try:
    if isinstance(row, (str, bytes)):
      raise TypeError('a string is no sequence of numbers')
    if length is not None and len(row) > length:
      row = row[-length:] if truncating == 'pre' else row[:length]
    array = np.asarray(row)
  except (TypeError, ValueError) as e:
    raise ValueError(f'sequences[{index}] must hold numbers [t, ...]: {e}') from e
  if array.ndim == 0 or (array.size and array.dtype.kind not in 'iuf'):
    raise ValueError(
      f'sequences[{index}] must hold numbers [t, ...], got {array.dtype} {array.shape}'
    )
  return array


def _check_fit(rows: list[np.ndarray], owners: np.ndarray, dtype: np.dtype) -> None:
  """Raises ValueError naming the first row with a number that a type cannot hold."""
  full = [rows[i] for i in owners]
  # One pass over all rows is faster; of several types it would round integers to
  # float64 first.
  if len({row.dtype for row in full}) == 1 and _fits(np.concatenate(full), dtype).all():
    return
  for i, row in zip(owners, full, strict=True):
    bad = row[~_fits(row, dtype)]
    if bad.size:
      raise ValueError(
        f'sequences[{i}] holds {bad[0]}, which does not fit into {dtype}'
      )


def _fits(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
  """True where a type can hold a value; rounding to a float type is allowed."""
  if np.can_cast(values.dtype, dtype, 'safe'):
    return np.ones(values.shape, bool)
  if dtype.kind == 'f':
    with np.errstate(over='ignore'):
      return np.isfinite(values.astype(dtype)) | ~np.isfinite(values)
  bounds = np.iinfo(dtype)
  if values.dtype.kind != 'f':
    return (values >= int(bounds.min)) & (values <= int(bounds.max))
  values = values.astype(np.float64)
  # 2.0**63 is float(max) of int64 and no int64: the upper bound is open. Infinities
  # fail the bounds, and NaN every comparison.
  inside = (values >= float(bounds.min)) & (values < float(bounds.max) + 1)
  return inside & (np.trunc(values) == values)
