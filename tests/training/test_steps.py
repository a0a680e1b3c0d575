"""The jitted steps against the same step written out by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import seqjax as sj
from seqjax.cluster import mesh as mesh_lib
from seqjax.data.batches import Resident
from seqjax.training import losses, optim, steps
from seqjax.training.state import init_state
from seqjax.types import Batch, InputError

pytestmark = pytest.mark.usefixtures('quick_programs')

METRICS = {'accuracy': losses.binary_accuracy}


_ONE_OR_FOUR = [1, pytest.param(4, marks=pytest.mark.slow)]


def _setup(num_devices, dropout=0.0, **how):
  encoder = sj.SimpleRNN(5, dropout=dropout, recurrent_dropout=dropout)
  model = sj.SequenceClassifier(11, 3, encoder)
  rng = np.random.default_rng(0)
  x = rng.integers(0, 11, (16, 6)).astype(np.int32)
  weight = np.ones(16, np.float32)
  weight[13:] = 0
  batch = Batch(x, rng.integers(0, 2, 16).astype(np.float32), weight)
  tx = optim.make_optimizer('rmsprop', 1e-2)
  mesh = mesh_lib.make_mesh(num_devices, 16)
  state = init_state(model, tx, jax.random.key(1), x)
  state = jax.device_put(state, mesh_lib.replicated(mesh))
  step = steps.make_train_step(model, losses.binary_xent, METRICS, tx, mesh, **how)
  return model, tx, mesh, state, batch, step


@pytest.mark.parametrize('num_devices', _ONE_OR_FOUR)
def test_train_step_is_the_mean_gradient_of_the_rows_that_count(num_devices):
  model, tx, mesh, state, batch, step = _setup(num_devices)

  def mean_loss(params):  # only the 13 rows with weight
    logits = model.apply({'params': params}, batch.x[:13], train=False)
    y = batch.y[:13]
    p = jax.nn.sigmoid(logits)
    return -jnp.mean(y * jnp.log(p) + (1 - y) * jnp.log(1 - p)), logits

  (value, logits), grads = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
  updates, _ = tx.update(grads, state.opt_state, state.params)
  expected = optax.apply_updates(state.params, updates)
  new, sums = step(state, mesh_lib.put_batch(batch, mesh), jax.random.key(2))
  assert int(new.step) == 1
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    new.params,
    expected,
  )
  assert float(sums['weight']) == 13
  np.testing.assert_allclose(sums['loss'] / 13, value, rtol=1e-5)
  np.testing.assert_allclose(sums['grad_norm'], optax.tree.norm(grads), rtol=1e-5)
  assert int(sums['accuracy']) == int(np.sum((logits > 0) == (batch.y[:13] > 0.5)))


@pytest.mark.slow
def test_dropout_follows_from_key_and_step():
  results = []
  for key, first_step in ((7, 0), (7, 0), (8, 0), (7, 1)):
    *_, mesh, state, batch, step = _setup(2, dropout=0.5)
    state = state._replace(step=state.step + first_step)
    _, sums = step(state, mesh_lib.put_batch(batch, mesh), jax.random.key(key))
    results.append(float(sums['loss']))
  assert results[0] == results[1]
  assert len(set(results)) == 3


def test_filler_rows_may_hold_anything():
  model, _, mesh, state, batch, _ = _setup(2)
  evaluate = steps.make_eval_step(model, losses.binary_xent, METRICS, mesh)
  known, _ = evaluate(state.params, (), mesh_lib.put_batch(batch, mesh))
  y = batch.y.copy()
  y[13:] = np.nan
  placed = mesh_lib.put_batch(batch._replace(y=y), mesh)
  found, _ = evaluate(state.params, (), placed)
  assert {k: float(v) for k, v in found.items()} == {
    k: float(v) for k, v in known.items()
  }


@pytest.mark.parametrize('num_devices', _ONE_OR_FOUR)
def test_indices_into_resident_arrays_are_as_good_as_the_examples(num_devices):
  model, tx, mesh, state, batch, step = _setup(num_devices)
  start = jax.device_get(state)
  order = np.random.default_rng(1).permutation(16).astype(np.int32)
  resident = (np.empty_like(batch.x), np.empty_like(batch.y))
  resident[0][order], resident[1][order] = batch.x, batch.y
  indices = mesh_lib.put_batch(Batch(order, order, batch.weight), mesh)

  def gather(arrays, rows):
    return rows._replace(x=arrays[0][rows.x], y=arrays[1][rows.y])

  placed = Resident(jax.device_put(resident, mesh_lib.replicated(mesh)), gather)
  gathering = steps.make_train_step(
    model, losses.binary_xent, METRICS, tx, mesh, placed
  )
  key = jax.random.key(2)
  known, known_sums = step(state, mesh_lib.put_batch(batch, mesh), key)
  state = jax.device_put(start, mesh_lib.replicated(mesh))
  found, sums = gathering(state, indices, key)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
    (found, sums),
    (known, known_sums),
  )
  arguments = (losses.binary_xent, METRICS, mesh)
  evaluate = steps.make_eval_step(model, *arguments, placed)
  plain = steps.make_eval_step(model, *arguments)
  found, _ = evaluate(found.params, (), indices)
  assert float(found['loss']) == pytest.approx(
    float(plain(known.params, (), mesh_lib.put_batch(batch, mesh))[0]['loss']),
    rel=1e-6,
  )


def _after_two_steps(num_devices, dropout=0.0, parts=1, pmap=False):
  *_, mesh, state, batch, step = _setup(num_devices, dropout, parts=parts, pmap=pmap)
  for _ in range(2):
    placed = mesh_lib.put_batch(batch, mesh, parts, per_device=pmap)
    state, sums = step(state, placed, jax.random.key(2))
  return state, sums


@pytest.mark.parametrize(
  ('num_devices', 'parts', 'pmap'), [(1, 4, False), (4, 2, False), (4, 2, True)]
)
def test_parts_of_a_batch_and_pmap_give_the_step_of_the_whole(num_devices, parts, pmap):
  # 13 of 16 rows count, so the parts weigh differently: a mean of means would be off.
  whole, whole_sums = _after_two_steps(1)
  state, sums = _after_two_steps(num_devices, parts=parts, pmap=pmap)
  assert sums['weight'] == 13
  for found, wanted in ((state, whole), (sums, whole_sums)):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6), found, wanted
    )
  for leaf in jax.tree.leaves(state):
    assert leaf.sharding.is_fully_replicated
    assert len(leaf.sharding.device_set) == num_devices


@pytest.mark.parametrize(
  ('num_devices', 'how'),
  [
    (1, {}),
    (4, {}),
    (4, {'parts': 2}),
    pytest.param(4, {'pmap': True}, marks=pytest.mark.slow),
    pytest.param(4, {'pmap': True, 'parts': 2}, marks=pytest.mark.slow),
  ],
)
def test_steps_sent_together_are_the_steps_one_by_one(num_devices, how):
  *_, mesh, state, batch, step = _setup(num_devices, dropout=0.5, **how)
  *_, three = _setup(num_devices, dropout=0.5, together=3, **how)
  start, key = jax.device_get(state), jax.random.key(2)

  class Feed:
    def batch(self, step):
      return Batch(*(np.roll(a, step, 0) for a in batch[:3]))

  def put(*dispatches):
    pmap = how.get('pmap', False)
    parts = how.get('parts', 1)
    return mesh_lib.put_batches(Feed(), dispatches, mesh, parts, per_device=pmap)

  wanted = []
  for placed in put(range(1), range(1, 2), range(2, 3)):
    state, sums = step(state, placed, key)
    wanted.append(sums)
  again = jax.device_put(start, mesh_lib.replicated(mesh))
  (placed,) = put(range(3))
  found, sums = three(again, placed, key)
  assert int(found.step) == 3
  wanted = jax.tree.map(lambda *each: np.stack(each), *wanted)
  for a, b in ((found, state), (sums, wanted)):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6), a, b
    )
  assert len(set(np.asarray(sums['loss']).tolist())) == 3


def test_dispatches_end_at_epochs_and_do_not_depend_on_where_a_run_was_cut():
  def lengths(start):
    found = list(steps.dispatches(start, 19, 7, 3))
    assert found[0].start == start
    assert all(a.stop == b.start for a, b in itertools.pairwise(found))
    assert found[-1] == range(19, 19)
    return [len(ahead) for ahead in found]

  # 0 1 2, 3 4 5, 6 | 7, 8, 9 10 11, 12, 13 | 14, 15 16 17, 18 and the end
  whole = [3, 3, 1, 1, 1, 3, 1, 1, 1, 3, 1, 0]
  assert lengths(0) == whole
  for dispatch, start in enumerate(np.cumsum(whole).tolist()):
    assert lengths(start) == whole[dispatch + 1 :] or start == 19
  assert lengths(4) == [1, 1, 1, *whole[3:]]
  assert [len(ahead) for ahead in steps.dispatches(0, 4, 2, 1)] == [1] * 4 + [0]


def test_most_together_divide_the_log_and_fit_an_epoch():
  found = [steps.most_together(20, number) for number in (1, 3, 7, 19, 20, 157)]
  assert found == [1, 2, 5, 10, 20, 20]


def test_batches_of_several_shapes_are_not_sent_together():
  class Feed:
    def batch(self, step):
      x = np.zeros((4, 3 + step // 4), np.float32)
      return Batch(x, x[:, 0], x[:, 0])

  def lengths(*dispatches):
    put = mesh_lib.put_batches(
      Feed(), dispatches, mesh_lib.make_mesh(1, 4), per_device=False
    )
    return [batch.x.shape[-1] for batch in put]

  assert lengths(range(3, 4), range(4, 5), range(4, 6)) == [3, 4, 4]
  message = 'steps 3 to 4 differ in shape.*`steps_per_dispatch=1`'
  with pytest.raises(InputError, match=message):
    lengths(range(3, 5))


@pytest.mark.slow
def test_each_part_draws_its_own_dropout_by_its_number():
  model, tx, _, state, batch, _ = _setup(1, dropout=0.5)
  key = jax.random.fold_in(jax.random.key(2), 0)

  def mean_loss(params):
    total = 0.0
    for number in range(2):
      rows = slice(8 * number, 8 * number + 8)
      rngs = {'dropout': jax.random.fold_in(key, number)}
      logits = model.apply({'params': params}, batch.x[rows], train=True, rngs=rngs)
      values = losses.binary_xent(logits, batch.y[rows])
      total += jnp.sum(values * batch.weight[rows])
    return total / 13

  updates, _ = tx.update(
    jax.grad(mean_loss)(state.params), state.opt_state, state.params
  )
  expected = optax.apply_updates(state.params, updates)
  for num_devices in (1, 4):  # a row's mask does not depend on how many there are
    *_, mesh, state, batch, step = _setup(num_devices, dropout=0.5, parts=2)
    new, _ = step(state, mesh_lib.put_batch(batch, mesh, 2), jax.random.key(2))
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6),
      new.params,
      expected,
    )
