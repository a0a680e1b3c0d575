"""The leaves of a tree by path: fetched to the host, checksummed, compared, placed.

A path is such as `params/LSTM_0/kernel`. Two trees with the same paths and leaves are
the same to this file, whatever containers hold them.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.types import PyTree


def digest(tree: PyTree) -> str:
  """Returns one SHA-256, in hex, for all leaves of `tree`.

  It depends on the paths of the leaves, their dtypes, shapes and bits (taken as
  little endian), not on the devices they live on nor on the kinds of containers.
  """
  total = hashlib.sha256()
  for path, value in sorted(leaf_digests(tree).items()):
    total.update(f'{path}\n{value}\n'.encode())
  return total.hexdigest()


def leaf_digests(tree: PyTree) -> dict[str, str]:
  """Returns the SHA-256, in hex, of each leaf's dtype, shape and bits, by path.

  Raises:
    TypeError: a leaf is no array of numbers.
    ValueError: two leaves have the same path.
  """
  return {path: array_digest(value) for path, value in fetch(tree).items()}


def array_digest(value: np.ndarray) -> str:
  """Returns the SHA-256, in hex, of one array's dtype, shape and bits."""
  total = hashlib.sha256(f'{describe(value)}\n'.encode())
  if sys.byteorder == 'big':
    value = value.byteswap()
  total.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
  return total.hexdigest()


def describe(leaf: Any) -> str:
  """Returns dtype and shape of a leaf, as 'float32[3, 4]'."""
  if not hasattr(leaf, 'dtype'):
    leaf = np.asarray(leaf)
  return f'{leaf.dtype.name}{list(leaf.shape)}'


def described(kind: str) -> jax.ShapeDtypeStruct:
  """Returns the shape and dtype that `describe` put into words."""
  dtype, _, axes = kind.partition('[')
  return jax.ShapeDtypeStruct(tuple(json.loads(f'[{axes}')), np.dtype(dtype))


def by_path(tree: PyTree) -> dict[str, Any]:
  """Returns the leaves of `tree` by path, in the order of the tree.

  Raises:
    ValueError: two leaves have the same path.
  """
  leaves: dict[str, Any] = {}
  for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
    path = jax.tree_util.keystr(keys, simple=True, separator='/') or '.'
    if path in leaves:
      raise ValueError(f'two leaves of the tree have the same path {path}')
    leaves[path] = leaf
  return leaves


def fetch(tree: PyTree) -> dict[str, np.ndarray]:
  """Returns the leaves of `tree` as NumPy arrays in native byte order, by path.

  On the CPU these may be views of JAX's own memory: copy before the next donation.

  Raises:
    TypeError: a leaf is no array of numbers.
    ValueError: two leaves have the same path.
  """
  leaves = by_path(tree)
  for path, leaf in leaves.items():
    # Asked before fetching: NumPy has no type for JAX's keys, and cannot say so.
    dtype = leaf.dtype if hasattr(leaf, 'dtype') else np.asarray(leaf).dtype
    if not any(jax.dtypes.issubdtype(dtype, kind) for kind in (np.number, np.bool_)):
      raise TypeError(f'leaf {path} must be an array of numbers, got {dtype}')
  fetched = jax.device_get(list(leaves.values()))  # all at once: the copies overlap
  arrays = {}
  for path, leaf in zip(leaves, fetched, strict=True):
    value = np.asarray(leaf)
    arrays[path] = value.astype(value.dtype.newbyteorder('='), copy=False)
  return arrays


def mismatches(saved: dict[str, str], expected: dict[str, Any]) -> str:
  """Compares descriptions with leaves, by path.

  Returns:
    What differs in the first such leaf, and how many more there are; '' if none.
  """
  kinds = {path: describe(leaf) for path, leaf in expected.items()}
  wrong = [
    f'leaf {path} is {saved.get(path, "missing")} in the checkpoint, '
    f'{kinds.get(path, "missing")} in this run'
    for path in dict.fromkeys([*kinds, *saved])
    if saved.get(path) != kinds.get(path)
  ]
  others = f' (and {len(wrong) - 1} more leaves)' if wrong[1:] else ''
  return wrong[0] + others if wrong else ''


def put_like(value: np.ndarray, like: Any) -> Any:
  """Returns `value` as the kind of leaf that `like` is, and where it is.

  Each device gets memory of its own, as the next step will donate it: replicas on the
  CPU that jax.device_put or make_array_from_callback make at once may share the NumPy
  array's, where it happens to be aligned, whatever may_alias says (jax 0.10.2).
  """
  if isinstance(like, np.generic):
    return value[()]
  if isinstance(like, (bool, int, float, complex)):
    return type(like)(value.item())
  if isinstance(like, np.ndarray):
    return value.copy()
  sharding = getattr(like, 'sharding', None)
  if sharding is None or not getattr(like, 'committed', True):
    return jnp.array(value)
  parts = [
    jax.device_put(np.array(value[index]), device)
    for device, index in sharding.addressable_devices_indices_map(value.shape).items()
  ]
  return jax.make_array_from_single_device_arrays(value.shape, sharding, parts)
