"""The fast path against the reference path: values and gradients."""

from unittest import mock

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_cases import CELLS, Case, cases, make

from seqjax import fast, scan
from seqjax.fast import plan as plan_lib

# What a test compiles is small and runs once: LLVM's expensive passes don't pay.
_QUICK = {
  'xla_llvm_disable_expensive_passes': True,
  'xla_backend_optimization_level': 0,
}


def _results(recur, case, *, sequences=True, dtype=jnp.float32):
  """Outputs of a run, and gradients of a random function of all of them."""
  cell, params, x, carry, keywords = make(case, dtype)
  if recur is fast.recur:
    keywords['return_sequences'] = sequences

  def loss(params, x, carry):
    out = recur(cell, params, x, carry, **keywords)
    outputs = out if sequences else out[0]
    rng = np.random.default_rng(case.seed + 1)
    weighted = [
      jnp.sum(jnp.sin(y) * jnp.asarray(rng.standard_normal(y.shape), y.dtype))
      for y in jax.tree.leaves(outputs)
    ]
    return sum(weighted), outputs

  def run(*args):
    (_, outputs), grads = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(*args)
    return outputs, grads

  with mock.patch.multiple(plan_lib, CHUNK_BYTES=case.chunk_bytes, FEWEST_STEPS=1):
    return jax.jit(run, compiler_options=_QUICK)(params, x, carry)


def _assert_close(actual, expected, tolerance=1e-5):
  """Equal to `tolerance` of the largest entry of each array."""
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
    assert a.dtype == e.dtype
    a, e = np.asarray(a, np.float64), np.asarray(e, np.float64)
    bound = tolerance * max(1.0, np.abs(e).max())
    np.testing.assert_allclose(a, e, rtol=0, atol=bound)


def _check(case):
  sequences = bool(case.seed % 2)
  _assert_close(
    _results(fast.recur, case, sequences=sequences),
    _results(scan.recur, case, sequences=sequences),
  )


@hypothesis.settings(max_examples=12, deadline=None, derandomize=True)
@hypothesis.given(cases())
def test_equals_the_reference_path(case):
  _check(case)


@pytest.mark.slow
@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(cases())
def test_equals_the_reference_path_300_times(case):
  _check(case)


@pytest.mark.slow
@pytest.mark.parametrize('cell', list(CELLS))
@pytest.mark.parametrize(
  'case',
  [
    Case(T=11, padding='scattered', dropout=0.3, recurrent_dropout=0.4, seed=1),
    Case(T=8, batch=(2, 3), options=('go_backwards',), recurrent_dropout=0.4),
  ],
)
def test_every_cell(cell, case):
  _check(Case(**{**vars(case), 'cell': cell}))


@pytest.mark.parametrize('padding', ['pre', 'post', 'nothing real'])
def test_skipped_chunks_hand_carry_and_cotangents_on(padding):
  # Two real steps of sixteen in chunks of three: most chunks hold no real step.
  case = Case(T=16, chunk_bytes=3 * 4 * 3 * 4 * 5, seed=3)
  real = {'pre': slice(14, 16), 'post': slice(0, 2), 'nothing real': slice(0, 0)}
  mask = np.zeros((3, 16), bool)
  mask[:, real[padding]] = True
  with mock.patch('fast_cases._padding', return_value=jnp.asarray(mask)):
    _check(case)


@pytest.mark.slow
def test_float64_is_exact():
  case = Case(T=9, padding='scattered', recurrent_dropout=0.4)
  with jax.enable_x64(True):
    for cell in CELLS:
      case = Case(**{**vars(case), 'cell': cell})
      _assert_close(
        _results(fast.recur, case, dtype=jnp.float64),
        _results(scan.recur, case, dtype=jnp.float64),
        1e-13,
      )


@pytest.mark.parametrize(
  ('T', 'step_bytes', 'K'),
  [
    (80, 4 * 32 * 32, 80),  # tiny: all of T
    (500, 4 * 128 * 128, 20),  # a divisor near 16
    (100, 4 * 64 * 1024, 10),  # wide: a divisor near the fewest steps
    (499, 4 * 128 * 128, 16),  # a prime: the last chunk is shorter
  ],
)
def test_chunk_length(T, step_bytes, K):
  assert plan_lib.chunk_length(T, step_bytes) == K
