"""The loop over time: values and gradients against the NumPy loop, and its controls."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpy_rnn
import pytest

from seqjax import cells, scan

pytestmark = pytest.mark.usefixtures('quick_programs')

KINDS = ('simple_rnn', 'lstm', 'gru', 'gru_reset_before')
B, T, D, H = 2, 5, 3, 4
CASES = {
  'plain': {},
  'dropped': {'mask', 'x_mask', 'h_mask', 'carry'},
  'backwards': {'mask', 'carry', 'reset', 'go_backwards', 'zero_output_for_mask'},
}


def cell_of(kind):
  if kind == 'simple_rnn':
    return cells.simple_rnn(), cells.SimpleRNNParams
  if kind == 'lstm':
    return cells.lstm(), cells.LSTMParams
  return cells.gru(reset_after=kind == 'gru'), cells.GRUParams


def random_case(kind, options, seed=0):
  """(params, x, carry fields, weights of a loss, keyword arguments of both loops)."""
  rng = np.random.default_rng(seed)
  n = numpy_rnn.NUM_GATES[kind]
  params = numpy_rnn.random_params(rng, kind, D, H)
  x = rng.normal(size=(B, T, D)).astype(np.float32)
  num_fields = 2 if kind == 'lstm' else 1
  carry = rng.normal(size=(num_fields, B, H)).astype(np.float32)
  if 'carry' not in options:
    carry = np.zeros_like(carry)
  given = {
    'mask': np.array([[1, 0, 1, 1, 0], [0, 1, 1, 0, 1]], bool),
    'reset': np.array([[0, 1, 0, 1, 0], [1, 0, 0, 0, 1]], bool),
    'x_mask': rng.uniform(size=(n, B, D)).astype(np.float32),
    'h_mask': rng.uniform(size=(n, B, H)).astype(np.float32),
    'go_backwards': True,
    'zero_output_for_mask': True,
  }
  weights = rng.normal(size=(B, T, H)), rng.normal(size=(num_fields, B, H))
  return params, x, carry, weights, {k: given[k] for k in given if k in options}


def recur(cell, params, x, carry, **keywords):
  """`scan.recur` of what is a sequence's and what is an option among the keywords."""
  options = {k: keywords.pop(k) for k in scan.Options._fields if k in keywords}
  sequence = scan.Sequence(x, carry, **keywords)
  return scan.recur(cell, params, sequence, scan.Options(**options))


def loss_of(kind, weights, kwargs, params, x, carry):
  """A weighted sum of everything that `recur` returns, and the outputs."""
  cell, params_type = cell_of(kind)
  last, ys = recur(cell, params_type(*params), x, cell.carry(*carry), **kwargs)
  w_ys, w_last = (jnp.asarray(w, ys.dtype) for w in weights)
  loss = jnp.sum(w_ys * ys) + jnp.sum(w_last * jnp.stack(last))
  return loss, (last, ys)


def reference(kind, weights, kwargs, params, x, carry, xp=np):
  last_h, last_c, ys = numpy_rnn.run(kind, params, x, carry=carry, xp=xp, **kwargs)
  w_ys, w_last = weights
  last = (last_h, last_c)[: len(w_last)]
  loss = xp.sum(w_ys * ys) + sum(xp.sum(w * f) for w, f in zip(w_last, last))  # noqa: B905
  return loss, (last, ys)


@pytest.mark.parametrize(
  ('kind', 'case'),
  [
    # A cell without its masks is in them too: only one plain case is always run.
    pytest.param(k, c, marks=[pytest.mark.slow] * (c != 'dropped' and k != 'lstm'))
    for k in KINDS
    for c in CASES
  ],
)
def test_values_and_gradients_are_those_of_the_numpy_loop(kind, case):
  params, x, carry, weights, kwargs = random_case(kind, CASES[case])
  run = functools.partial(loss_of, kind, weights, kwargs)
  run = jax.jit(jax.value_and_grad(run, argnums=(0, 1, 2), has_aux=True))
  (_, (last, ys)), got = jax.device_get(run(params, x, carry))

  _, (want_last, want_ys) = reference(kind, weights, kwargs, params, x, carry)
  np.testing.assert_allclose(ys, want_ys, rtol=2e-5, atol=2e-6)
  np.testing.assert_allclose(np.stack(last), want_last, rtol=2e-5, atol=2e-6)
  want = numpy_rnn.numeric_gradient(
    lambda *a: reference(kind, weights, kwargs, a[:3], *a[3:])[0], (*params, x, carry)
  )
  for g, w in zip((*got[0], *got[1:]), want, strict=True):
    np.testing.assert_allclose(g, w, rtol=2e-5, atol=2e-5 * np.abs(w).max())


