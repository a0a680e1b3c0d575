"""Digests see every bit and nothing else; leaves keep their names."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from seqjax.workdir import leaves
from seqjax.workdir.leaves import digest, leaf_digests


def test_digest_of_a_leaf_by_hand():
  value = np.array([[1.0, -2.0, 0.5]], np.float32)
  by_hand = hashlib.sha256(
    b'float32[1, 3]\n' + bytes.fromhex('0000803f000000c00000003f')
  )
  assert leaf_digests({'a': {'b': [value]}}) == {'a/b/0': by_hand.hexdigest()}
  whole = hashlib.sha256(f'a/b/0\n{by_hand.hexdigest()}\n'.encode())
  assert digest({'a': {'b': [value]}}) == whole.hexdigest()


def test_digest_sees_bits_dtype_shape_and_path():
  base = {'w': np.zeros((2, 3), np.float32), 'b': np.ones(3, np.float32)}
  negative = base['w'].copy()
  negative[1, 2] = -0.0
  others = [
    {**base, 'w': negative},
    {**base, 'w': base['w'].T},
    {**base, 'w': base['w'].reshape(6)},
    {**base, 'w': base['w'].view(np.int32)},
    {**base, 'w': base['w'].astype(jnp.bfloat16)},
    {'w': base['w'], 'c': base['b']},
    {'w': base['w']},
    {'w': base['b'], 'b': base['w']},
  ]
  assert len({digest(tree) for tree in [base, *others]}) == len(others) + 1


def test_digest_ignores_device_container_order_and_memory_layout():
  x = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
  count = np.zeros((), np.int32)
  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  expected = digest({'count': count, 'mu': x, 'nu': -x})
  split = jax.device_put(x, NamedSharding(mesh, PartitionSpec('data')))
  for same in (
    {'nu': -x, 'mu': np.asfortranarray(x), 'count': count},
    optax.ScaleByAdamState(count=jnp.asarray(count), mu=jnp.asarray(x), nu=-split),
    {'count': count, 'mu': x.astype('>f4'), 'nu': (-x)[::-1][::-1], 'none': None},
  ):
    assert digest(same) == expected


@pytest.mark.parametrize(
  'dtype', ['bool', 'int8', 'uint16', 'float16', 'bfloat16', 'float32', 'complex64']
)
def test_digest_sees_each_bit_of_every_dtype(dtype):
  value = np.arange(1, 4).astype(jnp.dtype(dtype))
  found = {digest(value)}
  for i in range(value.nbytes * 8 if dtype != 'bool' else 1):
    raw = bytearray(value.tobytes())
    raw[i // 8] ^= 1 << i % 8
    found.add(digest(np.frombuffer(bytes(raw), value.dtype)))
  assert len(found) == 1 + (value.nbytes * 8 if dtype != 'bool' else 1)


def test_paths_are_those_of_the_tree_in_its_order():
  tree = {'opt': (optax.TraceState(trace={'w': 1}), None), 'a/b': 2}
  assert leaves.by_path(tree) == {'a/b': 2, 'opt/0/trace/w': 1}
  assert leaves.by_path(3) == {'.': 3}
  with pytest.raises(ValueError, match='two leaves of the tree have the same path a/b'):
    leaves.by_path({'a/b': 1, 'a': {'b': 2}})


@pytest.mark.parametrize('leaf', ['text', object(), np.array('text'), 2**70])
def test_what_is_no_number_is_refused_by_path(leaf):
  with pytest.raises(TypeError, match='leaf a/1 must be an array of numbers, got'):
    leaf_digests({'a': [1, leaf]})


def test_a_typed_key_is_refused_by_path():
  with pytest.raises(TypeError, match=r'leaf rng must be .*, got key<fry>'):
    digest({'rng': jax.random.key(0)})


def test_mismatches_name_the_first_leaf_and_count_the_others():
  wanted = {'w': np.zeros((2, 3), np.float32), 'new': 1}
  assert leaves.mismatches({'w': 'float32[2, 3]', 'new': 'int64[]'}, wanted) == ''
  assert leaves.mismatches({'w': 'float32[3, 2]', 'old': 'int32[]'}, wanted) == (
    'leaf w is float32[3, 2] in the checkpoint, float32[2, 3] in this run '
    '(and 2 more leaves)'
  )
