"""What the layers refuse, each in one line that names the input."""

from collections.abc import Sequence
from typing import Any

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


def check_carry(layer: str, carry: Sequence[Array], zeros: PyTree) -> PyTree:
  """`carry` in the type and dtypes of `zeros`; ValueError where the shapes differ."""
  fields = zeros._fields
  if len(carry) != len(fields):
    got = described(carry) if hasattr(carry, 'shape') else f'{len(carry)} arrays'
    raise ValueError(f'{layer} needs initial_carry ({", ".join(fields)}), got {got}')
  for name, value, zero in zip(fields, carry, zeros, strict=True):
    if jnp.shape(value) != zero.shape:
      raise ValueError(
        f'{layer} needs initial_carry.{name} {zero.shape}, got {jnp.shape(value)}'
      )
  arrays = zip(carry, zeros, strict=True)
  return type(zeros)(*(jnp.asarray(value, zero.dtype) for value, zero in arrays))


def described(value: Any) -> str:
  """Dtype and shape of an array, the type of anything else."""
  if hasattr(value, 'shape') and hasattr(value, 'dtype'):
    return f'{value.dtype}{value.shape}'
  return f'a {type(value).__name__}'