@pytest.mark.slow
@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('kind', KINDS)
def test_float64_gradients_are_autodiff_of_the_naive_loop(kind, case):
  params, x, carry, weights, kwargs = random_case(kind, CASES[case], seed=1)
  with jax.enable_x64(True):
    arguments = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (params, x, carry))
    results = []
    for run in (loss_of, functools.partial(reference, xp=jnp)):
      run = functools.partial(run, kind, weights, kwargs)
      run = jax.jit(jax.value_and_grad(run, argnums=(0, 1, 2), has_aux=True))
      results.append(jax.tree.leaves(run(*arguments)))
  for got, want in zip(*results, strict=True):
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
  'kind',
  ['lstm', *(pytest.param(k, marks=pytest.mark.slow) for k in KINDS if k != 'lstm')],
)
def test_remat_chunks_equal_the_plain_scan(kind):
  """With a chunk that divides T and one that does not; mask, reset, backwards."""
  params, x, carry, weights, kwargs = random_case(kind, CASES['backwards'])

  @functools.partial(jax.jit, static_argnums=0)
  def run(controls, *arguments):
    loss = functools.partial(loss_of, kind, weights, kwargs | dict(controls))
    return jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(*arguments)

  plain = jax.tree.leaves(run((), params, x, carry))
  for size in (2, 5) if kind == 'gru' else (2,):
    chunked = run((('remat_chunk', size),), params, x, carry)
    for got, want in zip(jax.tree.leaves(chunked), plain, strict=True):
      np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


def temp_bytes(remat_chunk, num_steps):
  """Temporary memory of a compiled gradient of a GRU's last h, in bytes."""
  cell, params_type = cell_of('gru')
  rng = np.random.default_rng(0)
  params = params_type(*numpy_rnn.random_params(rng, 'gru', 1, 32))

  def loss(params, x):
    carry = cells.zero_carry(cell, (8, 32))
    last, _ = recur(cell, params, x, carry, remat_chunk=remat_chunk)
    return jnp.sum(last.h)

  x = jax.ShapeDtypeStruct((8, num_steps, 1), jnp.float32)
  compiled = jax.jit(jax.grad(loss)).lower(params, x).compile()
  return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_remat_memory_grows_as_the_square_root_of_the_steps():
  """O(T / k + k): at k = sqrt(T) four times the steps take twice the memory."""
  plain, chunked = temp_bytes(None, 4096), temp_bytes(64, 4096)
  assert chunked < plain / 10

  # x itself, of one feature, is held twice on the way in; it is O(T) and no state.
  def state(k, T):
    return temp_bytes(k, T) - 2 * 4 * 8 * T

  assert state(64, 4096) < 2.5 * state(32, 1024)


def test_bptt_stops_gradients_and_not_values():
  """Gradients are those of pieces run one after the other on a constant carry."""
  params, x, carry, weights, _ = random_case('lstm', {'carry'})
  cell, params_type = cell_of('lstm')
  w_ys = jnp.asarray(weights[0], jnp.float32)

  def pieces(params, x, carry):
    state, ys = cell.carry(*carry), []
    for start in range(0, T, 2):
      state = jax.lax.stop_gradient(state) if start else state
      state, y = recur(cell, params_type(*params), x[:, start : start + 2], state)
      ys.append(y)
    return jnp.sum(w_ys * jnp.concatenate(ys, axis=1))

  def truncated(params, x, carry, steps=2, chunk=None):
    _, ys = recur(
      cell,
      params_type(*params),
      x,
      cell.carry(*carry),
      bptt_steps=steps,
      remat_chunk=chunk,
    )
    return jnp.sum(w_ys * ys)

  def run(loss, **kwargs):
    loss = functools.partial(loss, **kwargs)
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(params, x, carry)

  want = run(pieces)
  got = run(truncated, chunk=3)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), got, want
  )
  whole = run(truncated, steps=T)
  np.testing.assert_allclose(whole[0], want[0], rtol=1e-6)
  assert np.abs(whole[1][0][0] - want[1][0][0]).max() > 1e-3


@pytest.mark.parametrize('name', ['bptt_steps', 'remat_chunk'])
def test_a_length_less_than_one_is_refused(name):
  params, x, carry, weights, _ = random_case('lstm', {})
  with pytest.raises(ValueError, match=f'{name} must be at least 1, got 0'):
    loss_of('lstm', weights, {name: 0}, params, x, carry)


def test_each_step_gets_a_key_of_its_own():
  def step(carry, x, key):
    return carry._replace(h=carry.h + jax.random.uniform(key, x.shape))

  zero = cells.SimpleRNNCarry(jnp.zeros((2, 3)))
  key = jax.random.key(5)
  run = functools.partial(scan.scan_time, step, zero, jnp.zeros((2, 4, 3)), key=key)
  _, ys = jax.jit(run)()
  steps = np.diff(np.asarray(ys), axis=1)
  assert len(np.unique(steps)) == steps.size
  # The same draws, chunked or not: a rematerialised pass is the same pass.
  _, chunked = jax.jit(functools.partial(run, remat_chunk=3))()
  np.testing.assert_array_equal(chunked, ys)
