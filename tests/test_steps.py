"""The jitted steps against the same step written out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import seqjax as sj
from seqjax import losses, optim, parallel, steps
from seqjax.state import init_state
from seqjax.types import Batch

METRICS = {'accuracy': losses.binary_accuracy}


def _setup(num_devices, dropout=0.0):
  encoder = sj.SimpleRNN(5, dropout=dropout, recurrent_dropout=dropout)
  model = sj.SequenceClassifier(11, 3, encoder)
  rng = np.random.default_rng(0)
  x = rng.integers(0, 11, (16, 6)).astype(np.int32)
  weight = np.ones(16, np.float32)
  weight[13:] = 0
  batch = Batch(x, rng.integers(0, 2, 16).astype(np.float32), weight)
  tx = optim.make_optimizer('rmsprop', 1e-2)
  mesh = parallel.make_mesh(num_devices, 16)
  state = init_state(model, tx, jax.random.key(1), x)
  state = jax.device_put(state, parallel.replicated(mesh))
  step = steps.make_train_step(model, losses.binary_xent, METRICS, tx, mesh)
  return model, tx, mesh, state, batch, step


@pytest.mark.parametrize('num_devices', [1, 4])
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
  new, sums = step(state, parallel.put_batch(batch, mesh), jax.random.key(2))
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
    _, sums = step(state, parallel.put_batch(batch, mesh), jax.random.key(key))
    results.append(float(sums['loss']))
  assert results[0] == results[1]
  assert len(set(results)) == 3


def test_filler_rows_may_hold_anything():
  model, _, mesh, state, batch, _ = _setup(2)
  evaluate = steps.make_eval_step(model, losses.binary_xent, METRICS, mesh)
  known = evaluate(state.params, parallel.put_batch(batch, mesh))
  y = batch.y.copy()
  y[13:] = np.nan
  found = evaluate(state.params, parallel.put_batch(batch._replace(y=y), mesh))
  assert {k: float(v) for k, v in found.items()} == {
    k: float(v) for k, v in known.items()
  }


@pytest.mark.parametrize('num_devices', [1, 4])
def test_indices_into_resident_arrays_are_as_good_as_the_examples(num_devices):
  model, tx, mesh, state, batch, step = _setup(num_devices)
  start = jax.device_get(state)
  order = np.random.default_rng(1).permutation(16).astype(np.int32)
  resident = (np.empty_like(batch.x), np.empty_like(batch.y))
  resident[0][order], resident[1][order] = batch.x, batch.y
  indices = parallel.put_batch(Batch(order, order, batch.weight), mesh)

  def gather(arrays, rows):
    return rows._replace(x=arrays[0][rows.x], y=arrays[1][rows.y])

  gathering = steps.make_train_step(
    model, losses.binary_xent, METRICS, tx, mesh, gather
  )
  placed = jax.device_put(resident, parallel.replicated(mesh))
  key = jax.random.key(2)
  known, known_sums = step(state, parallel.put_batch(batch, mesh), key)
  state = jax.device_put(start, parallel.replicated(mesh))
  found, sums = gathering(state, indices, key, placed)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
    (found, sums),
    (known, known_sums),
  )
  arguments = (losses.binary_xent, METRICS, mesh)
  evaluate = steps.make_eval_step(model, *arguments, gather)
  plain = steps.make_eval_step(model, *arguments)
  found = evaluate(found.params, indices, placed)
  assert float(found['loss']) == pytest.approx(
    float(plain(known.params, parallel.put_batch(batch, mesh))['loss']), rel=1e-6
  )
