"""Bits come back where they should; the last steps and the best stay."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from saves import assert_restored, bits, files_of, make_state, save_steps, saved_steps

from seqjax.types import InputError
from seqjax.workdir import integrity
from seqjax.workdir.checkpoint import Checkpoints, best_params


def test_optimiser_state_comes_back_bit_for_bit(tmp_path):
  rng = np.random.default_rng(0)
  params = {'kernel': rng.standard_normal((6, 4)), 'bias': -np.zeros(4)}
  params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), params)
  rate = optax.linear_schedule(0.1, 0.01, 5)
  tx = optax.chain(
    optax.clip_by_global_norm(1.0), optax.rmsprop(rate), optax.adam(rate)
  )
  _, state = jax.jit(lambda params: tx.update(params, tx.init(params)))(params)
  progress = {
    'epoch': 2,
    'loss': 0.1 + 0.2,
    'history': [1e-45, float('inf')],
    'n': None,
  }
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(3, {'params': params, 'opt': state}, progress)
    template = jax.tree.map(jnp.zeros_like, {'params': params, 'opt': state})
    restored = checkpoints.restore(template)
  assert restored.step == 3
  assert restored.progress == progress
  assert bits(restored.state) == bits({'params': params, 'opt': state})
  assert jax.tree.structure(restored.state) == jax.tree.structure(template)


def test_extreme_bits_come_back(tmp_path):
  patterns = [0x7FC00001, 0xFFC12345, 0x7F800001, 0x80000000, 0, 1, 0x7F800000]
  state = {
    'nan': np.array(patterns, np.uint32).view(np.float32),
    'minus zero': jnp.full((9,), -0.0),  # equals the fill value that writers skip
    'zero': jnp.zeros((4, 2)),
    'ints': np.array([-(2**63), 2**63 - 1]),
    'x/y.z%2F é': np.array([True, False]),
    'big endian': np.arange(5, dtype='>i4'),
    'fortran': np.asfortranarray(np.arange(6.0).reshape(2, 3)),
  }
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(0, state, {})
    restored = checkpoints.restore(state).state
  for name, value in state.items():
    native = np.asarray(value).astype(np.asarray(value).dtype.newbyteorder('='))
    assert np.asarray(restored[name]).tobytes() == native.tobytes(), name
    assert restored[name].dtype == native.dtype


def test_leaves_come_back_as_the_kind_of_the_template(tmp_path):
  state = make_state(4)
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(4, state, {'step': 4})
    abstract = jax.eval_shape(lambda: state['params'])
    restored = checkpoints.restore({**state, 'params': abstract}).state
  kinds = [type(x) for x in restored['numbers']]
  assert kinds == [int, float, bool, np.float32]
  assert restored['nothing'][:2] == (None, optax.EmptyState())
  assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(restored['params']))
  assert bits(restored) == bits(state)
  assert not restored['params']['kernel'].committed


def test_nothing_saved_and_nothing_to_save(tmp_path):
  with Checkpoints(tmp_path / 'new' / 'folder') as checkpoints:
    assert checkpoints.restore(make_state(1)) is None
    assert checkpoints.restore_best(make_state(1)) is None
    assert checkpoints.rejected == []
    checkpoints.save(1, {}, {'only': 'progress'})
    assert checkpoints.restore({}) == (1, {}, {'only': 'progress'})


def _shardings():
  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  return {
    'one': jax.sharding.SingleDeviceSharding(jax.devices()[3]),
    'copies': NamedSharding(mesh, PartitionSpec()),
    'parts': NamedSharding(mesh, PartitionSpec('data')),
  }


@pytest.mark.parametrize(
  ('source', 'target'), [('one', 'copies'), ('copies', 'one'), ('parts', 'one')]
)
def test_one_device_and_eight_read_each_other(tmp_path, source, target):
  x = np.random.default_rng(1).standard_normal((16, 3)).astype(np.float32)
  state = jax.device_put({'x': x}, _shardings()[source])
  template = jax.device_put({'x': np.zeros_like(x)}, _shardings()[target])
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, state, {})
    restored = checkpoints.restore(template).state['x']
  assert restored.sharding == _shardings()[target]
  assert restored.committed
  np.testing.assert_array_equal(restored, x)


@pytest.mark.parametrize('where', ['one', 'copies'])
def test_what_is_saved_or_restored_may_be_donated_at_once(tmp_path, where):
  sharding = _shardings()[where]
  x = np.random.default_rng(2).standard_normal((256, 64)).astype(np.float32)
  step = jax.jit(lambda t: jax.tree.map(lambda v: v * 2, t), donate_argnums=0)
  state = step(jax.device_put({'x': x / 2}, sharding))
  plain = {'counter': np.zeros(3)}
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, {**state, **plain}, {})
    plain['counter'] += 1
    state = step(state)
    restored = checkpoints.restore({**state, 'counter': np.ones(3)}).state
    np.testing.assert_array_equal(restored['counter'], 0)
    restored = {'x': restored['x']}
    np.testing.assert_array_equal(restored['x'], x)
    addresses = {
      s.data.unsafe_buffer_pointer() for s in restored['x'].addressable_shards
    }
    assert len(addresses) == sharding.num_devices  # no two replicas share memory
    for _ in range(3):
      restored = step(restored)
    np.testing.assert_array_equal(restored['x'], x * 8)


def test_saving_does_not_wait_for_the_disk(tmp_path, monkeypatch):
  commit, may_go_on = integrity.commit, threading.Event()

  def slow_commit(*args):
    may_go_on.wait(10)
    commit(*args)

  monkeypatch.setattr(integrity, 'commit', slow_commit)
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, make_state(1), {'step': 1})
    assert checkpoints.folders() == []
    may_go_on.set()
    checkpoints.wait()
    assert saved_steps(checkpoints) == [1]


def test_the_last_ones_and_the_best_are_kept(tmp_path):
  with Checkpoints(tmp_path, keep=2) as checkpoints:
    for step, is_best in enumerate([True, False, True, False, False, False]):
      checkpoints.save(step, make_state(step), {'step': step}, best=is_best)
    checkpoints.wait()
    assert saved_steps(checkpoints) == [2, 4, 5]
    assert_restored(checkpoints.restore(make_state(0)), 5)
    assert_restored(checkpoints.restore_best(make_state(0)), 2)
  with Checkpoints(tmp_path, keep=2) as checkpoints:  # a new process knows the best too
    assert_restored(checkpoints.restore_best(make_state(0)), 2)
    checkpoints.save(6, make_state(6), {'step': 6})
    checkpoints.wait()
    assert saved_steps(checkpoints) == [2, 5, 6]
    checkpoints.save(7, make_state(7), {'step': 7}, best=True)
    checkpoints.wait()
    assert saved_steps(checkpoints) == [6, 7]
    assert_restored(checkpoints.restore_best(make_state(0)), 7)


def test_a_step_saved_again_replaces_a_damaged_one(tmp_path):
  save_steps(tmp_path, [1, 2, 3], best=[3], keep=3)
  with Checkpoints(tmp_path, keep=3) as checkpoints:
    files_of(checkpoints.folders()[-1] / 'state')[0].unlink()
    assert_restored(checkpoints.restore(make_state(0)), 2)
    assert checkpoints.restore_best(make_state(0)) is None
    assert 'step3' in checkpoints.rejected[0]
    checkpoints.save(3, make_state(3), {'step': 3}, best=True)
    checkpoints.wait()
    assert saved_steps(checkpoints) == [
      1,
      2,
      3,
    ]  # the damaged one went, no good one did
    assert_restored(checkpoints.restore(make_state(0)), 3)
    assert_restored(checkpoints.restore_best(make_state(0)), 3)
    assert checkpoints.rejected == []


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (
      {'kernel': jnp.zeros((5, 3))},
      r'leaf params/kernel is float32\[3, 5\] in the checkpoint, float32\[5, 3\] in',
    ),
    (
      {'kernel': jnp.zeros((3, 5), jnp.bfloat16)},
      r'params/kernel is float32\[3, 5\] in the checkpoint, bfloat16\[3, 5\] in this',
    ),
    ({'new': 1.0}, r'leaf params/new is missing in the checkpoint, float64\[\] in'),
    (
      {'odd': None},
      r'params/odd is float32\[3, 4\] in the checkpoint, missing in this',
    ),
    ({'odd': None, 'kernel': 2, 'half': 3}, r'in this run \(and 2 more leaves\)$'),
  ],
)
def test_another_model_is_refused_by_the_name_of_the_leaf(tmp_path, change, message):
  save_steps(tmp_path, [1, 2])
  template = make_state(0)
  template['params'] |= change
  with Checkpoints(tmp_path) as checkpoints:
    with pytest.raises(InputError, match=message) as caught:
      checkpoints.restore(template)
    assert str(caught.value).startswith(f'{tmp_path}/000002-step2: ')
    assert '\n' not in str(caught.value)
    assert checkpoints.rejected == []


def test_best_params_are_those_of_the_best_intact_save(tmp_path, monkeypatch):
  save_steps(tmp_path / 'checkpoints', [1, 2, 3], best=[1, 2], keep=3)
  params = jax.eval_shape(lambda: make_state(0)['params'])
  monkeypatch.chdir(tmp_path.parent)
  found = best_params(tmp_path.name, params)  # relative, and while a run holds it
  assert bits(found) == bits(make_state(2)['params'])
  for step, left in ((2, 1), (1, None)):
    folder = next((tmp_path / 'checkpoints').glob(f'*-step{step}'))
    files_of(folder / 'state')[0].unlink()
    if left:
      assert bits(best_params(tmp_path, params)) == bits(make_state(left)['params'])
  refused = r'no intact checkpoint.* \(000002-step2: file .*; 000001-step1: file '
  with pytest.raises(InputError, match=refused):
    best_params(tmp_path, params)
  with pytest.raises(InputError, match=r'no intact checkpoint of a best epoch$'):
    best_params(tmp_path / 'none', params)


def test_best_params_of_another_model_are_refused(tmp_path):
  save_steps(tmp_path / 'checkpoints', [1], best=[1])
  params = make_state(0)['params'] | {'new': 1.0}
  with pytest.raises(InputError, match=r'leaf params/new is missing in the checkpoint'):
    best_params(tmp_path, params)
