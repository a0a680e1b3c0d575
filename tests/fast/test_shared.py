"""Steps in front that are alike in all rows: run once, with the same values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_cases import Case, make

from seqjax import fast, layers, models, scan
from seqjax.cells import zero_carry
from seqjax.cluster import mesh as mesh_lib
from seqjax.fast import plan as plan_lib
from seqjax.fast.shared import shared_chunks

B, T, V, CHUNK = 3, 11, 7, 2  # five chunks and a half


@pytest.fixture(autouse=True)
def _chunks_of_two(monkeypatch):
  monkeypatch.setattr(plan_lib, 'chunk_length', lambda *_: CHUNK)


def _given(name, shared):
  """(cell, params, ids of which exactly so many are alike in front, embedding)."""
  cell, params, *_ = make(Case(name))
  rng = np.random.default_rng(shared)
  ids = rng.integers(0, V, (B, T))
  ids[:, :shared] = ids[:1, :shared]
  if shared < T:
    ids[0, shared] = (ids[1, shared] + 1) % V
  embedding = rng.standard_normal((V, 4), np.float32)
  return cell, params, jnp.asarray(ids), jnp.asarray(embedding)


def _run(recur, cell, params, ids, embedding, **options):
  carry = options.pop('carry', zero_carry(cell, (len(ids), 5)))
  if recur is scan.recur:
    return recur(cell, params, embedding[ids], carry)
  lookup = fast.Lookup(ids, embedding)
  return recur(cell, params, lookup, carry, same_carry=True, **options)


def _with_gradients(recur, return_sequences, cell, params, ids, embedding):
  def loss(params, embedding):
    options = {} if recur is scan.recur else {'return_sequences': return_sequences}
    last, ys = _run(recur, cell, params, ids, embedding, **options)
    out = (last, ys if return_sequences else None)
    terms = [
      jnp.sin(jnp.arange(1.0, y.size + 1).reshape(y.shape) * y).sum()
      for y in jax.tree.leaves(out)
    ]
    return sum(terms), out

  return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, embedding)


@pytest.mark.slow
@pytest.mark.parametrize('return_sequences', [False, True])
@pytest.mark.parametrize('shared', [0, 1, 5, 6, T])
@pytest.mark.parametrize('name', ['lstm', 'gru', 'gru_reset_before', 'simple_rnn'])
def test_equals_the_reference_path(name, shared, return_sequences):
  given = _given(name, shared)
  got = _with_gradients(fast.recur, return_sequences, *given)
  want = _with_gradients(scan.recur, return_sequences, *given)
  assert jax.tree.structure(got) == jax.tree.structure(want)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * np.abs(b).max())


@pytest.mark.parametrize(('shared', 'chunks'), [(0, 0), (1, 0), (2, 1), (5, 2), (T, 6)])
def test_shared_chunks_are_counted(shared, chunks):
  _, _, ids, _ = _given('lstm', shared)
  plan = plan_lib.Plan(None, T, CHUNK, return_sequences=True, keep_gates=False)
  padded = jnp.pad(ids.T, [(0, plan.padded - T), (0, 0)])
  assert shared_chunks(plan, padded) == chunks


def test_the_carry_of_the_first_row_stands_for_all():
  cell, params, ids, embedding = _given('simple_rnn', 5)
  carry = zero_carry(cell, (B, 5))
  poisoned = carry._replace(h=carry.h.at[1:].set(jnp.nan))
  last, _ = _run(fast.recur, cell, params, ids, embedding, carry=poisoned)
  assert np.isfinite(last.h).all()


@pytest.mark.slow
@pytest.mark.parametrize(
  'keywords',
  [{'mask': np.ones((B, T), bool)}, {'reset': np.zeros((B, T), bool)},
   {'h_mask': np.ones((B, 5), np.float32)}, {'x_mask': np.ones((B, 4), np.float32)}],
)  # fmt: skip
def test_nothing_is_shared_where_something_masks_or_drops(keywords):
  cell, params, ids, embedding = _given('lstm', 6)
  carry = zero_carry(cell, (B, 5))
  poisoned = carry._replace(h=carry.h.at[1:].set(jnp.nan))
  keywords = {name: jnp.asarray(value) for name, value in keywords.items()}
  last, _ = _run(fast.recur, cell, params, ids, embedding, carry=poisoned, **keywords)
  assert np.isnan(last.h[1:]).all()


@pytest.mark.slow
def test_a_layer_shares_unless_it_is_given_a_state(monkeypatch):
  cell, _, ids, embedding = _given('lstm', 6)
  layer, lookup = layers.LSTM(5), fast.Lookup(ids, embedding)
  params = layer.init(jax.random.key(0), lookup, train=False)
  carry = zero_carry(cell, (B, 5))
  carry = carry._replace(h=carry.h.at[1].set(1.0))

  seen = []
  run = fast.recur.__globals__['run']

  def spy(plan, inputs, constants):
    seen.append(plan.shares)
    return run(plan, inputs, constants)

  monkeypatch.setitem(fast.recur.__globals__, 'run', spy)

  def apply(carry):
    return layer.apply(params, lookup, train=False, initial_carry=carry)

  apply(None)
  apply(carry)
  assert seen == [True, False]
  gradient = jax.grad(lambda carry: apply(carry).sum())(carry).h
  assert (np.abs(gradient) > 0).all()  # in every row


@pytest.mark.slow
@pytest.mark.parametrize('go_backwards', [False, True])
@pytest.mark.parametrize('H', [5, 128])  # gates are kept from 128 up
def test_as_a_dense_source_with_kept_gates_and_backwards(H, go_backwards):
  cell, params, *_ = make(Case('lstm', H=H))
  rng = np.random.default_rng(H)
  ids = rng.integers(0, 50, (B, T))
  same = slice(-5, None) if go_backwards else slice(0, 5)
  ids[:, same] = ids[:1, same]
  embedding = jnp.asarray(rng.standard_normal((50, 4), np.float32))  # no table: V > B T

  def loss(share, embedding):
    carry = zero_carry(cell, (B, H))
    options = {'go_backwards': go_backwards, 'return_sequences': False}
    lookup = fast.Lookup(jnp.asarray(ids), embedding)
    last, _ = fast.recur(cell, params, lookup, carry, same_carry=share, **options)
    return (last.h**3).sum()

  got, want = (jax.grad(loss, 1)(share, embedding) for share in (True, False))
  np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


@pytest.mark.slow
@pytest.mark.parametrize('vocab_size', [V, 50])  # a table, and none
def test_a_negative_id_has_no_gradient_in_the_last_row(vocab_size):
  cell, params, ids, _ = _given('lstm', 0)
  ids = (ids % (V - 1)).at[1, 2].set(-1)
  embedding = jnp.ones((vocab_size, 4))

  def loss(recur, embedding):
    x = fast.Lookup(ids, embedding)
    x = x if recur is fast.recur else x.rows()
    return recur(cell, params, x, zero_carry(cell, (B, 5)))[0].h.sum()

  got, want = (
    jax.grad(loss, 1)(recur, embedding) for recur in (fast.recur, scan.recur)
  )
  assert np.isfinite(want[-1]).all()
  np.testing.assert_array_equal(np.isnan(got), np.isnan(want))


@pytest.mark.slow
def test_values_under_vmap_are_those_of_each_batch():
  cell, params, ids, embedding = _given('gru', 6)
  both = jnp.stack([ids, _given('gru', 3)[2]])

  def last(recur, ids):
    return _run(recur, cell, params, ids, embedding)[0].h

  got = jax.vmap(lambda ids: last(fast.recur, ids))(both)
  want = jnp.stack([last(scan.recur, ids) for ids in both])
  np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_gradients_on_two_devices_are_those_of_one():
  ids = np.random.default_rng(0).integers(1, V, (8, T))
  ids[:, :4] = 0
  ids[:4, :8] = 0
  model = models.SequenceClassifier(V, 4, layers.LSTM(5))
  params = model.init(jax.random.key(0), ids, train=False)

  def gradient(num_devices):
    mesh = mesh_lib.make_mesh(num_devices, 8)

    def loss(params):
      with mesh_lib.on(mesh):
        return (model.apply(params, jnp.asarray(ids), train=False) ** 2).sum()

    return jax.jit(jax.grad(loss), in_shardings=mesh_lib.replicated(mesh))(params)

  one, two = (jax.tree.leaves(gradient(n)) for n in (1, 2))
  for a, b in zip(one, two, strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())
