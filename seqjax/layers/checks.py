"""What the layers refuse, each in one line that names the input."""

import math
import numbers
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.fast import Lookup
from seqjax.types import Array, PyTree


def check_sizes(**sizes: int) -> None:
  """Raises ValueError unless each is an integer of at least 1."""
  for name, size in sizes.items():
    if isinstance(size, bool) or not isinstance(size, int | np.integer):
      raise ValueError(f'{name} must be an integer, got {size!r}')
    if size < 1:
      raise ValueError(f'{name} must be at least 1, got {size}')


def check_optional_sizes(**sizes: int | None) -> None:
  """Raises ValueError unless each is an integer of at least 1, or None."""
  check_sizes(**{name: size for name, size in sizes.items() if size is not None})


def check_number(name: str, number: float, least: float = -math.inf) -> None:
  """Raises ValueError unless it is a real number of at least `least`."""
  real = isinstance(number, numbers.Real | np.generic) and not isinstance(number, bool)
  if not real or not number >= least:
    bound = '' if least == -math.inf else f' of at least {least}'
    raise ValueError(f'{name} must be a number{bound}, got {number!r}')


def check_layer(name: str, layer: Any) -> None:
  """Raises ValueError unless it is a module or a function."""
  if not callable(layer):
    raise ValueError(
      f'{name} must be a module or a function, got {type(layer).__name__}'
    )


def check_sequence(layer: str, x: Array | Lookup, **flags: Array | None) -> None:
  """Raises ValueError unless x is float [..., T, D] and each flag bool [..., T]."""
  values = x.embedding if isinstance(x, Lookup) else x
  shape, dtype = getattr(x, 'shape', ()), getattr(values, 'dtype', bool)
  if len(shape) < 2 or not jnp.issubdtype(dtype, jnp.floating):
    raise ValueError(f'{layer} needs float x [..., T, D], got {described(x)}')
  if 0 in shape[-2:]:
    raise ValueError(f'{layer} needs at least one step and input, got x {shape}')
  for name, flag in flags.items():
    if flag is not None:
      check_flags(f'{layer} needs {name}', flag, shape[:-1], shape)


def check_flags(
  needs: str, flag: Array, shape: Sequence[int], x_shape: Sequence[int]
) -> None:
  """Raises ValueError, beginning with `needs`, unless `flag` is bool of `shape`."""
  if getattr(flag, 'shape', None) != tuple(shape) or flag.dtype != bool:
    raise ValueError(
      f'{needs} bool{tuple(shape)} for x {tuple(x_shape)}, got {described(flag)}'
    )


def mask_of(
  layer: str, x: Any, mask: Array | None, lengths: Array | None
) -> Array | None:
  """The mask, or that of `lengths`: bool [..., T], True at the first steps of a row.

  x is an array, a Lookup or a tree of arrays.

  Raises:
    ValueError: if both are given, or lengths are no integers [...] for x [..., T, D] or
      x [..., T], or, in NumPy, outside [0, T].
  """
  if lengths is None:
    return mask
  if mask is not None:
    raise ValueError(f'{layer} takes mask or lengths, not both')
  like = x if hasattr(x, 'shape') else next(iter(jax.tree.leaves(x)), x)
  shape = tuple(getattr(like, 'shape', ()))
  rows = tuple(getattr(lengths, 'shape', shape))
  fits = len(rows) < len(shape) and rows == shape[: len(rows)]
  if not fits or not jnp.issubdtype(lengths.dtype, jnp.integer):
    raise ValueError(
      f'{layer} needs integer lengths of the rows of {shape}, got {described(lengths)}'
    )
  T = shape[len(rows)]
  if isinstance(lengths, np.ndarray) and ((lengths < 0) | (lengths > T)).any():
    raise ValueError(f'{layer} needs lengths from 0 to {T}, got {lengths.tolist()}')
  ends = jnp.broadcast_to(jnp.expand_dims(lengths, -1), (*rows, T))
  if jnp.iinfo(ends.dtype).max < T:
    ends = ends.astype(jnp.int32)  # or the numbers of the steps would not fit
  return jax.lax.broadcasted_iota(ends.dtype, ends.shape, ends.ndim - 1) < ends


def check_known(layer: str, x: Array | None) -> None:
  """Raises ValueError if x, of which the layer makes its mask, is not known."""
  if x is None:
    raise ValueError(
      f'{layer} makes a mask of its input: in a Stack inside another layer it must be '
      'the first'
    )


def check_carry(layer: str, carry: PyTree, zeros: PyTree) -> PyTree:
  """`carry` in the type and dtypes of `zeros`, or ValueError.

  Tuples and lists will do where `zeros` has NamedTuples, at any depth, and so will an
  array of all fields, [number of fields, ..., H].
  """
  return _carry_like(f'{layer} needs initial_carry', carry, zeros)


def _carry_like(needs: str, carry: PyTree, zeros: PyTree) -> PyTree:
  if hasattr(zeros, '_fields'):
    shapes = {getattr(zero, 'shape', None) for zero in zeros}
    if shapes == {getattr(carry, 'shape', ())[1:]} and len(carry) == len(zeros):
      carry = tuple(carry)  # the fields in one array, an axis in front
    check_parts(f'{needs} ({", ".join(zeros._fields)})', carry, len(zeros))
    parts = zip(zeros._fields, carry, zeros, strict=True)
    return type(zeros)(*(_carry_like(f'{needs}.{n}', c, z) for n, c, z in parts))
  if not hasattr(zeros, 'shape'):
    given, expected = (str(jax.tree.structure(tree)) for tree in (carry, zeros))
    if given != expected:
      raise ValueError(f'{needs} as its cell has it, got {_counted(carry)}')
    return jax.tree.map(lambda c, z: _carry_like(needs, c, z), carry, zeros)
  shape = getattr(carry, 'shape', None) or np.shape(carry)
  if shape != zeros.shape:
    raise ValueError(f'{needs} {zeros.shape}, got {shape}')
  return jnp.asarray(carry, zeros.dtype)


def check_parts(needs: str, given: Any, count: int) -> None:
  """Raises ValueError, beginning with `needs`, unless `given` has so many parts."""
  if not isinstance(given, tuple | list) or len(given) != count:
    raise ValueError(f'{needs}, got {_counted(given)}')


def check_carries(needs: str, given: Any, count: int) -> None:
  """As `check_parts`, of carries: one carry is none."""
  check_parts(needs, given, count)
  if hasattr(given, '_fields'):
    raise ValueError(f'{needs}, got {_counted(given)}')


def _counted(given: Any) -> str:
  if hasattr(given, 'shape'):
    return f'one array {described(given)}'
  if not isinstance(given, tuple | list):
    return described(given)
  if hasattr(given, '_fields'):
    return f'one {type(given).__name__}'
  arrays = given and all(hasattr(part, 'shape') for part in given)
  return f'{len(given)} arrays' if arrays else f'{len(given)}'


def described(value: Any) -> str:
  """Dtype and shape of an array, the type of anything else."""
  if hasattr(value, 'shape') and hasattr(value, 'dtype'):
    return f'{value.dtype}{value.shape}'
  return f'a {type(value).__name__}'
